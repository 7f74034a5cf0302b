"""A neck of blocks: each muscle in its place, of its usual size, at its levels."""

import numpy as np

from cervjax.anatomy import MUSCLES

SHAPE, SPACING_MM = (120, 90, 28), (1.0, 1.0, 3.0)
LEVEL_SLICES = {"C6": (2, 8), "C5": (8, 14), "C4": (14, 20), "C3": (20, 26)}
"""First slice and the one after the last."""

# First and last voxel: from the midline outwards, and from back to front.
_BOXES = {
    "MFSS": (3, 21, 20, 38),
    "LC": (3, 11, 70, 80),
    "SPCap": (24, 38, 10, 20),
    "SSCap": (3, 21, 5, 18),
    "SCM": (40, 56, 60, 78),
    "TR": (25, 55, 1, 10),
    "LS": (40, 54, 28, 43),
}


def block_neck() -> np.ndarray:
    """Labels uint8 (x, y, z) in RAS."""
    labels = np.zeros(SHAPE, np.uint8)
    for m in MUSCLES:
        near, far, back, front = _BOXES[m.abbreviation]
        x = slice(60 + near, 60 + far)
        if m.side == "left":
            x = slice(60 - far, 60 - near)
        slices = [z for name in m.levels for z in LEVEL_SLICES[name]]
        for z in range(min(slices), max(slices)):  # SCM comes forwards downwards
            ahead = round(0.9 * (14 - z)) if m.abbreviation == "SCM" else 0
            labels[x, back + ahead : front + ahead, z] = m.label
    return labels


def echoes(
    labels: np.ndarray, fat_fraction: float | np.ndarray = 0.12, noise: float = 5.0
):
    """In-phase and out-of-phase, float32: a smooth body, lean and fatty muscle."""
    rng = np.random.default_rng(0)
    x, y, z = np.meshgrid(*map(np.arange, labels.shape), indexing="ij")
    inside = ((x - 59.5) / 59) ** 2 + ((y - 44.5) / 44) ** 2 < 1
    total = np.where(inside | (labels > 0), 400.0 + x + y, 5.0)
    fat = np.where(
        labels > 0, fat_fraction * (0.2 + 1.6 * ((x + 3 * z) % 20) / 20), 0.3
    )
    fat = np.where((labels == 0) & (y > 80), 0.0, fat)
    in_phase = total + rng.normal(0, noise, x.shape)
    out_phase = total * (1 - 2 * fat) + rng.normal(0, noise, x.shape)
    return np.abs(in_phase).astype(np.float32), np.abs(out_phase).astype(np.float32)
