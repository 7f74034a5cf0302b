"""Regions in which a scanner has taken water for fat, seen in muscles.

Muscle is mostly water: where the scanner's fat exceeds its water in one piece of some
size, the two are exchanged, or the muscle is more than half fat. Noise and streaks of
fat give small pieces only.
"""

import numpy as np
from jaxtyping import Bool, Integer
from scipy.ndimage import label

from cervjax.anatomy import MUSCLES, NUM_CLASSES
from cervjax.io.dixon import DixonImages

SMALLEST_REGION_ML = 0.5
"""Of muscle, in one piece. Largest piece without a swap in 21 digital necks: 0.03 ml on
`clinical`, 1.15 ml (a muscle of fat) on `hard`; with one, 0.86-48 ml where it reaches
1 ml of muscle (benchmarks/swaps.py)."""


def swapped_region(
    labels: Integer[np.ndarray, "x y z"], images: DixonImages
) -> Bool[np.ndarray, "x y z"] | None:
    """Voxels of muscle in which the scanner's water and fat are probably exchanged.

    Args:
        labels: 0-14, on the grid of the images.
        images: of the scan.

    Returns:
        None where the scanner's images are not there.
    """
    if images.scanner is None:
        return None
    fatty = (images.scanner.fat > images.scanner.water) & (labels > 0)
    pieces, _ = label(fatty)
    size_ml = np.bincount(pieces.reshape(-1)) * images.grid.voxel_volume_ml
    large = size_ml >= SMALLEST_REGION_ML
    large[0] = False
    return large[pieces]


def swapped_percent(
    labels: Integer[np.ndarray, "x y z"], region: Bool[np.ndarray, "x y z"] | None
) -> list[float | None]:
    """Share of each muscle that lies in the region; None where it is not known."""
    total = np.bincount(labels.reshape(-1), minlength=NUM_CLASSES)[1:]
    if region is None:
        return [None] * len(MUSCLES)
    inside = np.bincount(labels[region], minlength=NUM_CLASSES)[1:]
    return [
        float(100 * n / of) if of else None for n, of in zip(inside, total, strict=True)
    ]


def swap_warnings(percent: list[float | None], images: DixonImages) -> list[str]:
    """Muscles with a swapped region, and what it does to their numbers."""
    found = [
        f"{m.key} ({max(p, 1):.0f} %)"
        for m, p in zip(MUSCLES, percent, strict=True)
        if p
    ]
    if not found:
        return []
    effect = (
        "MFI there is wrong if so; measure on the echoes"
        if images.fat_water is images.scanner
        else "or these muscles are more than half fat, which MFI from magnitudes "
        "cannot show"
    )
    return [
        f"the scanner's fat exceeds its water in part of {', '.join(found)}: they are "
        f"probably exchanged there, {effect}"
    ]
