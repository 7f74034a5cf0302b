"""``cervjax phantom``: makes digital necks with known muscles and known fat."""

import argparse
import os
from pathlib import Path

from cervjax.cli.flags import OK, natural, positive, progress_bar

HELP = "digital necks with known truth"

EXAMPLES = """\
cervjax phantom -o necks/ --subjects 20 --seed 7
cervjax phantom -o necks/ --subjects 20 --sessions 2 --severity hard"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("-o", "--output", type=Path, required=True, help="new folder")
    parser.add_argument(
        "--subjects",
        type=positive,
        default=1,
        metavar="N",
        help="how many (default %(default)s)",
    )
    parser.add_argument(
        "--sessions",
        type=int,
        choices=(1, 2),
        default=1,
        help="scans a subject; more fat in some at the second (default 1)",
    )
    parser.add_argument(
        "--seed", type=natural, default=0, help="other subjects (default %(default)s)"
    )
    parser.add_argument(
        "--severity",
        choices=("clean", "clinical", "hard"),
        default="clinical",
        help="noise and artefacts (default %(default)s)",
    )
    parser.add_argument(
        "--first",
        type=natural,
        default=0,
        metavar="K",
        help="leave the first K subjects of the seed out",
    )
    parser.add_argument(
        "--workers",
        type=positive,
        default=os.cpu_count() or 1,
        help="processes (default: one per core)",
    )


def run(args: argparse.Namespace) -> int:
    """Makes digital necks with known muscles and known fat."""
    from cervjax.phantom.dataset import write_dataset

    print(f"{args.subjects} digital neck(s), {args.severity}, in {args.output}")
    with progress_bar("subjects", args.subjects, quiet=args.quiet) as (_, on_progress):
        write_dataset(
            args.output,
            args.subjects,
            sessions=args.sessions,
            seed=args.seed,
            severity=args.severity,
            workers=args.workers,
            first=args.first,
            on_progress=on_progress,
        )
    print(f"{args.output}: scans, truth.csv, participants.tsv, derivatives/truth")
    print("Synthetic: no patient, no clinical meaning.")
    return OK
