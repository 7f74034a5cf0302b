"""Scans of tissue maps on the device."""

import functools
from dataclasses import replace

import jax
import numpy as np
import pytest

from cervjax.anatomy import CLASS_PERMUTATION, LEVEL_CLASSES
from cervjax.data.augment_intensity import Intensity
from cervjax.data.augment_spatial import Warp
from cervjax.data.contrast import Contrast, log_gain
from cervjax.data.scanner import Scanner
from cervjax.phantom.tissue_map import MAP_SPACING_MM
from cervjax.phantom.tissues import CODES

STILL = Warp(
    mirror=False,
    scale_percent=(0.0, 0.0, 0.0),
    rotation_deg=(0.0, 0.0, 0.0),
    elastic_probability=0.0,
)
PLAIN = Contrast(
    dixon=1.0,
    shift_mm=(0.0, 0.0, 0.0),
    slope=0.0,
    loss=0.0,
    texture=0.0,
    snr=(500.0, 501.0),
    clip=0.0,
)
WINDOW = (32, 32, 8)


def code(tissue, fat=0.0):
    return np.uint16(CODES[tissue] * 256 + round(255 * fat))


@pytest.fixture(scope="module")
def codes():
    """Right SCM, left SCM, a body and subcutaneous fat in a block of muscle."""
    block = np.full((1, 32, 32, 16), code("muscle"))
    block[0, 20:30, 20:28] = code("9")
    block[0, 2:10, 20:28] = code("10")
    block[0, 13:19, 12:18] = code("marrow C5", 0.4)
    block[0, :, :6] = code("fat", 0.95)
    return block


FINE = tuple(s * f for s, f in zip(MAP_SPACING_MM, (1, 1, 2), strict=True))
DIXON = Scanner(WINDOW, FINE, STILL, PLAIN, Intensity())
RANDOM = Scanner(
    WINDOW,
    FINE,
    STILL._replace(mirror=True),
    PLAIN._replace(dixon=0.0, unordered=1.0),
    Intensity(),
)
PICTURES = Scanner(WINDOW, FINE, STILL, PLAIN, Intensity())
WIDE = PLAIN._replace(shift_mm=(60.0, 0.0, 0.0))
DARK = Scanner(WINDOW, (4.0, 4.0, 2.5), STILL, WIDE._replace(loss=1.0), Intensity())
FAR = Scanner(
    WINDOW, (1.6, 1.6, 2.5), STILL, PLAIN._replace(shift_mm=(60.0, 0, 0)), Intensity()
)


@functools.cache
def compiled(scanner):
    return jax.jit(scanner)


def scan(codes, key, scanner):
    image, classes = compiled(scanner)(jax.random.key(key), codes)
    return np.asarray(image), np.asarray(classes)


def test_classes_are_those_of_the_tissues(codes):
    _, classes = scan(codes, 0, DIXON)
    tissue = codes[..., ::2] >> 8
    assert np.all(classes[tissue == CODES["9"]] == 9)
    assert np.all(classes[tissue == CODES["10"]] == 10)
    assert np.all(classes[tissue == CODES["marrow C5"]] == LEVEL_CLASSES["C5"])
    assert np.all(classes[tissue == CODES["muscle"]] == 0)


def test_a_mirrored_neck_has_its_sides_exchanged(codes):
    _, plain = scan(codes, 0, DIXON)
    seen = [scan(codes, key, RANDOM)[1] for key in range(8)]
    mirrored = [c for c in seen if not np.array_equal(c, plain)]
    assert 0 < len(mirrored) < len(seen)
    np.testing.assert_array_equal(CLASS_PERMUTATION[mirrored[0][:, ::-1]], plain)
    right, left = (np.argwhere(mirrored[0][0] == k)[:, 0].mean() for k in (9, 10))
    assert right > left  # x grows to the right, mirrored or not


def test_dixon_shows_fat_by_the_difference_of_echoes(codes):
    """Fat is bright in-phase, and takes its signal away from water's out of phase."""
    image, _ = scan(codes, 3, DIXON)
    in_phase, out_phase = np.moveaxis(image[0], -1, 0)
    fat, muscle = np.s_[10:20, 1:4, 2:6], np.s_[10:20, 29:31, 2:6]
    assert in_phase[fat].mean() > in_phase[muscle].mean() + 1
    border = np.s_[10:20, 5:7, 2:6]  # water and fat in one voxel cancel
    assert out_phase[border].min() < out_phase[muscle].mean() - 1


def test_one_contrast_is_the_same_in_both_channels(codes):
    image, _ = scan(codes, 0, RANDOM)
    np.testing.assert_allclose(image[..., 0], image[..., 1], atol=1e-5)


def test_every_key_draws_another_contrast(codes):
    one, other = (scan(codes, k, RANDOM)[0] for k in (1, 2))
    assert np.abs(one - other).mean() > 0.1


def test_windows_may_lie_beside_the_neck_and_see_air_there(codes):
    seen = [(scan(codes, k, FAR)[1] == 9).sum() for k in range(8)]
    assert min(seen) == 0
    fine = (scan(codes, 0, DIXON)[1] == 9).sum()
    assert abs(max(seen) / fine - 1 / 4) < 0.06  # voxels are four times as large


def test_an_image_keeps_its_own_greys(codes):
    """The low byte is seen as it is, but for gain and curve, in both channels."""
    image = codes.copy()
    image[0] = (codes[0] & 0xFF00) | 40
    image[0, 20:30, 20:28] = code("9") | 120
    seen, classes = jax.jit(PICTURES)(jax.random.key(0), image, np.array([True]))
    _, expected = scan(codes, 0, DIXON)
    np.testing.assert_array_equal(classes, expected)
    seen = np.asarray(seen)
    np.testing.assert_array_equal(seen[..., 0], seen[..., 1])
    inside = seen[0, 22:28, 22:26, 2:6, 0]
    assert np.abs(inside - np.median(seen)).mean() > 1


def test_a_window_of_an_image_without_muscle_is_finite(codes):
    """Such as one that lies beside what was outlined."""
    for content in (0, code("fat", 0.5)):
        nothing = np.full_like(codes, content)
        seen, classes = jax.jit(PICTURES)(jax.random.key(0), nothing, np.array([True]))
        assert np.isfinite(np.asarray(seen)).all() and not np.asarray(classes).any()


def test_where_coils_see_nothing_nothing_is_outlined(codes):
    """Classes are taken away where it is dark, and nowhere else."""
    dark, light = (
        jax.jit(replace(DARK, contrast=WIDE._replace(loss=p))) for p in (1.0, 0.0)
    )
    lost = []
    for key in map(jax.random.key, range(40)):
        classes, whole = (np.asarray(f(key, codes)[1]) for f in (dark, light))
        assert np.all((classes == whole) | (classes == 0))
        lost.append(bool(((whole > 0) & (classes == 0)).any()))
    assert 2 < sum(lost) < 30


def test_log_gain_falls_beyond_a_line_only_where_it_is_asked_for():
    shape, spacing = (64, 64, 4), (2.0, 2.0, 3.0)
    for key in range(4):
        flat, falls = (
            np.asarray(
                log_gain(jax.random.key(key), shape, spacing, PLAIN._replace(loss=p))
            )
            for p in (0.0, 1.0)
        )
        loss = flat - falls
        assert loss.min() < 0.1 and loss.max() > 2.5  # one side is dark, one is not
        assert np.ptp(loss, axis=2).max() < 1e-5
