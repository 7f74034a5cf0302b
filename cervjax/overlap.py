"""Overlap of label maps: counts of voxels that agree, per label."""

import numpy as np

from cervjax.anatomy import NUM_CLASSES


def confusion(predicted: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Voxels by reference (rows) and predicted label (columns), (15, 15)."""
    if predicted.shape != reference.shape:
        raise ValueError(
            f"label maps differ in shape: {predicted.shape} and {reference.shape}"
        )
    joint = reference.reshape(-1).astype(np.intp) * NUM_CLASSES + predicted.reshape(-1)
    return np.bincount(joint, minlength=NUM_CLASSES**2).reshape(NUM_CLASSES, -1)


def dice_per_label(counts: np.ndarray) -> np.ndarray:
    """Dice of labels 1-14 from `confusion`; NaN where neither map has the label."""
    both = np.diag(counts).astype(np.float64)
    total = counts.sum(0) + counts.sum(1)
    return np.divide(
        2 * both, total, out=np.full(NUM_CLASSES, np.nan), where=total > 0
    )[1:]
