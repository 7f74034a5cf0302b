"""``cervjax nnunet``: labelled scans as a dataset of nnU-Net."""

import argparse
import sys
from pathlib import Path

from cervjax.cli.flags import OK, SOME_FAILED, check_writable
from cervjax.io.scans import Problem, Scan

HELP = "write labelled scans as a raw dataset of nnU-Net"

EXAMPLES = """\
cervjax nnunet labelled/ -o nnUNet_raw/Dataset501_Neck
cervjax nnunet scans/ masks/ -o nnUNet_raw/Dataset502_Neck --labels musclemap"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("scans", type=Path, help="folder of scans")
    parser.add_argument(
        "masks",
        nargs="?",
        type=Path,
        help="folder of masks, named as their scans (default: labels beside the scans, "
        "as training finds them)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="DATASET",
        help="new folder DatasetNNN_NAME",
    )
    parser.add_argument(
        "--labels",
        default="",
        metavar="SET",
        help="what the masks' numbers mean, as for measure",
    )


def run(args: argparse.Namespace) -> int:
    """Writes a dataset.

    Raises:
        ValueError: nothing to write, or the folder is none that can be written.
    """
    from cervjax.cli.flags import progress_bar
    from cervjax.io.label_sets import read_label_set
    from cervjax.io.nnunet import check_dataset, write_case, write_dataset

    check_dataset(args.output)
    labels = read_label_set(args.labels, args.masks or args.scans)
    pairs, problems = _labelled(args.scans, args.masks)
    check_writable(args.output)
    failed = [f"{p.scan}: {p.message}; {p.hint}" for p in problems]
    done = []
    with progress_bar("scans", len(pairs), quiet=args.quiet) as (_, moved):
        for scan, mask in pairs:
            try:
                write_case(scan, mask, labels, args.output)
                done.append(scan.name)
            except (ValueError, OSError) as error:
                failed.append(f"{scan.name}: {error}")
            moved(scan.name)
    for line in failed:
        print(f"FAILED {line}", file=sys.stderr)
    if not done:
        raise ValueError(f"{args.output}: no scan could be written")
    write_dataset(args.output, done, ignore=bool(labels.ignored))
    print(f"{len(done)} scan(s) in {args.output}, {len(failed)} failed")
    return SOME_FAILED if failed else OK


def _labelled(
    scans: Path, masks: Path | None
) -> tuple[list[tuple[Scan, Path]], list[Problem]]:
    from cervjax.io.labels import find_labelled
    from cervjax.io.masks import masks_of
    from cervjax.io.pairing import find_scans

    if masks is None:
        labelled, problems = find_labelled(scans)
        return [(one.scan, one.labels) for one in labelled], problems
    found, problems = find_scans(scans)
    pairs, without = masks_of(found, masks)
    return pairs, [*problems, *without]
