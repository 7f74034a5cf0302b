"""Smooth noise that repeats, to be laid over a body's grid."""

import numpy as np
from scipy.ndimage import gaussian_filter

TILE = (64, 128, 128)
"""Voxels along z, y, x after which the noise repeats."""


def smooth_tile(rng: np.random.Generator, sigma_voxels: tuple) -> np.ndarray:
    """Periodic noise of mean 0 and standard deviation 1, float32 of shape `TILE`."""
    white = rng.standard_normal(TILE, np.float32)
    smooth = gaussian_filter(white, sigma_voxels, mode="wrap", truncate=3)
    return (smooth - smooth.mean()) / smooth.std()


def tiled(tile: np.ndarray, k: int, ny: int, nx: int) -> np.ndarray:
    """Plane k of a tile, repeated over ``(ny, nx)`` voxels."""
    repeats = -(-ny // TILE[1]), -(-nx // TILE[2])
    return np.tile(tile[k % TILE[0]], repeats)[:ny, :nx]
