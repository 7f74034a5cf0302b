"""Whitening over the foreground, without a standard histogram."""

import numpy as np
from jaxtyping import Float32

FOREGROUND_SHARE = 0.3
"""Of the foreground's mean: what is brighter is foreground."""


def whiten_foreground(
    volume: Float32[np.ndarray, "x y z"],
) -> Float32[np.ndarray, "x y z"]:
    """Mean 0 and standard deviation 1 over the voxels that are not air.

    The foreground is what is brighter than `FOREGROUND_SHARE` of its own mean, found in
    two rounds from the mean of all; how much air there is hardly matters then.

    Args:
        volume: float32 (x, y, z), any intensity unit; its lowest value counts as 0.
    """
    height = volume - volume.min()
    level = height.mean(dtype=np.float64)
    mask = np.ones(height.shape, bool)
    for _ in range(2):
        mask = height > FOREGROUND_SHARE * level
        level = height[mask].mean(dtype=np.float64) if mask.any() else 0.0
    away = height - np.float32(level)
    square = np.square(away[mask], dtype=np.float64).mean() if mask.any() else 0.0
    return away / np.float32(max(np.sqrt(square), 1e-5))
