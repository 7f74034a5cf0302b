"""``cervjax tables``: the tables of several results folders as one."""

import argparse
from pathlib import Path

from cervjax.cli.flags import OK, check_writable

HELP = "write the tables of results again, of several folders as one"

EXAMPLES = """\
cervjax tables results/
cervjax tables results/1 results/2 -o joined/"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("folders", nargs="+", type=Path, help="folders of results")
    parser.add_argument(
        "-o", "--output", type=Path, help="folder of the tables (one folder: itself)"
    )


def run(args: argparse.Namespace) -> int:
    """Writes tables from the side-cars; masks are not touched.

    Raises:
        ValueError: no results, of different weights or settings, or of one scan twice.
    """
    from cervjax.inference.results import MEASUREMENTS, join_tables

    if args.output is None and len(args.folders) > 1:
        raise ValueError("give a folder for the joined tables: -o OUT")
    for folder in args.folders:
        if not folder.is_dir():
            raise ValueError(f"{folder} is no folder; give folders of results")
    out = args.output or args.folders[0]
    check_writable(out)
    number = join_tables(args.folders, out)
    print(f"{number} scan(s) in {out / MEASUREMENTS}")
    return OK
