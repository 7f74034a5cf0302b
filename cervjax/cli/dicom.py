"""``cervjax dicom``: scans out of DICOM, as NIfTI without names of patients."""

import argparse
import contextlib
from contextlib import AbstractContextManager
from pathlib import Path

from cervjax.cli.flags import OK, SOME_FAILED, check_writable
from cervjax.io.scans import Problem, Scan

HELP = "convert the Dixon scans in DICOM to NIfTI, under pseudonyms"

EXAMPLES = """\
cervjax dicom export/ --dry-run
cervjax dicom export.zip -o nifti/"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("dicom", type=Path, help="folder of DICOM files, or a ZIP file")
    parser.add_argument("-o", "--output", type=Path, help="folder for the images")
    parser.add_argument("--dry-run", action="store_true", help="print the pairing only")
    add_dicom_flags(parser)


def add_dicom_flags(parser: argparse.ArgumentParser) -> None:
    """How people are named."""
    parser.add_argument(
        "--keep-ids",
        action="store_true",
        help="DICOM: name scans by patient ID and date, not by pseudonyms",
    )
    parser.add_argument(
        "--pseudonym-key",
        type=Path,
        metavar="FILE",
        help="DICOM: secret key of the pseudonyms, made if need be (default: one in "
        "your home folder); the same key gives the same names",
    )


def is_dicom(path: Path | None) -> bool:
    """Whether it is a folder of DICOM files, or an archive."""
    from cervjax.io.dicom_scans import is_dicom_folder

    if path is None:
        return False
    return (path.is_file() and path.suffix.lower() == ".zip") or is_dicom_folder(path)


def scans_of_dicom(
    path: Path, out: Path | None, args: argparse.Namespace
) -> tuple[list[Scan], list[Problem]]:
    """Prints which images form scans, and converts them.

    Args:
        path: folder or archive.
        out: folder for the images; None converts nothing.
        args: with the flags of `add_dicom_flags`.

    Returns:
        The converted scans, and problems.
    """
    from cervjax.io.dicom_convert import convert_scan
    from cervjax.io.dicom_scans import dicom_table, find_dicom_scans
    from cervjax.io.pseudonyms import read_key

    key = read_key(args.pseudonym_key)
    with opened(path) as folder:
        found, problems, left_out = find_dicom_scans(
            folder, key, keep_ids=args.keep_ids
        )
        if not found and not problems:
            hint = "Give the folder of an export; images of magnetic resonance only."
            problems.append(Problem("dicom", (), "no DICOM image", hint))
        print(dicom_table(found, problems, left_out), flush=True)
        if out is None:
            return [], problems
        outcomes = [convert_scan(scan, out) for scan in found]
    scans = [outcome for outcome in outcomes if isinstance(outcome, Scan)]
    failed = [outcome for outcome in outcomes if isinstance(outcome, Problem)]
    for problem in failed:
        print(f"PROBLEM {problem.scan}: {problem.message}\n  {problem.hint}")
    return scans, [*problems, *failed]


def opened(path: Path) -> AbstractContextManager[Path]:
    """The folder, or that of an archive's files for as long as they are needed.

    Raises:
        ValueError: neither is there.
    """
    from cervjax.io.dicom_convert import unpacked

    if path.is_file():
        return unpacked(path)
    if path.is_dir():
        return contextlib.nullcontext(path)
    raise ValueError(f"{path} does not exist; check the path")


def run(args: argparse.Namespace) -> int:
    """Converts the scans of a folder or archive."""
    out = None if args.dry_run else args.output
    if out is not None:
        check_writable(out)
    elif not args.dry_run:
        raise ValueError("give a folder for the images: -o OUT")
    scans, problems = scans_of_dicom(args.dicom, out, args)
    if out is not None:
        print(f"{len(scans)} scan(s) in {out}: cervjax infer {out} -o results/")
    return SOME_FAILED if problems else OK
