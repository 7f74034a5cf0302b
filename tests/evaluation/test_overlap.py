"""Overlap: genuine NiftyNet's values, hand-made masks."""

import json

import numpy as np
import pytest

from cervjax.evaluation.overlap import (
    MEASURES,
    confusion,
    dice_per_label,
    overlap_measures,
)


def boxes(*corners: tuple[slice, ...], shape=(12, 10, 8)) -> np.ndarray:
    """Label map with label k in the k-th box."""
    labels = np.zeros(shape, np.uint8)
    for k, box in enumerate(corners, start=1):
        labels[box] = k
    return labels


def test_niftynets_metrics(golden):
    arrays = np.load(golden / "losses" / "metric_inputs.npz")
    values = json.loads((golden / "losses" / "values.json").read_text())
    genuine = values["metrics_per_class"]
    found = overlap_measures(confusion(arrays["seg"], arrays["ref"]))
    for ours, theirs in (
        ("dice", "dice"),
        ("jaccard", "jaccard"),
        ("tpr", "sensitivity"),
        ("tnr", "specificity"),
        ("ppv", "positive_predictive_values"),
        ("volume_ratio", "vol_diff"),
    ):
        expected = np.array(genuine[theirs], float)[1:]
        expected[~np.isfinite(expected)] = np.nan  # infinite: no reference voxel
        np.testing.assert_allclose(found[ours], expected, rtol=1e-12, err_msg=ours)


def test_by_hand():
    """12 shared of 16 predicted and 18 reference voxels, in 960."""
    reference = boxes((slice(0, 3), slice(0, 3), slice(0, 2)))
    predicted = boxes((slice(0, 2), slice(0, 3), slice(0, 2)))
    predicted[9, 9, 0:4] = 1
    found = {
        k: v[0] for k, v in overlap_measures(confusion(predicted, reference)).items()
    }
    assert found == pytest.approx(
        {
            "dice": 24 / 34,
            "jaccard": 12 / 22,
            "conformity": 1 - 10 / 12,
            "tpr": 12 / 18,
            "tnr": 938 / 942,
            "ppv": 12 / 16,
            "volume_ratio": 16 / 18,
        }
    )
    assert found["conformity"] == pytest.approx((3 * found["dice"] - 2) / found["dice"])


def test_empty_and_full_masks():
    """In neither, in the reference only, in the prediction only, everywhere."""
    one = boxes((slice(0, 3),))
    two = np.where(one == 1, np.uint8(2), one)
    found = overlap_measures(confusion(two, one))
    nan = np.nan
    expected = {
        "dice": (0, 0, nan),
        "jaccard": (0, 0, nan),
        "conformity": (nan, nan, nan),
        "tpr": (0, nan, nan),
        "tnr": (1, 1 - 240 / 960, nan),
        "ppv": (nan, 0, nan),
        "volume_ratio": (0, nan, nan),
    }
    for name in MEASURES:
        np.testing.assert_allclose(found[name][:3], expected[name], err_msg=name)
    full = np.ones_like(one)
    found = overlap_measures(confusion(full, full))
    assert found["dice"][0] == found["conformity"][0] == 1
    assert np.isnan(found["tnr"][0])  # there is no outside
    assert np.isnan(dice_per_label(confusion(full, full))[1])


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="differ in shape"):
        confusion(np.zeros((2, 2, 2), int), np.zeros((2, 2, 3), int))
