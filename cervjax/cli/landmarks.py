"""``cervjax landmarks``: learns histogram landmarks from a folder of scans."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cervjax.cli.flags import OK, add_scan_flags, check_target, scans_of
from cervjax.io.scans import Scan

HELP = "learn the standard histogram"

EXAMPLES = """\
cervjax landmarks scans/ -o landmarks.txt"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    add_scan_flags(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, help="text file")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the text file"
    )
    parser.add_argument(
        "--foreground",
        default="threshold_plus",
        choices=("threshold_plus", "otsu_plus", "none"),
        help="voxels that count: above zero, above Otsu's threshold, or all",
    )


def run(args: argparse.Namespace) -> int:
    """Learns histogram landmarks from a folder of scans.

    Raises:
        ValueError: files that form no scan, a scan that cannot be read, or an output
            that exists or cannot be written.
    """
    from cervjax.io.files import write_atomically
    from cervjax.preprocessing.histogram import format_landmarks, train_landmarks

    check_target(args.output, overwrite=args.overwrite)
    scans, problems, _ = scans_of(args)
    if problems:
        raise ValueError(f"{problems[0].message}; {problems[0].hint}")
    learnt = train_landmarks(_pairs(scans), foreground_type=args.foreground)
    text = format_landmarks(learnt)
    write_atomically(args.output, lambda part: part.write_text(text))
    print(f"{args.output}: landmarks of {len(scans)} scan(s)")
    return OK


def _pairs(scans: Sequence[Scan]) -> Iterator[list[np.ndarray]]:
    """In-phase and out-of-phase images on the network's grid, scan by scan."""
    from cervjax.io.dixon import read_scan
    from cervjax.preprocessing.pipeline import Recipe, to_network_grid

    for scan in scans:
        images = read_scan(scan)
        print(scan.name, flush=True)
        spacing_mm, recipe = images.grid.spacing_mm, Recipe()
        yield [
            to_network_grid(volume, spacing_mm, recipe, flush_denormals=False)
            for volume in (images.in_phase, images.out_phase)
        ]
