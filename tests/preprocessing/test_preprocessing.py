from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from cervjax.io.nifti import read_volume
from cervjax.preprocessing.pipeline import (
    CHANNELS,
    Recipe,
    foreground,
    format_landmarks,
    map_histogram,
    pad,
    percentiles,
    prepare,
    read_landmarks,
    resample,
    resample_labels,
    resampled_shape,
    shared_foreground,
    train_landmarks,
    unpad,
    whiten,
)

TARGET_MM = (0.7, 0.7, 3.0)
CASES = ("a_LAS_oblique", "b_LPI_axial", "d_RAS_same_grid", "e_RAS_much_air")


@pytest.mark.parametrize("case", CASES)
def test_every_step_equals_niftynet(golden, case):
    folder = golden / "preproc"
    recipe = Recipe(read_landmarks(folder / "standardisation_models.txt"))
    pair = [
        read_volume(folder / case / f"sub-{case}_{c}.nii.gz") for c in ("IN", "OPP")
    ]
    resampled = [resample(v.data, v.spacing_mm, TARGET_MM) for v in pair]
    expected = np.load(folder / f"{case}_reader.npy")
    for i, volume in enumerate(resampled):
        np.testing.assert_array_equal(volume, expected[..., i])
    stages = np.load(folder / f"{case}_stages.npz")
    padded = [pad(v, (90, 60, 8), "minimum") for v in resampled]
    probe = np.stack([v[::15, ::15, ::2] for v in padded], -1)
    np.testing.assert_array_equal(probe, stages["padded_pad_probe"])
    mask = shared_foreground(padded)
    bits = np.unpackbits(stages["mask_bits"])[: mask.size].reshape(mask.shape)
    np.testing.assert_array_equal(mask, bits.astype(bool))
    prepared = prepare(pair[0].data, pair[1].data, pair[0].spacing_mm, recipe)
    assert prepared.resampled_shape == expected.shape[:3]
    assert np.abs(prepared.image - stages["whitened"]).max() < 1e-5


@pytest.mark.parametrize("kind", ["threshold_plus", "otsu_plus", "none"])
def test_trained_landmarks_equal_niftynets(golden, kind):
    folder = golden / "histogram_training"

    def pairs():
        for subject in ("s0", "s1", "s2"):
            files = [
                read_volume(folder / "images" / f"sub-{subject}_{c}.nii.gz")
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


def test_a_plane_that_zoom_loses_is_kept_on_request():
    """22 planes to 20: (20 - 1) * (21 / 19) rounds to a hair over 21."""
    volume = np.ones((22, 4, 4), np.float32)
    lost = resample(volume, (1.0, 1.0, 1.0), (1.1, 1.0, 1.0))
    kept = resample(volume, (1.0, 1.0, 1.0), (1.1, 1.0, 1.0), keep_last_plane=True)
    assert lost.shape == kept.shape == (20, 4, 4)
    assert not lost[-1].any()
    np.testing.assert_allclose(kept, 1, rtol=1e-6)
    np.testing.assert_allclose(kept[:-1], lost[:-1], rtol=1e-6)
    labels = resample_labels(volume.astype(np.uint8), (20, 4, 4), keep_last_plane=True)
    assert labels.min() == 1


def test_resampling_is_corner_aligned():
    """Output k reads input k (n_in - 1) / (n_out - 1); another SciPy routine agrees."""
    volume = np.random.default_rng(0).normal(size=(9, 7, 5))
    fine = resample(volume, (2.0, 1.0, 1.5), (1.0, 1.1, 1.0))
    assert fine.shape == (18, 6, 8)
    axes = [
        np.linspace(0, n - 1, m) for n, m in zip(volume.shape, fine.shape, strict=True)
    ]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))
    expected = ndimage.map_coordinates(volume, grid, order=3, mode="mirror")
    np.testing.assert_allclose(fine, expected, atol=1e-9)


def test_shapes_round_half_to_even():
    assert resampled_shape((5, 7, 4), (0.5, 0.5, 3.0), (1.0, 1.0, 3.0)) == (2, 4, 4)


def test_equal_spacing_is_not_touched_and_float32_spacing_is():
    volume = np.zeros((8, 8, 8), np.float32)
    volume[4, 4, 4] = 1
    np.testing.assert_array_equal(resample(volume, TARGET_MM, TARGET_MM), volume)
    near = tuple(float(np.float32(v)) for v in TARGET_MM)
    filtered = resample(volume, near, TARGET_MM)
    np.testing.assert_allclose(filtered, volume, atol=1e-6)
    assert (filtered != volume).any()


def test_denormals_are_flushed():
    volume = np.array([[[1e-40, 1.0], [0.0, -1e-41]]], np.float32)
    flushed = resample(volume, TARGET_MM, TARGET_MM)
    np.testing.assert_array_equal(flushed, [[[0, 1], [0, 0]]])
    kept = resample(volume, TARGET_MM, TARGET_MM, flush_denormals=False)
    assert (kept != 0).sum() == 3


def test_minimum_padding_is_each_lines_own():
    volume = np.array([[[5.0], [1.0]], [[2.0], [4.0]]])  # x, y, z
    padded = pad(volume, (1, 1, 0), "minimum")[..., 0]
    expected = [[1, 2, 1, 1], [1, 5, 1, 1], [2, 2, 4, 2], [1, 2, 1, 1]]
    np.testing.assert_array_equal(padded, expected)
    assert pad(volume, (1, 1, 0), "zero")[0, 0, 0] == 0
    np.testing.assert_array_equal(
        unpad(pad(volume, (3, 1, 2), "zero"), (3, 1, 2)), volume
    )


def test_foreground_is_dilated_filled_and_shared():
    volume = np.zeros((15, 15, 15))
    volume[4:11, 4:11, 4:11] = 1
    volume[6:9, 6:9, 6:9] = 0  # a hole
    mask = foreground(volume)
    assert mask[7, 7, 7] and mask[2, 7, 7] and not mask[1, 7, 7]
    assert not mask[2, 2, 7]  # 6 neighbours, not 26
    other = volume.copy()
    other[:8] = 0
    both = shared_foreground([volume, other])
    np.testing.assert_array_equal(both, mask & foreground(other))
    np.testing.assert_array_equal(shared_foreground([volume, volume * 0]), mask)


def test_histogram_meets_its_landmarks_and_goes_on_straight_beyond():
    rng = np.random.default_rng(0)
    volume = rng.gamma(2, 100, (20, 20, 20)).astype(np.float32)
    landmarks = np.array([0, 2, 4, 5, 6, 10, 20, 30, 50, 60, 70, 80, 100.0])
    result = map_histogram(volume, percentiles(volume, (0.001, 1.0)), landmarks)
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
    beyond = map_histogram(probe, percentiles(volume, (0.001, 0.95)), landmarks)
    assert beyond.max() > 100


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_percentiles_are_numpys(size):
    values = np.random.default_rng(0).normal(size=size).astype(np.float32)
    percents = [0.1, 10, 20, 25, 30, 40, 50, 60, 70, 75, 80, 90, 100]
    expected = np.percentile(values.astype(float), percents)
    np.testing.assert_allclose(percentiles(values, (0.001, 1.0)), expected, rtol=1e-12)


def test_flat_parts_of_a_histogram_get_slope_zero():
    volume = np.zeros((10, 10, 10), np.float32)
    volume.flat[:300] = np.arange(300)
    landmarks = np.linspace(0, 100, 13)
    result = map_histogram(volume, percentiles(volume, (0.001, 1.0)), landmarks)
    assert np.all(np.isfinite(result))


@pytest.mark.parametrize("mode", ["minimum", "zero"])
def test_shortcuts_give_what_the_steps_give_one_after_the_other(mode):
    """Holes that open into the padding, bright edges, odd paddings."""
    rng = np.random.default_rng(0)
    recipe = Recipe(
        {c: tuple(np.cumsum(rng.random(13))) for c in CHANNELS},
        spacing_mm=(1.0, 1.0, 1.0),
        padding=(9, 4, 1),
        padding_mode=mode,
    )
    for fill in (0.02, 0.5):
        pair = rng.gamma(2, 100, (2, 14, 12, 10)).astype(np.float32)
        pair *= rng.random(pair.shape) < fill
        pair[:, :, 3:6, 4:7] = 0  # a tunnel along x, from face to face
        padded = [pad(v, recipe.padding, mode) for v in pair]
        mask = shared_foreground(padded)
        assert mask.any()
        expected = [
            whiten(map_histogram(v, percentiles(v[mask], recipe.cutoff), marks), mask)
            for v, marks in zip(
                padded, np.float32([*recipe.landmarks.values()]), strict=True
            )
        ]
        prepared = prepare(*pair, recipe.spacing_mm, recipe)
        np.testing.assert_array_equal(prepared.image, np.stack(expected, -1))


def test_a_grid_that_fits_is_left_alone_on_request():
    pair = np.random.default_rng(0).gamma(2, 100, (2, 12, 12, 12)).astype(np.float32)
    pair[:, :, 6:] = 0
    near = (0.71, 0.7, 3.0)  # 12 voxels stay 12: the spline reads them where they are
    np.testing.assert_allclose(resample(pair[0], near, TARGET_MM), pair[0], atol=1e-4)
    landmarks = {c: tuple(range(13)) for c in CHANNELS}
    recipe = Recipe(landmarks, padding=(0, 0, 0), skip_fitting_grid=True)
    exact = prepare(*pair, TARGET_MM, recipe).image
    np.testing.assert_array_equal(prepare(*pair, near, recipe).image, exact)
    faithful = replace(recipe, skip_fitting_grid=False)
    assert (prepare(*pair, near, faithful).image != exact).any()
    assert prepare(*pair, (0.8, 0.7, 3.0), recipe).image.shape[0] == 14


def test_whitening_is_over_the_mask_only():
    rng = np.random.default_rng(0)
    volume = rng.normal(50, 7, (12, 12, 12)).astype(np.float32)
    mask = rng.random(volume.shape) > 0.5
    white = whiten(volume, mask)
    assert white[mask].mean() == pytest.approx(0, abs=1e-5)
    assert white[mask].std() == pytest.approx(1, abs=1e-5)
    assert np.all(whiten(np.full((3, 3, 3), 4.0), np.ones((3, 3, 3), bool)) == 0)


def test_no_common_foreground_is_an_error():
    left, right = np.zeros((2, 30, 8, 8), np.float32)
    left[:5], right[-5:] = 1, 1
    recipe = Recipe({c: tuple(range(13)) for c in CHANNELS}, padding=(1, 1, 1))
    with pytest.raises(ValueError, match="no foreground"):
        prepare(left, right, TARGET_MM, recipe)


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


def test_holes_are_filled_by_an_independent_flood():
    rng = np.random.default_rng(3)
    volume = (rng.random((16, 16, 16)) > 0.9).astype(float)
    grown = ndimage.binary_dilation(volume > 0, iterations=2)
    outside = np.pad(~grown, 1, constant_values=True)
    regions, _ = ndimage.label(outside)
    expected = ~(regions == regions[0, 0, 0])[1:-1, 1:-1, 1:-1]
    np.testing.assert_array_equal(foreground(volume), expected)
