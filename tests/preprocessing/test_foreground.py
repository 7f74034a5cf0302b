"""Whitening over the foreground."""

import jax
import numpy as np
import pytest

from cervjax.data.contrast import whiten_foreground as on_device
from cervjax.preprocessing.foreground import whiten_foreground
from cervjax.preprocessing.pipeline import Recipe, prepare


@pytest.fixture
def volume():
    rng = np.random.default_rng(0)
    body = rng.normal(500, 100, (16, 20, 8)).astype(np.float32).clip(200)
    return np.pad(body, [(4, 4), (6, 6), (0, 0)])


def test_the_body_has_mean_0_and_standard_deviation_1(volume):
    white = whiten_foreground(volume)[volume > 0]
    assert abs(white.mean()) < 1e-5 and abs(white.std() - 1) < 1e-5


def test_scale_and_offset_of_the_scanner_do_not_matter(volume):
    np.testing.assert_allclose(
        whiten_foreground(volume * 7 + 30), whiten_foreground(volume), atol=1e-4
    )


def test_air_around_the_body_does_not_matter(volume):
    wide = np.pad(volume, [(40, 40), (40, 40), (0, 0)])
    inner = whiten_foreground(wide)[40:-40, 40:-40]
    np.testing.assert_allclose(inner, whiten_foreground(volume), atol=1e-5)


def test_training_whitens_in_the_same_way(volume):
    both = np.stack([volume, volume[::-1] ** 1.3], -1)
    found = jax.jit(on_device)(both)
    for channel in (0, 1):
        np.testing.assert_allclose(
            found[..., channel], whiten_foreground(both[..., channel]), atol=1e-4
        )


def test_a_recipe_pads_with_air_and_needs_no_landmarks(volume):
    recipe = Recipe(
        spacing_mm=(1.0, 1.0, 3.0),
        padding=(3, 2, 1),
        padding_mode="zero",
        skip_fitting_grid=True,
        normalisation="foreground",
    )
    found = prepare(volume, volume * 2, (1.0, 1.0, 3.0), recipe).image
    assert found.shape == (30, 36, 10, 2)
    white = whiten_foreground(volume)
    np.testing.assert_array_equal(found[3:-3, 2:-2, 1:-1, 0], white)
    assert np.all(found[:3] == white.min())


def test_a_channel_that_is_the_same_everywhere_is_refused(volume):
    recipe = Recipe(padding=(0, 0, 0), normalisation="foreground")
    with pytest.raises(ValueError, match="no foreground"):
        prepare(volume, np.ones_like(volume), (0.7, 0.7, 3.0), recipe)
