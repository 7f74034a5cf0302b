"""The ``cervjax`` command: flags and wiring.

Exit status: 0 all well, 1 a scan failed, 2 nothing could be started, 130 interrupted.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from cervjax import __version__
from cervjax.anatomy import MUSCLES
from cervjax.cli.commands import (
    INTERRUPTED,
    NOT_STARTED,
    balance,
    cohort,
    convert,
    demo,
    evaluate,
    figures,
    infer,
    landmarks,
    phantom,
)


def start(argv: Sequence[str] | None = None) -> int:
    """`main`, in a process that gets its memory in large pages where Linux has them.

    The network writes gigabytes of short-lived arrays, and fetching them 4 KB at a time
    takes long. glibc reads the setting only when a process begins.
    """
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    return main(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status."""
    args = _parser().parse_args(argv)
    try:
        return args.command(args)
    except (ValueError, OSError) as error:
        if args.debug:
            raise
        print(f"cervjax: error: {error}", file=sys.stderr)
        return NOT_STARTED
    except KeyboardInterrupt:
        print("cervjax: interrupted; finished scans are kept", file=sys.stderr)
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "cervjax",
        description="Neck muscle fat infiltration and volume from Dixon MRI. "
        "Research use only. Not for clinical use.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    one = commands.add_parser("infer", help="segment and measure scans")
    one.set_defaults(command=infer)
    _add_scan_flags(one)
    one.add_argument("-o", "--output", type=Path, help="folder for the results")
    one.add_argument(
        "--weights",
        type=Path,
        help="file, work directory or checkpoint (default: the package's own)",
    )
    one.add_argument("--landmarks", type=Path, help="of a NiftyNet checkpoint")
    one.add_argument(
        "--mode", choices=("whole", "windows"), help="default: the weights'"
    )
    for name, default in (("window", (360, 240, 32)), ("border", (8, 8, 8))):
        _add_triple(
            one, f"--{name}", default, "windows mode: voxels (default %(default)s)"
        )
    one.add_argument(
        "--predict-border",
        action="store_true",
        help="windows mode: also predict the outer border, which NiftyNet leaves 0",
    )
    _add_passes(one, "default: the weights'")
    one.add_argument(
        "--slices-whole",
        action=argparse.BooleanOptionalAction,
        help="take slices at a muscle's ends whole or not at all "
        "(default: the weights')",
    )
    one.add_argument(
        "--batch-size", type=_positive, default=1, help="windows in one pass"
    )
    _add_triple(
        one, "--padding", None, "voxels around the scan (default: the weights')"
    )
    one.add_argument("--padding-mode", choices=("minimum", "zero"))
    one.add_argument(
        "--keep-last-plane",
        action=argparse.BooleanOptionalAction,
        help="keep a plane that SciPy's zoom may lose",
    )
    one.add_argument(
        "--skip-fitting-grid",
        action=argparse.BooleanOptionalAction,
        help="no spline where the scan's grid is the network's already "
        "(default: the weights')",
    )
    one.add_argument("--max-memory-gb", type=float, help="for the network")
    one.add_argument(
        "--measure-on",
        choices=("echoes", "scanner"),
        default="echoes",
        help="fat from in-phase and out-of-phase, as the paper (default), "
        "or from the scanner's water and fat",
    )
    one.add_argument(
        "--device", choices=("cpu", "gpu", "tpu"), help="default: the best"
    )
    one.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="calibrated values beside the raw ones",
    )
    one.add_argument("--overwrite", action="store_true", help="compute results again")
    one.add_argument("--dry-run", action="store_true", help="print the pairing only")

    two = commands.add_parser("convert", help="NiftyNet checkpoint <-> weights file")
    two.set_defaults(command=convert)
    two.add_argument("source", type=Path, help="as --weights of infer")
    two.add_argument(
        "target", type=Path, help="FILE.safetensors, or a checkpoint prefix"
    )
    two.add_argument("--landmarks", type=Path, help="of a NiftyNet checkpoint")
    two.add_argument("--name", help="name in the model card")
    two.add_argument("--source-note", help="where the weights come from, for the card")
    _add_passes(two, "for the card")
    two.add_argument(
        "--accuracy",
        type=Path,
        metavar="FOLDER",
        help="of 'cervjax evaluate', for the card",
    )
    two.add_argument(
        "--accuracy-of",
        default="",
        metavar="TEXT",
        help="which scans that was, for the card",
    )

    three = commands.add_parser("landmarks", help="learn the standard histogram")
    three.set_defaults(command=landmarks)
    _add_scan_flags(three)
    three.add_argument("-o", "--output", type=Path, required=True, help="text file")
    three.add_argument(
        "--foreground",
        default="threshold_plus",
        choices=("threshold_plus", "otsu_plus", "none"),
    )

    four = commands.add_parser("demo", help="the whole job on two digital necks")
    four.set_defaults(command=demo, parse=parser.parse_args)
    four.add_argument("folder", type=Path, nargs="?", default=Path("demo"))

    five = commands.add_parser("phantom", help="digital necks with known truth")
    five.set_defaults(command=phantom)
    five.add_argument("-o", "--output", type=Path, required=True, help="new folder")
    five.add_argument("--subjects", type=_positive, default=1, metavar="N")
    five.add_argument("--sessions", type=int, choices=(1, 2), default=1)
    five.add_argument("--seed", type=_natural, default=0)
    five.add_argument(
        "--severity", choices=("clean", "clinical", "hard"), default="clinical"
    )
    five.add_argument(
        "--first",
        type=_natural,
        default=0,
        metavar="K",
        help="leave the first K subjects of the seed out",
    )
    five.add_argument(
        "--workers",
        type=_positive,
        default=os.cpu_count() or 1,
        help="processes (default: one per core)",
    )

    six = commands.add_parser(
        "evaluate", help="masks against reference masks: the paper's Tables 2-4"
    )
    six.set_defaults(command=evaluate)
    six.add_argument("predicted", type=Path, help="folder of masks, as infer writes")
    six.add_argument("reference", type=Path, help="labelled scans, or folder of masks")
    six.add_argument("-o", "--output", type=Path, required=True, help="folder")
    six.add_argument("--images", type=Path, help="the scans, if not in REFERENCE")
    six.add_argument(
        "--compare",
        type=Path,
        metavar="FOLDER",
        help="other predictions of the same scans",
    )
    seven = commands.add_parser("figures", help="the paper's Figures 1 and 2")
    seven.set_defaults(command=figures)
    seven.add_argument("scans", type=Path, help="folder of scans")
    seven.add_argument("masks", type=Path, help="folder of <scan>_dseg, or one mask")
    seven.add_argument("-o", "--output", type=Path, required=True, help="folder")
    seven.add_argument(
        "--width",
        type=float,
        default=180.0,
        metavar="MM",
        help="180 for a page, 85 for a column",
    )
    seven.add_argument(
        "--palette",
        choices=("sides", "muscles"),
        default="sides",
        help="sides: left muscles are lighter",
    )
    seven.add_argument(
        "--no-page",
        dest="page",
        action="store_false",
        help="without the interactive page and plotly",
    )
    eight = commands.add_parser(
        "cohort", help="statistics of a cohort, as in the paper"
    )
    eight.set_defaults(command=cohort)
    eight.add_argument("measurements", type=Path, help="measurements.csv of infer")
    eight.add_argument("participants", type=Path, help="BIDS participants.tsv")
    eight.add_argument("-o", "--output", type=Path, required=True, help="folder")
    eight.add_argument(
        "--mfi-column",
        default="mfi_percent",
        metavar="NAME",
        help="holds the MFI (default %(default)s)",
    )
    eight.add_argument(
        "--sessions",
        nargs="+",
        default=(),
        metavar="LABEL",
        help="session to use, or the first and the second",
    )
    eight.add_argument(
        "--uncentred",
        action="store_true",
        help="leave age and BMI uncentred, as SPSS does",
    )
    eight.add_argument(
        "--repeated",
        type=Path,
        metavar="TABLE",
        help="measurements of scans repeated while nothing changed: the "
        "smallest detectable change is theirs",
    )
    nine = commands.add_parser(
        "balance", help="make volumes right on average, on labelled scans"
    )
    nine.set_defaults(command=balance)
    nine.add_argument("source", type=Path, help="as --weights of infer")
    nine.add_argument(
        "scans", type=Path, nargs="+", help="folders of labelled scans, not to judge by"
    )
    nine.add_argument("target", type=Path, help="FILE.safetensors")
    nine.add_argument("--number", type=_positive, help="so many scans of each")
    nine.add_argument(
        "--volume-ratio",
        type=float,
        default=1.0,
        metavar="RATIO",
        help="to reach (default %(default)s)",
    )
    nine.add_argument(
        "--muscle-ratio",
        type=_muscle_ratio,
        nargs="+",
        default=(),
        metavar="MUSCLE=RATIO",
        help="another one for a muscle, as LC=0.97",
    )
    nine.add_argument(
        "--slices-whole",
        action="store_true",
        help="then and later take slices at a muscle's ends whole or not at all",
    )
    _add_passes(nine, "then and later")
    for command in (one, two, three, four, five, six, seven, eight, nine):
        command.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


def _add_scan_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scans", nargs="?", type=Path, help="folder of scans")
    for role in ("in-phase", "out-phase", "water", "fat"):
        parser.add_argument(f"--{role}", type=Path, metavar="FILE")


def _add_passes(parser: argparse.ArgumentParser, when: str) -> None:
    parser.add_argument(
        "--passes",
        type=int,
        choices=(1, 2, 4),
        help="how often "
        "the network is asked: of the scan; 2: and of its mirror; "
        f"4: and of both moved by a slice ({when})",
    )


def _add_triple(parser: argparse.ArgumentParser, flag: str, default, text: str) -> None:
    parser.add_argument(
        flag,
        nargs=3,
        type=_natural,
        action=_Triple,
        default=default,
        help=text,
        metavar=("X", "Y", "Z"),
    )


class _Triple(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        setattr(namespace, self.dest, tuple(values or ()))


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must not be negative, got {text}")
    return value


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


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value
