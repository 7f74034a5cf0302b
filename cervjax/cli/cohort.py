"""``cervjax cohort``: statistics of muscles, sex, age, BMI and change."""

import argparse
from pathlib import Path

from cervjax.cli.flags import OK, add_lists

HELP = "statistics of a cohort, as in the paper"

EXAMPLES = """\
cervjax cohort results/measurements.csv participants.tsv -o statistics/
cervjax cohort results/measurements.csv participants.tsv -o change/ --sessions 1 2"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("measurements", type=Path, help="measurements.csv of infer")
    parser.add_argument("participants", type=Path, help="BIDS participants.tsv")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder")
    parser.add_argument(
        "--mfi-column",
        default="mfi_percent",
        metavar="NAME",
        help="holds the MFI (default %(default)s)",
    )
    parser.add_argument(
        "--sessions",
        nargs="+",
        default=(),
        metavar="LABEL",
        help="session to use, or the first and the second",
    )
    parser.add_argument(
        "--uncentred",
        action="store_true",
        help="leave age and BMI uncentred, as SPSS does",
    )
    parser.add_argument(
        "--repeated",
        type=Path,
        metavar="TABLE",
        help="measurements of scans repeated while nothing changed: the "
        "smallest detectable change is theirs",
    )
    parser.add_argument(
        "--all-rows",
        action="store_true",
        help="take measurements with the verdict do_not_use, too",
    )
    add_lists(parser)


def run(args: argparse.Namespace) -> int:
    """Analyses a cohort: muscles, sex, age, BMI, change between two sessions."""
    from cervjax.cohort.report import analyse_cohort

    analyse_cohort(
        args.measurements,
        args.participants,
        args.output,
        mfi_column=args.mfi_column,
        sessions=args.sessions,
        centred=not args.uncentred,
        repeated=args.repeated,
        all_rows=args.all_rows,
        only=args.only,
        exclude=args.exclude,
    )
    return OK
