import numpy as np
from scipy import ndimage

from cervjax.preprocessing.resampling import resample, resample_labels, resampled_shape

TARGET_MM = (0.7, 0.7, 3.0)


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
