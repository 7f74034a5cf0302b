"""Overlap of two label maps: counts of voxels, and the measures of the paper's Table 4.

Where a measure has no value it is NaN and is left out of means, never 0 or 1: a muscle
in neither map has none at all; a muscle in the reference alone has no PPV, and no
conformity; a muscle in the prediction alone has no TPR, conformity or volume ratio.
"""

import numpy as np
from scipy import ndimage

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


def surface_distances(
    predicted: np.ndarray, reference: np.ndarray, spacing_mm: tuple[float, float, float]
) -> dict[str, np.ndarray]:
    """Distances between the surfaces of each label, in both directions together.

    A surface is the voxels of a label that have a face neighbour (or the volume's own
    face) outside it; distances run between voxel centres, to the nearest one.

    Args:
        predicted: integers 0-14, (x, y, z).
        reference: the same.
        spacing_mm: voxel size.

    Returns:
        ``surface_distance_mm``, the mean, and ``hausdorff95_mm``, the larger of the two
        directions' 95th percentiles; float64 (14,), NaN where a map lacks the label.
    """
    mean, far = np.full((2, NUM_CLASSES - 1), np.nan)
    boxes = ndimage.find_objects(np.maximum(predicted, 0), NUM_CLASSES - 1)
    others = ndimage.find_objects(np.maximum(reference, 0), NUM_CLASSES - 1)
    for k, (one, two) in enumerate(zip(boxes, others, strict=True)):
        if one is None or two is None:
            continue
        box = tuple(
            slice(min(a.start, b.start), max(a.stop, b.stop))
            for a, b in zip(one, two, strict=True)
        )
        surfaces = [_surface(m[box] == k + 1) for m in (predicted, reference)]
        near = [ndimage.distance_transform_edt(~s, spacing_mm) for s in surfaces]
        there, back = near[1][surfaces[0]], near[0][surfaces[1]]
        mean[k] = np.concatenate([there, back]).mean()
        far[k] = max(np.percentile(there, 95), np.percentile(back, 95))
    return {"surface_distance_mm": mean, "hausdorff95_mm": far}


def _surface(mask: np.ndarray) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask)
