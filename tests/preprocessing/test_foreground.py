"""Whitening over the foreground."""

import jax
import numpy as np
import pytest
from conftest import LANDMARKS

from cervjax.data.scanner import whiten_foreground as on_device
from cervjax.preprocessing.foreground import (
    MARGIN_MM,
    body_box,
    signal_voids,
    whiten_foreground,
)
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


SHOULDERS, NECK = np.s_[20:140, 30:90], np.s_[50:110, 40:85]


@pytest.fixture
def person():
    """A neck on shoulders, 1 x 1 x 4 mm, in air; slices 0-5 show the shoulders."""
    scan = np.zeros((160, 120, 24), np.float32)
    scan[(*NECK, slice(None))] = 400
    scan[(*SHOULDERS, slice(0, 6))] = 350
    return scan * np.random.default_rng(0).uniform(0.8, 1.2, scan.shape).astype("f4")


SPACING_MM = (1.0, 1.0, 4.0)
BOX = (slice(20 - 8, 140 + 8), slice(30 - 8, 90 + 8), slice(0, 24))


def test_the_box_holds_body_and_shoulders_and_a_margin(person):
    assert MARGIN_MM == 8
    assert body_box(person, SPACING_MM) == BOX
    neck = person[..., 6:]
    x, y, z = body_box(neck, SPACING_MM)
    assert (x, y) == (slice(42, 118), slice(32, 93)) and z == slice(0, 18)


def test_the_margin_is_in_millimetres_and_ends_with_the_scan(person):
    x, y, _ = body_box(person, (4.0, 0.5, 4.0))
    assert (x, y) == (slice(18, 142), slice(14, 106))
    near = body_box(person[15:], SPACING_MM)[0]
    assert near == slice(0, 140 + 8 - 15)


def test_noise_and_ghosts_in_the_air_are_left_out(person):
    rng = np.random.default_rng(1)
    noise = np.hypot(*rng.normal(0, 10, (2, *person.shape))).astype(np.float32)
    ghost = np.roll(person, 60, axis=1) * 0.06  # all over the phase direction
    bright = np.zeros_like(person)
    bright[2:6, 50:60, 10:14] = 900  # a vessel's ghost, or a tube beside the head
    bright[rng.integers(0, 160, 200), rng.integers(0, 120, 200), 3] = 900  # spikes
    assert body_box(person + noise + ghost + bright, SPACING_MM) == BOX


@pytest.mark.parametrize("empty", [np.s_[..., :3], np.s_[..., -8:]])
def test_empty_slices_change_nothing(person, empty):
    """As an interpolated or masked scan has them; all slices stay."""
    person[empty] = 0
    assert body_box(person, SPACING_MM) == BOX


def test_offset_and_scale_of_the_scanner_do_not_move_the_box(person):
    assert body_box(3 * person + 200, SPACING_MM) == BOX
    assert body_box(person - 90, SPACING_MM) == BOX


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_where_there_is_nothing_all_is_kept(value):
    scan = np.full((6, 5, 4), value, np.float32)
    assert body_box(scan, SPACING_MM) == tuple(slice(0, n) for n in scan.shape)


def test_a_scan_and_its_recipe_tell_what_was_taken(person):
    recipe = Recipe(
        spacing_mm=(2.0, 2.0, 4.0), padding=(3, 2, 1), normalisation="foreground"
    )
    found = prepare(person, person * 0.8, SPACING_MM, recipe)
    assert found.box == BOX and found.resampled_shape == (68, 38, 24)
    histogram = Recipe(
        {"in_phase": LANDMARKS, "out_phase": LANDMARKS}, padding=(1,) * 3
    )
    assert prepare(person, person, SPACING_MM, histogram).box is None


def test_where_the_coils_reach_not_there_is_no_signal():
    """A body whose signal falls to the noise of air on one side."""
    rng = np.random.default_rng(0)
    gain = np.r_[np.ones(20), np.linspace(1, 0, 16), np.zeros(12)][:, None, None]
    body = np.zeros((64, 48, 8), np.float32)
    body[8:56, 8:40] = 500 * gain
    noise = rng.normal(0, 20, (2, *body.shape))
    volume = np.hypot(body + noise[0], noise[1]).astype(np.float32) + 40
    found = signal_voids(volume, (1.0, 1.0, 3.0))
    assert not found[10:28, 10:38].any() and found[46:55, 10:38].all()
    assert found[:3].all() and found[:, :3].all()
    np.testing.assert_array_equal(found, signal_voids(7 * volume - 3, (1.0, 1.0, 3.0)))


def test_blanked_air_is_a_void_and_a_dim_muscle_is_not():
    volume = np.zeros((40, 40, 4), np.float32)
    volume[8:32, 8:32] = 100
    volume[8:32, 20:32] = 20  # a fifth of the others
    found = signal_voids(volume, (1.0, 1.0, 3.0))
    assert not found[10:30, 10:30].any() and found[:4].all()


def test_nothing_but_zeros_is_all_void():
    assert signal_voids(np.zeros((4, 4, 2), np.float32), (1.0, 1.0, 3.0)).all()
