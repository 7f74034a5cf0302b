"""Overlap of two label maps: counts of voxels, and the measures of the paper's Table 4.

Where a measure has no value it is NaN and is left out of means, never 0 or 1: a muscle
in neither map has none at all; a muscle in the reference alone has no PPV, and no
conformity; a muscle in the prediction alone has no TPR, conformity or volume ratio.
"""

import numpy as np

from cervjax.anatomy import NUM_CLASSES

MEASURES = ("dice", "jaccard", "conformity", "tpr", "tnr", "ppv", "volume_ratio")
"""In the order of Table 4."""


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
    return overlap_measures(counts)["dice"]


def overlap_measures(counts: np.ndarray) -> dict[str, np.ndarray]:
    """The seven measures of Table 4 for labels 1-14.

    With true positives TP, false positives FP and so on, over the whole volume:
    Dice ``2 TP / (2 TP + FP + FN)``, Jaccard ``TP / (TP + FP + FN)``, conformity
    ``1 - (FP + FN) / TP`` (Chang et al. 2009), TPR ``TP / (TP + FN)``, TNR
    ``TN / (TN + FP)``, PPV ``TP / (TP + FP)``, volume ratio ``(TP + FP) / (TP + FN)``.

    Args:
        counts: from `confusion`.

    Returns:
        `MEASURES` to float64 (14,), NaN as the module says.
    """
    both = np.diag(counts).astype(np.float64)[1:]
    predicted, reference = counts.sum(0)[1:], counts.sum(1)[1:]
    either = predicted + reference - both
    outside = counts.sum() - either
    absent = (predicted + reference) == 0

    def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
        nan = np.full(both.shape, np.nan)
        return np.divide(
            numerator, denominator, out=nan, where=(denominator > 0) & ~absent
        )

    return {
        "dice": ratio(2 * both, predicted + reference),
        "jaccard": ratio(both, either),
        "conformity": 1 - ratio(either - both, both),
        "tpr": ratio(both, reference),
        "tnr": ratio(outside, counts.sum() - reference),
        "ppv": ratio(both, predicted),
        "volume_ratio": ratio(predicted.astype(np.float64), reference),
    }
