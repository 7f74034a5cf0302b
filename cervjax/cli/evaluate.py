"""``cervjax evaluate``: masks against reference masks, the paper's Tables 2-4."""

import argparse
from pathlib import Path

from cervjax.cli.flags import OK, SOME_FAILED, check_writable, positive

HELP = "masks against reference masks: the paper's Tables 2-4"

EXAMPLES = """\
cervjax evaluate results/ labelled/ -o tables/
cervjax evaluate results/ labelled/ -o tables/ --compare other/"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    parser.add_argument("predicted", type=Path, help="folder of masks, as infer writes")
    parser.add_argument(
        "reference", type=Path, help="labelled scans, or folder of masks"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder")
    parser.add_argument("--images", type=Path, help="the scans, if not in REFERENCE")
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="FOLDER",
        help="other predictions of the same scans",
    )
    parser.add_argument(
        "--all-rows",
        action="store_true",
        help="take muscles with the verdict do_not_use in PREDICTED, too",
    )
    parser.add_argument(
        "--ignore-label",
        type=positive,
        default=-1,
        metavar="VALUE",
        help="value in masks of what nobody knows: such voxels are left out, as those "
        "that a dataset.json beside the masks calls ignore",
    )


def run(args: argparse.Namespace) -> int:
    """Compares predicted with reference masks: the paper's Tables 2-4, Figures 3, 4."""
    from cervjax.evaluation.report import evaluate_masks

    check_writable(args.output)
    failed = evaluate_masks(
        args.predicted,
        args.reference,
        args.output,
        images=args.images,
        baseline=args.compare,
        all_rows=args.all_rows,
        ignore_label=args.ignore_label,
    )
    return SOME_FAILED if failed else OK
