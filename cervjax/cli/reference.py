"""``cervjax reference``: where each person stands within the cohort."""

import argparse
from pathlib import Path

from cervjax.cli.flags import OK, check_target

HELP = "z-scores and percentiles of people by sex, age and BMI, within a cohort"

EXAMPLES = """\
cervjax reference results/measurements.csv participants.tsv -o reference.csv"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("measurements", type=Path, help="measurements.csv of infer")
    parser.add_argument("participants", type=Path, help="BIDS participants.tsv")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="table (CSV) to be written"
    )
    parser.add_argument(
        "--mfi-column",
        default="mfi_percent",
        metavar="NAME",
        help="holds the MFI (default %(default)s)",
    )
    parser.add_argument(
        "--sessions", nargs="+", default=(), metavar="LABEL", help="session to use"
    )
    parser.add_argument(
        "--all-rows",
        action="store_true",
        help="take measurements with the verdict do_not_use, too",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the table")


def run(args: argparse.Namespace) -> int:
    """Compares each person with the others of the same cohort."""
    from cervjax.cohort.reference import write_reference

    check_target(args.output, overwrite=args.overwrite)
    rows = write_reference(
        args.measurements,
        args.participants,
        args.output,
        mfi_column=args.mfi_column,
        sessions=args.sessions,
        all_rows=args.all_rows,
    )
    people = {row["participant_id"] for row in rows}
    far = [r for r in rows if abs(r["mfi_z"]) > 2 or abs(r["volume_z"]) > 2]
    print(f"{args.output}: {len(people)} people, {len(rows)} muscles")
    print(f"{len(far)} muscles are more than 2 standard deviations from the others'")
    print("The cohort is its own reference; it is no norm of healthy people.")
    return OK
