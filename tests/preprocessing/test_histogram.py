import sys

import numpy as np
import pytest
from scipy import ndimage

from cervjax.io.nifti import read_nifti
from cervjax.preprocessing.histogram import (
    CHANNELS,
    foreground,
    format_landmarks,
    percentiles,
    read_landmarks,
    standardise,
    train_landmarks,
)
from cervjax.preprocessing.resampling import resample

TARGET_MM = (0.7, 0.7, 3.0)


@pytest.mark.parametrize("kind", ["threshold_plus", "otsu_plus", "none"])
def test_trained_landmarks_equal_niftynets(golden, kind):
    folder = golden / "histogram_training"

    def pairs():
        for subject in ("s0", "s1", "s2"):
            files = [
                read_nifti(folder / "images" / f"sub-{subject}_{c}.nii.gz")
                for c in ("IN", "OPP")
            ]
            yield tuple(
                resample(v.data, v.spacing_mm, TARGET_MM, flush_denormals=False)
                for v in files
            )

    learnt = train_landmarks(pairs(), foreground_type=kind)
    name = {"none": "no_mask"}.get(kind, kind)
    rows = (folder / f"trained_{name}.txt").read_text().splitlines()
    for channel, row in zip(CHANNELS, rows, strict=False):
        expected = np.array(row.split()[1:], float)
        np.testing.assert_allclose(learnt[channel], expected, atol=1e-5)


def test_histogram_meets_its_landmarks_and_goes_on_straight_beyond():
    rng = np.random.default_rng(0)
    volume = rng.gamma(2, 100, (20, 20, 20)).astype(np.float32)
    landmarks = np.array([0, 2, 4, 5, 6, 10, 20, 30, 50, 60, 70, 80, 100.0])
    result = standardise(volume, percentiles(volume, (0.001, 1.0)), landmarks)
    for percent, landmark in (
        (0.1, 0),
        (10, 2),
        (50, 20),
        (60, 30),
        (90, 80),
        (100, 100),
    ):
        assert np.percentile(result, percent) == pytest.approx(landmark, abs=0.05)
    # 25 % is skipped: between 20 % and 30 % the map is one straight line
    points = np.percentile(volume, (20, 25, 30))
    share = (points[1] - points[0]) / (points[2] - points[0])
    assert np.percentile(result, 25) == pytest.approx(4 + 2 * share, abs=0.02)
    order = np.argsort(volume.ravel())
    assert np.all(np.diff(result.ravel()[order]) >= -1e-4)
    probe = volume.copy()
    probe[0, 0, 0] = 2 * volume.max()
    beyond = standardise(probe, percentiles(volume, (0.001, 0.95)), landmarks)
    assert beyond.max() > 100


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_percentiles_are_numpys(size):
    values = np.random.default_rng(0).normal(size=size).astype(np.float32)
    percents = [0.1, 10, 20, 25, 30, 40, 50, 60, 70, 75, 80, 90, 100]
    expected = np.percentile(values.astype(float), percents)
    np.testing.assert_allclose(percentiles(values, (0.001, 1.0)), expected, rtol=1e-12)


def test_the_ends_stay_outside_the_landmarks_between_them():
    values = np.arange(1001, dtype=np.float32)
    ends = percentiles(values, (0.3, 0.7))[[0, -1]]
    np.testing.assert_allclose(ends, (90, 910))


def test_flat_parts_of_a_histogram_get_slope_zero():
    volume = np.zeros((10, 10, 10), np.float32)
    volume.flat[:300] = np.arange(300)
    landmarks = np.linspace(0, 100, 13)
    result = standardise(volume, percentiles(volume, (0.001, 1.0)), landmarks)
    assert np.all(np.isfinite(result))


def test_landmark_files_round_trip_and_are_checked(tmp_path):
    landmarks = {
        c: tuple(float(np.float32(v)) for v in np.linspace(0, 100, 13) + i)
        for i, c in enumerate(CHANNELS)
    }
    path = tmp_path / "standardisation_models.txt"
    path.write_text(format_landmarks(landmarks))
    assert read_landmarks(path) == landmarks
    good = path.read_text()
    for text, reason in (
        (good.replace("OP ", "T1 "), "rows IP and OP"),
        (good.replace(" 100.0", ""), "13 rising numbers"),
        (good.replace("IP 0.0", "IP 50.0"), "13 rising numbers"),
        (good + "label_label-from 0 1\nlabel_label-to 0 2\n", "identity"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=reason):
            read_landmarks(path)


def test_training_landmarks_needs_scans():
    with pytest.raises(ValueError, match="at least one pair"):
        train_landmarks([])
    flat = np.ones((4, 4, 4), np.float32)
    with pytest.raises(ValueError, match="no width"):
        train_landmarks([(flat, flat)])


def test_foreground_is_dilated_and_filled():
    volume = np.zeros((15, 15, 15))
    volume[4:11, 4:11, 4:11] = 1
    volume[6:9, 6:9, 6:9] = 0  # a hole
    mask = foreground(volume)
    assert mask[7, 7, 7] and mask[2, 7, 7] and not mask[1, 7, 7]
    assert not mask[2, 2, 7]  # 6 neighbours, not 26


def test_otsus_threshold_without_scikit_image(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.filters", None)
    ramp = np.arange(64.0).reshape(4, 4, 4)
    with pytest.raises(ValueError, match="needs scikit-image.*pip install"):
        train_landmarks([(ramp, ramp)], foreground_type="otsu_plus")


def test_holes_are_filled_by_an_independent_flood():
    rng = np.random.default_rng(3)
    volume = (rng.random((16, 16, 16)) > 0.9).astype(float)
    grown = ndimage.binary_dilation(volume > 0, iterations=2)
    outside = np.pad(~grown, 1, constant_values=True)
    regions, _ = ndimage.label(outside)
    expected = ~(regions == regions[0, 0, 0])[1:-1, 1:-1, 1:-1]
    np.testing.assert_array_equal(foreground(volume), expected)
