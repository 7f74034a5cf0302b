"""Resampling by a matrix per axis."""

import numpy as np
import pytest
from scipy import ndimage

from cervjax.preprocessing.separable import axis_matrix, resample_to


@pytest.fixture
def volume():
    return np.random.default_rng(0).normal(size=(17, 12, 9)).astype(np.float32)


@pytest.mark.parametrize("shape", [(23, 12, 9), (17, 30, 20), (40, 13, 9)])
def test_enlarging_equals_scipys_spline(volume, shape):
    factors = np.divide(shape, volume.shape)
    expected = ndimage.zoom(volume.astype(float), factors, order=3, mode="mirror")
    np.testing.assert_allclose(resample_to(volume, shape), expected, atol=2e-5)


def test_its_own_grid_is_left_alone(volume):
    np.testing.assert_array_equal(resample_to(volume, volume.shape), volume)


@pytest.mark.parametrize("count", [5, 9, 16, 33])
def test_constants_stay_and_corners_lie_on_corners(count):
    matrix = axis_matrix(16, count)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-5)
    ramp = matrix @ np.arange(16, dtype=np.float32)
    inner = slice(3, -3) if count > 9 else slice(2, -2)
    expected = np.linspace(0, 15, count)
    np.testing.assert_allclose(ramp[inner], expected[inner], atol=0.12)


def test_reducing_removes_what_the_new_grid_cannot_show():
    """Stripes of two voxels vanish on a grid of three; SciPy alone aliases them."""
    stripes = np.tile([1.0, -1.0], 24).astype(np.float32)
    reduced = axis_matrix(48, 16) @ stripes
    assert np.abs(reduced[2:-2]).max() < 0.05
    aliased = ndimage.zoom(stripes, 1 / 3, order=3, mode="mirror")
    assert np.abs(aliased).max() > 0.5


def test_noise_shrinks_as_voxels_grow():
    noise = np.random.default_rng(1).normal(size=(64, 64, 8)).astype(np.float32)
    assert resample_to(noise, (32, 32, 8)).std() < 0.75
