"""``cervjax debias``: makes volumes right on average, on labelled scans."""

import argparse
from dataclasses import replace
from pathlib import Path

from cervjax.anatomy import MUSCLES
from cervjax.cli.flags import OK, add_tta, check_target, positive, use_device

HELP = "make volumes right on average, on labelled scans"

EXAMPLES = """\
cervjax debias weights.safetensors labelled/ debiased.safetensors
cervjax debias weights.safetensors a/ b/ debiased.safetensors --muscle-ratio LC=0.97"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("source", type=Path, help="as --weights of infer")
    parser.add_argument(
        "scans",
        type=Path,
        nargs="+",
        help="folders of labelled scans, other than a later evaluation's",
    )
    parser.add_argument("target", type=Path, help="FILE.safetensors")
    parser.add_argument("--number", type=positive, help="so many scans of each")
    parser.add_argument(
        "--volume-ratio",
        type=float,
        default=1.0,
        metavar="RATIO",
        help="to reach (default %(default)s)",
    )
    parser.add_argument(
        "--muscle-ratio",
        type=_muscle_ratio,
        nargs="+",
        default=(),
        metavar="MUSCLE=RATIO",
        help="another one for a muscle, as LC=0.97",
    )
    add_tta(parser, "then and later")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the target if it is there"
    )


def run(args: argparse.Namespace) -> int:
    """Shifts the last bias so that volumes are right on labelled scans."""
    from cervjax.io.labels import find_labelled
    from cervjax.model.weights import load_weights, save_weights
    from cervjax.training.logit_bias import fit_logit_bias

    check_target(args.target, overwrite=args.overwrite)
    use_device(None)
    weights = load_weights(args.source)
    card = weights.card
    if args.tta:
        card = replace(card, tta=args.tta)
    weights = weights._replace(card=card)
    scans = []
    for folder in args.scans:
        found, problems = find_labelled(folder)
        for problem in problems:
            print(f"left out: {problem.scan}: {problem.message}; {problem.hint}")
        scans += found[: args.number]
    names = ", ".join(folder.name for folder in args.scans)
    print(f"{len(scans)} labelled scan(s) of {names}", flush=True)
    of_muscle = dict(args.muscle_ratio)
    pairs = [m.abbreviation for m in MUSCLES[::2]]
    target = [of_muscle.get(name, args.volume_ratio) for name in pairs]
    weights, shift, ratio = fit_logit_bias(weights, scans, target=target)
    but = "".join(f", {name} to {value:g}" for name, value in of_muscle.items())
    note = f"; volumes debiased to {args.volume_ratio:g}{but}, on {len(scans)} "
    note += f"scan(s) of {names}"
    card = replace(weights.card, source=weights.card.source + note)
    digest = save_weights(args.target, weights.variables, card)
    print(f"shifts {shift.round(2)}, volume ratios {ratio.round(3)}")
    print(f"{args.target}: sha256 {digest}")
    return OK


def _muscle_ratio(text: str) -> tuple[str, float]:
    name, _, ratio = text.partition("=")
    names = [m.abbreviation for m in MUSCLES[::2]]
    try:
        if name in names:
            return name, float(ratio)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(
        f"must be a muscle and a ratio, as LC=0.97, got {text}; muscles are "
        f"{', '.join(names)}"
    )
