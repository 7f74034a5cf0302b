from dataclasses import replace

import numpy as np
import pytest

from cervjax.io.nifti import read_nifti
from cervjax.preprocessing.histogram import (
    CHANNELS,
    foreground,
    percentiles,
    read_landmarks,
    standardise,
)
from cervjax.preprocessing.pipeline import (
    Recipe,
    pad,
    prepare,
    to_network_grid,
    unpad,
    whiten,
)
from cervjax.preprocessing.resampling import resample

TARGET_MM = (0.7, 0.7, 3.0)
CASES = ("a_LAS_oblique", "b_LPI_axial", "d_RAS_same_grid", "e_RAS_much_air")


def shared_foreground(volumes: list[np.ndarray]) -> np.ndarray:
    """What `prepare` finds by a shorter way."""
    return np.logical_and.reduce([foreground(v) for v in volumes if np.any(v)])


@pytest.mark.parametrize("case", CASES)
def test_every_step_equals_niftynet(golden, case):
    folder = golden / "preproc"
    recipe = Recipe(read_landmarks(folder / "standardisation_models.txt"))
    pair = [read_nifti(folder / case / f"sub-{case}_{c}.nii.gz") for c in ("IN", "OPP")]
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


def test_minimum_padding_is_each_lines_own():
    volume = np.array([[[5.0], [1.0]], [[2.0], [4.0]]])  # x, y, z
    padded = pad(volume, (1, 1, 0), "minimum")[..., 0]
    expected = [[1, 2, 1, 1], [1, 5, 1, 1], [2, 2, 4, 2], [1, 2, 1, 1]]
    np.testing.assert_array_equal(padded, expected)
    assert pad(volume, (1, 1, 0), "zero")[0, 0, 0] == 0
    np.testing.assert_array_equal(
        unpad(pad(volume, (3, 1, 2), "zero"), (3, 1, 2)), volume
    )


def test_a_channel_of_zeros_does_not_empty_the_foreground():
    volume = np.zeros((9, 8, 7), np.float32)
    volume[3:6, 3:6, 2:5] = np.arange(27).reshape(3, 3, 3)
    recipe = Recipe({c: tuple(range(13)) for c in CHANNELS}, padding=(1, 1, 1))
    image = prepare(volume, 0 * volume, TARGET_MM, recipe).image
    assert image[..., 0].std() > 0 and not image[..., 1].any()


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
            whiten(standardise(v, percentiles(v[mask], recipe.cutoff), marks), mask)
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


def test_onto_the_network_grid_as_the_recipe_has_it():
    volume = np.ones((22, 4, 4), np.float32)  # of its 20 planes zoom loses the last
    recipe = Recipe(spacing_mm=(1.1, 1.0, 1.0))
    one_mm = (1.0, 1.0, 1.0)
    assert not to_network_grid(volume, one_mm, recipe)[-1].any()
    kept = replace(recipe, keep_last_plane=True)
    assert to_network_grid(volume, one_mm, kept)[-1].all()
    tiny = np.full((4, 4, 4), 1e-40, np.float32)
    equal = replace(recipe, spacing_mm=one_mm)
    assert not to_network_grid(tiny, one_mm, equal).any()
    assert to_network_grid(tiny, one_mm, equal, flush_denormals=False).all()
