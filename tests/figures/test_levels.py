import numpy as np
import pytest

from cervjax.anatomy import MUSCLES
from cervjax.figures.levels import (
    LEVEL_NUMBERS,
    LEVELS,
    slices_of_map,
    slices_of_muscles,
)
from cervjax.phantom.sampling import at_table_1

HEIGHTS = (4, 6, 5, 5, 6, 5, 3)  # slices of T1, C7, C6 ... C2, from below


def neck(heights=HEIGHTS):
    """Labels by the phantom's own rule, and its map of levels; slices of 3 mm."""
    by_slice = np.repeat(np.arange(8, 1, -1), heights)
    everywhere = np.zeros((32, 4, len(by_slice)), np.uint8)
    for m in MUSCLES:
        everywhere[2 * m.label : 2 * m.label + 2] = m.label
    levels = np.broadcast_to(by_slice, everywhere.shape).astype(np.uint8)
    return at_table_1(everywhere, by_slice), levels


def indices(found):
    return {s.level: s.index for s in found}


def test_middles_of_the_levels():
    expected = {"C6": 12, "C5": 17, "C4": 22, "C3": 28}  # 10-14, 15-19, 20-25, 26-30
    labels, levels = neck()
    assert indices(slices_of_map(levels)) == expected
    assert indices(slices_of_muscles(labels, 3.0)) == expected


@pytest.mark.parametrize("seed", range(8))
def test_muscles_tell_what_the_map_says(seed):
    heights = np.random.default_rng(seed).integers(4, 8, 7)
    labels, levels = neck(heights)
    assert slices_of_muscles(labels, 3.5) == slices_of_map(levels)


def test_one_side_is_enough_and_stray_voxels_do_no_harm():
    labels, levels = neck()
    labels[labels % 2 == 0] = 0
    labels[0, 0, [0, 33]] = 11
    assert slices_of_muscles(labels, 3.0) == slices_of_map(levels)


def test_a_ragged_end_moves_nothing():
    labels, levels = neck()
    labels[(labels == 5) & (np.arange(labels.shape[2]) < 16)] = 0
    assert slices_of_muscles(labels, 3.0) == slices_of_map(levels)


def test_a_border_without_witness_is_not_guessed():
    labels, levels = neck()
    labels[labels >= 13] = 0  # LS alone ends between C5 and C4
    found = {s.level: s for s in slices_of_muscles(labels, 3.0)}
    assert found["C4"].index is found["C5"].index is None
    assert "no muscle ends between C4 and C5" in found["C4"].reason
    assert (found["C3"].index, found["C6"].index) == (28, 12)


def test_witnesses_that_disagree_are_not_averaged():
    labels, _ = neck()
    z = np.arange(labels.shape[2])
    labels[(labels == 13) & (z > 16)] = 0  # LS: 17 on one side, 20 on the other
    labels[31, :, 20:24], labels[2, :, 20:24] = 14, 14
    found = {s.level: s for s in slices_of_muscles(labels, 3.0)}
    assert found["C4"].index is None and "disagree" in found["C4"].reason
    assert "LS_R 17, LS_L 24" in found["C5"].reason


def test_muscles_drawn_beyond_their_levels_tell_nothing():
    labels, _ = neck()
    labels[:] = labels.max(2, keepdims=True)
    assert all(s.index is None and s.reason for s in slices_of_muscles(labels, 3.0))


@pytest.mark.parametrize("slice_mm", (1.0, 9.0))
def test_heights_that_no_vertebra_has(slice_mm):
    for found in slices_of_muscles(neck()[0], slice_mm):
        assert found.index is None and "mm high" in found.reason


def test_an_empty_mask_tells_nothing():
    found = slices_of_muscles(np.zeros((4, 4, 9), np.uint8), 3.0)
    assert [s.level for s in found] == list(LEVELS)
    assert all(s.index is None for s in found)


def test_a_level_that_the_map_lacks():
    levels = neck()[1].copy()
    levels[levels == 4] = 0
    found = {s.level: s for s in slices_of_map(levels)}
    assert found["C4"].index is None and "value 4" in found["C4"].reason
    assert found["C5"].index == 17


def test_oblique_levels_go_by_the_larger_part():
    levels = np.zeros((10, 1, 8), int)
    for x in range(10):
        levels[x, 0] = np.where(np.arange(8) + (x > 6) < 4, LEVEL_NUMBERS["C6"], 5)
    found = {s.level: s.index for s in slices_of_map(levels)}
    assert (found["C6"], found["C5"]) == (1, 5)  # 0-3 and 4-7


@pytest.mark.parametrize(
    "labels, slice_mm, message",
    [
        (np.zeros((3, 3), int), 3, "3-D"),
        (np.full((3, 3, 3), 15), 3, "0-14"),
        (np.ones((3, 3, 3), int), 0, "positive, got 0"),
    ],
)
def test_refuses(labels, slice_mm, message):
    with pytest.raises(ValueError, match=message):
        slices_of_muscles(labels, slice_mm)
    if labels.ndim == 2:
        with pytest.raises(ValueError, match="3-D"):
            slices_of_map(labels)
