"""``cervjax dicom-seg``: the masks of DICOM scans as DICOM segmentations."""

import argparse
import sys
from pathlib import Path
from typing import Literal

from cervjax.cli.dicom import add_dicom_flags, opened
from cervjax.cli.flags import OK, SOME_FAILED, check_writable

HELP = "write the masks of scans in DICOM as DICOM SEG, beside the results"

EXAMPLES = """\
cervjax dicom-seg results/ export/
cervjax dicom-seg results/ export.zip --kind labelmap
cervjax dicom-seg results/ export/ --keep-ids"""

KINDS = ("binary", "labelmap")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument(
        "results", type=Path, help="folder that 'infer' wrote from these DICOM files"
    )
    parser.add_argument("dicom", type=Path, help="folder of DICOM files, or a ZIP file")
    parser.add_argument(
        "--kind",
        choices=KINDS,
        default="binary",
        help="binary: a bit a voxel and segment, which every program reads (default); "
        "labelmap: smaller, DICOM's newer kind",
    )
    add_dicom_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Writes segmentations."""
    if not args.results.is_dir():
        raise ValueError(f"{args.results} is no folder; give a results folder")
    check_writable(args.results)
    return segmentations(args.results, args.dicom, args.kind, args)


def segmentations(
    results: Path,
    dicom: Path,
    kind: Literal["binary", "labelmap"],
    args: argparse.Namespace,
) -> int:
    """Writes them and says so.

    Args:
        results: folder of results.
        dicom: folder or archive that they are of.
        kind: of `KINDS`.
        args: with the flags of `add_dicom_flags`.

    Returns:
        The exit status.
    """
    from cervjax.inference.dicom_out import write_segs
    from cervjax.io.dicom_seg import require_highdicom
    from cervjax.io.pseudonyms import read_key

    require_highdicom()
    key = read_key(args.pseudonym_key)
    with opened(dicom) as folder:
        written, failed = write_segs(
            results, folder, key, kind=kind, keep_ids=args.keep_ids
        )
    for line in failed:
        print(f"FAILED {line}", file=sys.stderr)
    for path in written:
        print(path)
    print(f"{len(written)} DICOM segmentation(s), {len(failed)} failed")
    return SOME_FAILED if failed or not written else OK
