"""``cervjax translate``: results in other programs' files, and MuscleMap's in ours."""

import argparse
import sys
from pathlib import Path

from cervjax.cli.flags import OK, SOME_FAILED, check_writable

HELP = "write results for MuscleMap, SCT or 3D Slicer; read MuscleMap's"

EXAMPLES = """\
cervjax translate results/ -o slicer/ --to slicer
cervjax translate results/ -o others/ --to musclemap sct
cervjax translate musclemap/ -o masks/ --from musclemap"""

_PROGRAMS = ("musclemap", "sct", "slicer")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument(
        "source",
        type=Path,
        help="folder of results; with --from, a mask, a table or a folder of both",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder")
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument(
        "--to",
        nargs="+",
        choices=_PROGRAMS,
        metavar="PROGRAM",
        help="musclemap: masks in its values, and its Dixon tables; sct: tables by "
        "slice and by vertebral level; slicer: segmentations with names (.seg.nrrd)",
    )
    group.add_argument(
        "--from",
        dest="origin",
        choices=("musclemap",),
        help="masks become masks in the paper's labels, Dixon tables one table",
    )


def run(args: argparse.Namespace) -> int:
    """Translates.

    Raises:
        ValueError: nothing to translate, or the folder of the source is to be written.
    """
    from cervjax.inference.translation import of_musclemap, translate

    if not args.source.exists():
        raise ValueError(f"{args.source} does not exist; check the path")
    check_writable(args.output)
    if args.origin:
        count, failed = of_musclemap(args.source, args.output)
        what = "file(s)"
    else:
        count, failed = translate(args.source, args.output, args.to)
        what = "scan(s)"
    for line in failed:
        print(f"FAILED {line}", file=sys.stderr)
    print(f"{count} {what} translated, {len(failed)} failed; see {args.output}")
    return SOME_FAILED if failed else OK
