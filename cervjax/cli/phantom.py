"""``cervjax phantom``: makes digital necks with known muscles and known fat."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from cervjax.cli.flags import OK, natural, positive, progress_bar

HELP = "digital necks with known truth"

EXAMPLES = """\
cervjax phantom -o necks/ --subjects 20 --seed 7
cervjax phantom -o necks/ --subjects 20 --sessions 2 --severity hard
cervjax phantom -o necks/ --subjects 20 --anatomy standard,man_41"""


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
        "--anatomy",
        type=_names,
        action="extend",
        default=[],
        metavar="NAME|FILE",
        help="whose outlines the necks get, several with commas or by giving the flag "
        "again; drawn for each subject, half of them between two people (default: all "
        "of --list-anatomies)",
    )
    parser.add_argument(
        "--list-anatomies",
        action=_ListAnatomies,
        help="print the people whose outlines there are, and exit",
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
            anatomies=args.anatomy,
            workers=args.workers,
            first=args.first,
            on_progress=on_progress,
        )
    print(f"{args.output}: scans, truth.csv, participants.tsv, derivatives/truth")
    print("Synthetic: no patient, no clinical meaning.")
    return OK


def _names(text: str) -> list[str]:
    """Names and files, with commas between them; a file may have commas itself."""
    if Path(text).is_file():
        return [text]
    names = [name for part in text.split(",") if (name := part.strip())]
    if not names:
        raise argparse.ArgumentTypeError("expected a name or a file")
    return names


class _ListAnatomies(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser, namespace, values, option_string=None):
        from cervjax.phantom.atlas import anatomy_names, load_anatomy

        for name in anatomy_names():
            anatomy = load_anatomy(name)
            print(f"{name}: {anatomy.who}")
            for line in (f"traced: {anatomy.traced}", *anatomy.filled):
                print(f"  {line}")
        parser.exit()
