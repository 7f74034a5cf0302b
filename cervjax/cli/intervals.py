"""``cervjax intervals``: learns on labelled scans how far measurements may be off."""

import argparse
from pathlib import Path

from cervjax.cli.flags import OK, check_target

HELP = "learn 95 %% intervals of measurements, on labelled scans"

EXAMPLES = """\
cervjax intervals results/ labelled/ -o weights.intervals.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("results", type=Path, help="of infer, with the weights in use")
    parser.add_argument(
        "reference",
        type=Path,
        help="the scans with their labels, such as digital necks; of people that the "
        "weights were not trained on",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        help="NAME.intervals.json beside NAME.safetensors is found by infer",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the table")


def run(args: argparse.Namespace) -> int:
    """Learns factors from spread to error, per muscle."""
    from cervjax.evaluation.intervals import learn, observe
    from cervjax.measurement.interval_table import write_intervals

    check_target(args.output, overwrite=args.overwrite)
    observed = observe(args.results, args.reference)
    source = f"{observed.people} labelled scans of {args.reference.absolute().name}"
    intervals = learn(observed, source)
    write_intervals(args.output, intervals)
    print("muscle   MFI of spread     volume of spread")
    for muscle, own in intervals.factors.items():
        mfi, volume = (f"{a:+.2f} to {b:+.2f}" for a, b in own.values())
        print(f"{muscle:8} {mfi:17} {volume}")
    print(f"{source}, {len(observed.rows)} muscles; {observed.left_out} not to be used")
    print(f"{args.output}: intervals of weights {observed.weights_sha256[:12]}...")
    return OK
