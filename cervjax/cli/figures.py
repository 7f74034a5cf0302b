"""``cervjax figures``: draws the paper's Figures 1 and 2 of scans that have masks."""

import argparse
import sys
from pathlib import Path

from cervjax.cli.flags import OK, SOME_FAILED

HELP = "the paper's Figures 1 and 2"

EXAMPLES = """\
cervjax figures scans/ results/ -o figures/
cervjax figures scans/ results/ -o figures/ --width 85 --no-page"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("scans", type=Path, help="folder of scans")
    parser.add_argument("masks", type=Path, help="folder of <scan>_dseg, or one mask")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder")
    parser.add_argument(
        "--width",
        type=float,
        default=180.0,
        metavar="MM",
        help="180 for a page, 85 for a column",
    )
    parser.add_argument(
        "--palette",
        choices=("sides", "muscles"),
        default="sides",
        help="sides: left muscles are lighter",
    )
    parser.add_argument(
        "--no-page",
        dest="page",
        action="store_false",
        help="without the interactive page, which needs plotly",
    )


def run(args: argparse.Namespace) -> int:
    """Draws the paper's Figures 1 and 2 of scans that have masks."""
    from cervjax.figures.paper import write_figures

    problems = write_figures(
        args.scans,
        args.masks,
        args.output,
        width_mm=args.width,
        palette=args.palette,
        page=args.page,
    )
    if problems:
        print(f"{len(problems)} not drawn, see above", file=sys.stderr)
    return SOME_FAILED if problems else OK
