"""What half a voxel of outline does to MFI: how far an ICC can be asked for.

    python benchmarks/outline.py REFERENCE

REFERENCE is a folder of labelled scans. Each reference mask is grown and shrunk by one
voxel in the slice (never into another muscle). Then every subject's outline is set off
by a share of a voxel, drawn evenly from minus to plus a half, MFI taken as linear in
between, a thousand times over. Prints Markdown: per muscle, the SD of MFI over
subjects, the mean change of MFI by a voxel more and a voxel less, and the mean
ICC(2,1) of such outlines with the reference.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion

from cervjax.anatomy import MUSCLES
from cervjax.evaluation.agreement import icc21
from cervjax.io.dixon import read_scan
from cervjax.io.labels import LabelledScan, find_labelled, read_labels

DRAWS = 1000
IN_PLANE = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)[..., None]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="What half a voxel does to MFI")
    parser.add_argument("reference", type=Path)
    args = parser.parse_args()
    try:
        scans, _ = find_labelled(args.reference)
    except ValueError as error:
        parser.error(str(error))
    mfi = np.array([mfi_of_outlines(scan) for scan in scans])
    print("| muscle | SD | a voxel more | a voxel less | ICC half a voxel off |")
    print("|---|---|---|---|---|")
    rng = np.random.default_rng(0)
    off = rng.uniform(-0.5, 0.5, (DRAWS, len(scans)))
    for muscle, (own, more, less) in zip(MUSCLES, mfi.transpose(1, 2, 0), strict=True):
        drawn = own + np.where(off > 0, off * (more - own), -off * (less - own))
        icc = np.mean([icc21(one, own).icc for one in drawn])
        print(
            f"| {muscle.key} | {own.std(ddof=1):.2f} | {np.mean(more - own):+.2f} "
            f"| {np.mean(less - own):+.2f} | {icc:.3f} |"
        )
    print(f"\n{len(scans)} scans; MFI in percent, its changes in points.")


def mfi_of_outlines(scan: LabelledScan) -> np.ndarray:
    """MFI (14, 3) in the reference masks, in them grown, and in them shrunk."""
    images = read_scan(scan.scan)
    labels = read_labels(scan.labels, images.grid)
    fat, water = images.fat_water.fat, images.fat_water.water

    def mfi(mask: np.ndarray) -> float:
        total = fat[mask].sum(dtype=float), water[mask].sum(dtype=float)
        return 100 * total[0] / sum(total)

    found = []
    for muscle in MUSCLES:
        own = labels == muscle.label
        grown = own | (binary_dilation(own, IN_PLANE) & (labels == 0))
        found.append([mfi(m) for m in (own, grown, binary_erosion(own, IN_PLANE))])
    return np.array(found)


if __name__ == "__main__":
    main()
