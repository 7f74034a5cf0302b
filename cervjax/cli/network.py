"""Flags of ``cervjax infer`` on weights and how they are run, and what they mean."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cervjax.cli.flags import add_triple, add_tta, positive

if TYPE_CHECKING:
    from cervjax.inference.method import Method

SETTINGS = (
    "mode",
    "window",
    "border",
    "predict_border",
    "tta",
    "levels_rule",
    "batch_size",
    "max_memory_gb",
    "measure_on",
)
"""Flags that are fields of `inference.types.Settings`."""


def add_network(parser: argparse.ArgumentParser) -> None:
    """Which weights, and how the network is run."""
    parser.add_argument(
        "--weights",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="file, work directory or checkpoint (default: the package's own); of "
        "several, an ensemble, the probabilities are averaged",
    )
    parser.add_argument("--landmarks", type=Path, help="of a NiftyNet checkpoint")
    parser.add_argument(
        "--mode", choices=("whole", "sliding_window"), help="default: the weights'"
    )
    for name, default in (("window", (360, 240, 32)), ("border", (8, 8, 8))):
        add_triple(
            parser, f"--{name}", default, "sliding window: voxels (default %(default)s)"
        )
    parser.add_argument(
        "--predict-border",
        action="store_true",
        help="sliding window: also predict the outer border, which NiftyNet leaves 0",
    )
    add_tta(parser, "default: the weights'")
    parser.add_argument(
        "--levels-rule",
        choices=("paper", "none"),
        help="each muscle at its levels of the paper's Table 1, or in its full length; "
        "for weights that find levels (default: the weights')",
    )
    parser.add_argument(
        "--batch-size", type=positive, default=1, help="windows at once (default 1)"
    )
    parser.add_argument("--max-memory-gb", type=float, help="for the network")
    parser.add_argument(
        "--device", choices=("cpu", "gpu", "tpu"), help="default: the best"
    )
    _add_cluster(parser)
    _add_preprocessing(parser)
    _add_tables(parser)


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    """Who does the work."""
    parser.add_argument(
        "--cluster",
        metavar="local|ADDRESS",
        help="workers on all devices of this machine (local), or of a Ray cluster",
    )
    parser.add_argument(
        "--worker-cores",
        type=positive,
        default=4,
        metavar="N",
        help="cores of each worker that has no device of its own (default 4)",
    )


def _add_tables(parser: argparse.ArgumentParser) -> None:
    """What was learnt on labelled scans, for columns beside the measured ones."""
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="calibrated values beside the raw ones",
    )
    parser.add_argument(
        "--intervals",
        type=Path,
        metavar="FILE",
        help="of 'cervjax intervals', for 95%% intervals of these weights (default: "
        "the file beside the weights, NAME.intervals.json, if it is of them)",
    )


def _add_preprocessing(parser: argparse.ArgumentParser) -> None:
    """What else the weights' card has on the network's input."""
    add_triple(
        parser, "--padding", None, "voxels around the scan (default: the weights')"
    )
    parser.add_argument(
        "--padding-mode",
        choices=("minimum", "zero"),
        help="what stands there (default: the weights')",
    )
    parser.add_argument(
        "--keep-last-plane",
        action=argparse.BooleanOptionalAction,
        help="keep a plane that SciPy's zoom may lose",
    )
    parser.add_argument(
        "--skip-fitting-grid",
        action=argparse.BooleanOptionalAction,
        help="no spline where the scan's grid is the network's already "
        "(default: the weights')",
    )


def _check_weights(files: list[Path], landmarks: Path | None) -> None:
    """Raises ValueError for what is no ensemble."""
    if landmarks and len(files) > 1:
        raise ValueError(
            "--landmarks goes with one NiftyNet checkpoint; of an ensemble, convert it "
            "first: cervjax convert"
        )
    for file in files:
        if files.count(file) > 1:
            raise ValueError(f"--weights: {file} is given twice; give each once")


def scans_after_weights(args: argparse.Namespace) -> None:
    """A folder of scans right after ``--weights FILE`` is no member of an ensemble."""
    given = (args.scans, args.input, args.list, args.in_phase, args.water)
    if len(args.weights or ()) < 2 or any(v is not None for v in given):
        return
    last = args.weights[-1]
    folder = last.is_dir() and not (last / "weights.safetensors").is_file()
    if folder or last.suffix.lower() == ".zip":
        *args.weights, args.scans = args.weights


def method_of(args: argparse.Namespace) -> "Method":
    """How scans are segmented and measured.

    Raises:
        ValueError: weights, tables or settings cannot be used.
    """
    from cervjax.inference.ensemble import ensemble
    from cervjax.inference.method import RECIPE_SETTINGS
    from cervjax.measurement.calibration import read_calibration
    from cervjax.measurement.interval_table import read_intervals, table_beside
    from cervjax.model.weights import SHIPPED, load_weights

    files = args.weights or [SHIPPED]
    _check_weights(files, args.landmarks)
    weights = {str(file): load_weights(file, args.landmarks) for file in files}
    calibration = args.calibration and read_calibration(args.calibration)
    given = {name: getattr(args, name) for name in (*RECIPE_SETTINGS, *SETTINGS)}
    method = ensemble(weights, calibration, **given)
    if args.intervals is not None:
        return method.with_intervals(read_intervals(args.intervals), wanted=True)
    return method.with_intervals(table_beside(files[0]) if len(files) == 1 else None)
