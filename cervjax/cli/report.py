"""``cervjax report``: a page to check results on."""

import argparse
from pathlib import Path

from cervjax.cli.flags import OK, check_writable

HELP = "write a page to check the results of a folder on"

EXAMPLES = """\
cervjax report results/"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("results", type=Path, help="folder that infer or measure wrote")


def run(args: argparse.Namespace) -> int:
    """Writes ``report.html``."""
    from cervjax.cli.flags import progress_bar
    from cervjax.inference.review import REPORT, write_report

    if not args.results.is_dir():
        raise ValueError(f"{args.results} is no folder; give a results folder")
    check_writable(args.results)
    total = len(list(args.results.glob("*_dseg.json")))
    with progress_bar("scans", total, quiet=args.quiet) as (_, moved):
        count, without = write_report(args.results, moved)
    for line in without:
        print(line)
    print(f"{count} scan(s) in {args.results / REPORT}")
    return OK
