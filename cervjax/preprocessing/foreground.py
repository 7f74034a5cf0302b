"""Whitening over the foreground, without a standard histogram."""

import numpy as np
from jaxtyping import Bool, Float32
from scipy.ndimage import gaussian_filter

FOREGROUND_SHARE = 0.3
"""Of the foreground's mean: what is brighter is foreground."""
BRIGHTEST = 3.0
"""Times the foreground's mean: what is brighter is cut, as fat next to a coil."""
VOID_SHARE = 0.08, 0.25
"""Of the foreground's mean: lowest and highest limit below which there is no signal."""
OVER_AIR = 3.0  # times the median of what is not foreground
SMOOTH_MM = 2.0
COLUMN_SHARE = 0.1
MARGIN_MM = 8.0


def whiten_foreground(
    volume: Float32[np.ndarray, "x y z"],
) -> Float32[np.ndarray, "x y z"]:
    """Mean 0 and standard deviation 1 over the voxels that are not air.

    The foreground is what is brighter than `FOREGROUND_SHARE` of its own mean, found in
    two rounds from the mean of all; how much air there is hardly matters then. What is
    very bright is cut at `BRIGHTEST`.

    Args:
        volume: float32 (x, y, z), any intensity unit; its lowest value counts as 0.
    """
    height = volume - volume.min()
    mask, level = _foreground(height)
    height = np.minimum(height, np.float32(BRIGHTEST * level))
    away = height - np.float32(height[mask].mean() if mask.any() else 0)
    square = np.square(away[mask], dtype=np.float64).mean() if mask.any() else 0.0
    return away / np.float32(max(np.sqrt(square), 1e-5))


def body_box(
    volume: Float32[np.ndarray, "x y z"], spacing_mm: tuple[float, float, float]
) -> tuple[slice, slice, slice]:
    """The part of a scan, along x and y, that holds the body; all slices.

    A column of voxels belongs to it if it has a tenth of the foreground of the fullest
    one, so that noise and ghosts in the air do not count; `MARGIN_MM` is added.

    Args:
        volume: float32 (x, y, z), any intensity unit.
        spacing_mm: of its voxels.
    """
    mask, _ = _foreground(volume - volume.min())
    box = []
    for axis in (0, 1):
        others = tuple(a for a in range(3) if a != axis)
        profile = mask.sum(others)
        inside = np.flatnonzero(profile > COLUMN_SHARE * profile.max())
        if not len(inside):
            box.append(slice(0, volume.shape[axis]))
            continue
        margin = round(MARGIN_MM / spacing_mm[axis])
        first, last = inside[0] - margin, inside[-1] + 1 + margin
        box.append(slice(max(int(first), 0), min(int(last), volume.shape[axis])))
    return box[0], box[1], slice(0, volume.shape[2])


def signal_voids(
    volume: Float32[np.ndarray, "x y z"], spacing_mm: tuple[float, float, float]
) -> Bool[np.ndarray, "x y z"]:
    """Where there is no signal to see a muscle by: air, and where the coils reach not.

    Averaged over some millimetres in the plane, the signal is less than three times
    that of air, within `VOID_SHARE`.

    Args:
        volume: float32 (x, y, z), any intensity unit; its lowest value counts as 0.
        spacing_mm: of its voxels.
    """
    height = volume - volume.min()
    mask, level = _foreground(height)
    if level == 0:
        return np.ones(volume.shape, bool)
    air = float(np.median(height[~mask])) if not mask.all() else 0.0
    share = np.clip(OVER_AIR * air / level, *VOID_SHARE)
    sigma = [SMOOTH_MM / step for step in spacing_mm[:2]]
    return gaussian_filter(height, (*sigma, 0)) < share * level


def _foreground(height: np.ndarray) -> tuple[Bool[np.ndarray, "x y z"], float]:
    """Which voxels are not air, and their mean, of heights above the lowest value."""
    level = float(height.mean(dtype=np.float64))
    mask = np.ones(height.shape, bool)
    for _ in range(2):
        mask = height > FOREGROUND_SHARE * level
        level = float(height[mask].mean(dtype=np.float64)) if mask.any() else 0.0
    return mask, level
