"""``cervjax export``: the network as StableHLO with its recipe."""

import argparse
from pathlib import Path

from cervjax.cli.flags import OK, add_triple, add_tta, check_writable

HELP = "write a network as StableHLO, to be run by JAX without cervjax"

EXAMPLES = """\
cervjax export -o model/
cervjax export runs/own -o model/ --size 336 208 48 --platforms cpu"""

_SIZE = (224, 192, 56)  # most necks at 1 x 1 x 3 mm, see `tiling.FRAMES`


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument(
        "weights",
        nargs="?",
        type=Path,
        help="as --weights of infer (default: the package's own)",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="folder for the model"
    )
    add_triple(
        parser,
        "--size",
        _SIZE,
        "voxels that prepared scans have at most, on the network's grid with padding; "
        "grows to a size that infer uses (default %(default)s)",
    )
    add_tta(parser, "default: the weights'")
    parser.add_argument(
        "--platforms",
        nargs="+",
        choices=("cpu", "cuda", "rocm", "tpu"),
        default=("cpu", "cuda", "tpu"),
        help="that the program is for (default: cpu cuda tpu)",
    )


def run(args: argparse.Namespace) -> int:
    """Exports a network.

    Raises:
        ValueError: no such weights, or they are not for whole volumes.
    """
    from cervjax.inference.exported import PROGRAM, RECIPE, STABLEHLO, export_network
    from cervjax.io.written import check_ours
    from cervjax.model.weights import SHIPPED, load_weights

    weights = load_weights(args.weights or SHIPPED)
    check_writable(args.output)
    check_ours(args.output, (PROGRAM, STABLEHLO, RECIPE))
    model = export_network(weights, args.size, tta=args.tta, platforms=args.platforms)
    model.save(args.output)
    size = "x".join(map(str, model.recipe["input"]["shape"][1:4]))
    print(f"weights {weights.card.name}, sha256 {weights.sha256}")
    print(weights.card.limits)
    print(
        f"{PROGRAM}, {STABLEHLO} and {RECIPE} in {args.output}, for volumes of up to "
        f"{size} voxels"
    )
    return OK
