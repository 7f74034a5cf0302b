"""Levels of slices from bodies, and the paper's rule."""

import numpy as np
import pytest

from cervjax.anatomy import LEVEL_CLASSES, MUSCLES
from cervjax.inference.levels import (
    LEVEL_NUMBERS,
    Level,
    SliceLevels,
    at_their_levels,
    levels_found,
    levels_line,
    levels_warnings,
    slice_levels,
)

VOXEL_ML = 0.01
SLICES = 60


def column(heights, *, disc=2, first=2):
    """A spine: bodies of so many slices from T1 up, discs between them."""
    classes, at, bounds = np.zeros((12, 12, SLICES), np.uint8), first, {}
    for name, height in zip(reversed(LEVEL_CLASSES), heights, strict=True):
        classes[3:9, 3:9, at : at + height] = LEVEL_CLASSES[name]
        bounds[name] = (at, at + height)
        at += height + disc
    return classes, bounds


def test_borders_lie_in_the_middle_of_discs():
    classes, bounds = column([6, 7, 5, 6, 6, 7, 6])
    levels = slice_levels(classes, VOXEL_ML)
    for name, (low, high) in bounds.items():
        inside = np.flatnonzero(levels.number == LEVEL_NUMBERS[name])
        assert inside[0] == low - 1 and inside[-1] == high
    assert np.all(np.diff(inside) == 1)
    assert not levels_warnings(levels)
    assert np.all(levels.confidence[levels.number > 0] > 0.9)


def test_levels_fall_with_height_even_where_the_network_errs():
    classes, bounds = column([6, 7, 5, 6, 6, 7, 6])
    rng = np.random.default_rng(0)
    low, high = bounds["C5"]
    wrong = rng.random((12, 12, high - low)) < 0.3  # C5 called C4 in many voxels
    part = classes[..., low:high]
    part[(part > 0) & wrong] = LEVEL_CLASSES["C4"]
    levels = slice_levels(classes, VOXEL_ML)
    assert np.all(levels.number[low:high] == LEVEL_NUMBERS["C5"])
    named = levels.number[levels.number > 0].astype(int)
    assert np.all(np.diff(named) <= 0)
    assert levels.confidence[low] < 0.8


def test_a_scan_that_begins_at_c4_has_no_lower_levels():
    classes, bounds = column([6, 7, 5, 6, 6, 7, 6])
    start = bounds["C4"][0]
    levels = slice_levels(classes[..., start:], VOXEL_ML)
    assert set(levels.number) == {0, 2, 3, 4}
    (warning,) = levels_warnings(levels)
    assert "C5, C6" in warning and "C4" not in warning


def test_a_few_voxels_are_no_level():
    classes = np.zeros((10, 10, 20), np.uint8)
    classes[5, 5, 3:6] = LEVEL_CLASSES["C6"]
    levels = slice_levels(classes, VOXEL_ML)
    assert not levels.number.any() and not levels.confidence.any()


def test_of_nothing_comes_nothing():
    levels = slice_levels(np.zeros((4, 4, 5), np.uint8), VOXEL_ML)
    assert not levels.number.any() and levels_warnings(levels)


@pytest.mark.parametrize("muscle", MUSCLES, ids=lambda m: m.key)
def test_each_muscle_is_kept_at_its_levels_of_table_1(muscle):
    level = np.array([0, 8, 7, 6, 5, 4, 3, 2], np.uint8)
    labels = np.full((2, 2, len(level)), muscle.label, np.uint8)
    kept = at_their_levels(labels, level)
    names = {number: name for name, number in LEVEL_NUMBERS.items()}
    for k, number in enumerate(level):
        wanted = muscle.label if names.get(int(number)) in muscle.levels else 0
        assert np.all(kept[..., k] == wanted)


def test_levels_are_listed_from_above_with_their_slices():
    number = np.array([0, 8, 8, 7, 5, 5, 5, 0], np.uint8)
    confidence = np.array([0, 0.5, 0.5, 1, 0.25, 0.25, 0.25, 0], np.float32)
    assert levels_found(SliceLevels(number, confidence)) == (
        Level("C5", 4, 6, 0.25),
        Level("C7", 3, 3, 1.0),
        Level("T1", 1, 2, 0.5),
    )
    nothing = SliceLevels(np.zeros(4, np.uint8), np.zeros(4, np.float32))
    assert levels_found(nothing) == ()


@pytest.mark.parametrize(
    ("found", "line"),
    [
        ("C3 C4 C5 C6 C7", "levels C3-C7 found; C2, T1 not"),
        ("C2 C3 C4 C5 C6 C7 T1", "levels C2-T1 found"),
        ("C2 C3 C5 C7", "levels C2, C3, C5, C7 found; C4, C6, T1 not"),
        ("C6", "levels C6 found; C2-C5, C7, T1 not"),
        ("", "no vertebral level found"),
    ],
)
def test_levels_in_a_line(found, line):
    assert levels_line([Level(name, 0, 1, 1.0) for name in found.split()]) == line
