"""End slices whole or not at all, on cylinders whose answer is known."""

import numpy as np
import pytest

from cervjax.anatomy import NUM_CLASSES
from cervjax.inference.decode import labels_at, places_between
from cervjax.inference.slice_ends import FURTHEST, snap_slice_ends

SHAPE = (20, 18, 12)


def logits_of(masks, height=4.0):
    """Logits (x, y, z, c), sure by ``height``, of boolean masks by label."""
    logits = np.zeros((*SHAPE, NUM_CLASSES), np.float32)
    logits[..., 0] = height
    for label, mask in masks.items():
        logits[mask, label] = 2 * height
    return logits


def places_of(slices, start=0.0, planes=SHAPE[2]):
    """A logit a voxel in the plane; so many slices from the first plane to the last."""
    x, y = (places_between(n, n, start=0, step=1) for n in SHAPE[:2])
    return x, y, places_between(planes, slices, start=start, step=1)


def box(z, x=slice(4, 12), y=slice(5, 11)):
    mask = np.zeros(SHAPE, bool)
    mask[x, y, z] = True
    return mask


def found(logits, places):
    labels = np.asarray(labels_at(logits, places)[0])
    return labels, snap_slice_ends(labels, logits, places)


def areas(labels, label=1):
    return (labels == label).sum((0, 1)).tolist()


def test_whole_slices_stay_as_they_are():
    before, after = found(logits_of({1: box(slice(3, 9))}), places_of(12))
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("upside_down", [False, True])
def test_a_slice_half_drawn_is_completed_by_what_comes_next(upside_down):
    logits = logits_of({1: box(slice(3, 9))})
    logits[8:12, 5:11, 3, 1] = 3.0  # half of the section just missed, by 1 of 4
    logits[8:12, 4, 3, 1] = 2.0  # and beside it the next, by 2
    logits = logits[:, :, ::-1] if upside_down else logits
    before, after = found(logits, places_of(12))
    if upside_down:
        before, after = before[..., ::-1], after[..., ::-1]
    assert areas(before)[2:5] == [0, 24, 48]
    np.testing.assert_array_equal(after == 1, box(slice(3, 9)))


def test_what_is_furthest_away_is_never_added():
    logits = logits_of({1: box(slice(3, 9))}, height=10.0)
    for less, added in ((0.1, False), (-0.1, True)):
        logits[8:12, 5:11, 3, 1] = 10.0 - FURTHEST - less
        before, after = found(logits, places_of(12))
        assert np.array_equal(before, after) != added


def test_nothing_is_added_far_from_the_neighbours_section():
    logits = logits_of({1: box(slice(3, 9))})
    logits[8:12, 5:11, 3, 1] = 1.0
    logits[16:, :, 3, 1] = 3.0  # likelier, but elsewhere
    before, after = found(logits, places_of(12))
    np.testing.assert_array_equal(before[16:], after[16:])
    assert areas(before)[3] == 24 and areas(after)[3] == 48


def test_a_shred_beyond_the_end_is_taken_away():
    whole = box(slice(3, 9))
    shred = box(9, slice(4, 6)) | box(2, slice(4, 6))
    before, after = found(logits_of({1: whole | shred}), places_of(12))
    assert areas(before)[2] == areas(before)[9] == 12
    np.testing.assert_array_equal(after == 1, whole)


def test_a_piece_apart_is_taken_away_if_it_is_small():
    whole, piece = box(slice(4, 10)), box(1, slice(4, 6))
    _, after = found(logits_of({1: whole | piece}), places_of(12))
    np.testing.assert_array_equal(after == 1, whole)
    large = box(slice(0, 3))
    _, after = found(logits_of({1: whole | large}), places_of(12))
    np.testing.assert_array_equal(after == 1, whole | large)


def test_half_of_the_neighbours_trend_is_carried_on():
    logits = logits_of({1: box(slice(3, 9))})
    grows = box(slice(4, 5), slice(2, 12))  # 60 next to the end, 48 after it
    logits[grows, 1] = 8.0
    logits[:12, 5:11, 3, 1] = np.linspace(3.9, 0.1, 12)[:, None]
    logits[4:8, 5:11, 3, 1] = 8.0
    _, after = found(logits, places_of(12))
    assert areas(after)[3] == 60 + (60 - 48) // 2


def test_no_muscle_takes_a_voxel_from_another():
    other = box(slice(2, 10), slice(8, 16))
    logits = logits_of({1: box(slice(3, 9), slice(2, 8)), 5: other})
    logits[5:8, 5:11, 3, 1] = 3.0
    logits[8:16, 5:11, 3, 1] = 7.9  # nearly as likely as the other
    before, after = found(logits, places_of(12))
    np.testing.assert_array_equal(after == 5, before == 5)
    assert areas(after)[3] == 36


@pytest.mark.parametrize("other", [2, 9, 10, 11])
@pytest.mark.parametrize("missed", [1, 9])
def test_muscles_of_one_level_end_together(other, missed):
    """MFSS, SCM and TR all end with C6, on both sides; one is missed there."""
    if other == missed:
        return
    two = {missed: box(slice(3, 9), slice(1, 7)), other: box(slice(3, 9), slice(9, 20))}
    logits = logits_of(two)
    logits[1:7, 5:11, 3, missed] = 3.0
    before, after = found(logits, places_of(12))
    assert areas(before, missed)[3] == 0 and areas(after, missed)[3] == 36
    np.testing.assert_array_equal(after == other, before == other)


def test_what_most_do_not_reach_none_reaches():
    boxes = {
        n: box(slice(4, 9), slice(4 * i, 4 * i + 4))
        for i, n in enumerate((1, 2, 9, 10))
    }
    logits = logits_of(boxes)
    logits[:4, 5:11, 3, 1] = 8.0  # right MFSS alone goes on
    before, after = found(logits, places_of(12))
    assert areas(before, 1)[3] == 24 and areas(after, 1)[3] == 0
    assert areas(after, 1)[4:] == areas(before, 1)[4:]


def test_a_large_muscle_counts_no_more_than_a_small_one():
    boxes = {
        n: box(slice(4, 9), slice(2 * i, 2 * i + 2)) for i, n in enumerate((2, 9, 10))
    }
    large = box(slice(4, 9), slice(8, 20), slice(0, 18))
    logits = logits_of(boxes | {1: large})
    logits[8:, :, 3, 1] = 8.0
    before, after = found(logits, places_of(12))
    assert areas(before, 1)[3] == 12 * 18 and areas(after, 1)[3] == 0


def test_a_single_slice_does_not_grow_towards_the_others_end():
    one = box(slice(4, 5), slice(1, 4))
    logits = logits_of({1: box(slice(3, 9), slice(9, 20)), 9: one})
    logits[1:4, 5:11, 3, 9] = 3.0
    _, after = found(logits, places_of(12))
    np.testing.assert_array_equal(after == 9, one)


def test_muscles_of_other_levels_do_not_matter():
    """SPCap ends with C5 below, MFSS with C6; LC with C3 above, MFSS with C4."""
    for slices, other in ((slice(2, 9), 5), (slice(3, 10), 3)):
        two = {1: box(slice(3, 9), slice(1, 7)), other: box(slices, slice(9, 20))}
        before, after = found(logits_of(two), places_of(12))
        np.testing.assert_array_equal(before, after)


def test_thin_slices_are_completed_as_far_as_a_plane_of_logits_reaches():
    """Three slices to a plane: the ramp from nothing to sure becomes all or nothing."""
    logits = logits_of({1: box(slice(3, 9))})
    logits[4:12, 5:11, 2, 1] = 4 + np.linspace(-10, 3.5, 8)[:, None]
    places = places_of(34, planes=12)
    before, after = found(logits, places)
    ragged = [a for a in areas(before) if 0 < a < 48]
    assert len(ragged) >= 3
    assert set(areas(after)) == {0, 48}


@pytest.mark.parametrize("label", [0, 5])
def test_few_slices_or_none_are_left_alone(label):
    mask = box(slice(3, 6)) & (
        np.arange(20)[:, None, None] < np.array([0, 0, 0, 6, 12, 12, 0, 0, 0, 0, 0, 0])
    )
    before, after = found(logits_of({label: mask}), places_of(12))
    np.testing.assert_array_equal(before, after)


def test_nothing_is_added_where_nothing_was_predicted():
    logits = logits_of({1: box(slice(3, 9))})
    logits[8:, :, 3] = 0.0
    before, after = found(logits, places_of(12))
    assert areas(before)[3] == 24
    np.testing.assert_array_equal(before[8:, :, 3], after[8:, :, 3])


def test_a_mirrored_neck_gives_the_mirrored_labels():
    rng = np.random.default_rng(0)
    logits = logits_of(
        {1: box(slice(3, 9), slice(2, 8)), 2: box(slice(2, 8), slice(12, 18))}
    )
    logits += rng.normal(0, 3, logits.shape).astype(np.float32)
    _, one = found(logits, places_of(12))
    _, other = found(logits[::-1], places_of(12))
    np.testing.assert_array_equal(one, other[::-1])
