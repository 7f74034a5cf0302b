import itertools
import shlex

import numpy as np
import pytest

from cervjax.anatomy import (
    CLASS_PERMUTATION,
    LEFT_RIGHT_PERMUTATION,
    LEVEL_CLASSES,
    MUSCLES,
    NUM_CLASSES,
    fsleyes_lut,
    itksnap_labels,
    slicer_colors,
)

# Weber et al. 2021, Table 1: left label, right label, levels.
TABLE_1 = {
    "MFSS": (2, 1, "C4-C6"),
    "LC": (4, 3, "C3-C6"),
    "SSCap": (8, 7, "C3-C5"),
    "SPCap": (6, 5, "C3-C5"),
    "LS": (14, 13, "C5-C6"),
    "SCM": (10, 9, "C4-C6"),
    "TR": (12, 11, "C6"),
}


def test_labels_follow_each_other():
    assert [m.label for m in MUSCLES] == list(range(1, 15))
    assert NUM_CLASSES == 15


@pytest.mark.parametrize("muscle", MUSCLES, ids=lambda m: m.key)
def test_muscle_is_the_papers(muscle):
    left, right, levels = TABLE_1[muscle.abbreviation]
    assert muscle.label == (left if muscle.side == "left" else right)
    assert muscle.side == ("right", "left")[muscle.label % 2 == 0]
    first, last = levels[:2], levels[-2:]
    expected = tuple(f"C{i}" for i in range(int(first[1]), int(last[1]) + 1))
    assert muscle.levels == expected


def test_both_sides_of_every_muscle():
    keys = {m.key for m in MUSCLES}
    assert keys == {f"{name}_{side}" for name in TABLE_1 for side in "LR"}


def test_permutation_exchanges_the_sides():
    assert LEFT_RIGHT_PERMUTATION.dtype == np.uint8
    assert LEFT_RIGHT_PERMUTATION[0] == 0
    np.testing.assert_array_equal(
        LEFT_RIGHT_PERMUTATION[LEFT_RIGHT_PERMUTATION], np.arange(NUM_CLASSES)
    )
    for muscle in MUSCLES:
        other = MUSCLES[LEFT_RIGHT_PERMUTATION[muscle.label] - 1]
        assert other.side != muscle.side
        assert other[1:3] == muscle[1:3]
        assert other.levels == muscle.levels


def test_classes_of_a_mirrored_scan_are_those_of_its_muscles_and_the_same_bodies():
    np.testing.assert_array_equal(CLASS_PERMUTATION[:15], LEFT_RIGHT_PERMUTATION)
    np.testing.assert_array_equal(CLASS_PERMUTATION[15:], list(LEVEL_CLASSES.values()))
    assert list(LEVEL_CLASSES.values()) == list(range(15, 22))


def test_colors_can_be_told_apart():
    for a, b in itertools.combinations(MUSCLES, 2):
        distance = np.abs(np.subtract(a.color_rgb, b.color_rgb)).max()
        assert distance >= 25, (a.key, b.key)
    assert all(0 <= c <= 255 for m in MUSCLES for c in m.color_rgb)
    for left, right in zip(MUSCLES[1::2], MUSCLES[::2], strict=True):
        assert sum(left.color_rgb) > sum(right.color_rgb)


def test_itksnap_labels_read_back():
    rows = [shlex.split(x) for x in itksnap_labels().splitlines() if x[0] != "#"]
    assert rows[0] == ["0", "0", "0", "0", "0", "0", "0", "Clear Label"]
    for row, muscle in zip(rows[1:], MUSCLES, strict=True):
        index, r, g, b, alpha, visible, mesh, name = row
        assert int(index) == muscle.label
        assert (int(r), int(g), int(b)) == muscle.color_rgb
        assert (float(alpha), visible, mesh) == (1, "1", "1")
        assert muscle.key in name and muscle.side in name


def test_slicer_colors_read_back():
    rows = [x.split() for x in slicer_colors().splitlines() if x[0] != "#"]
    assert rows[0] == ["0", "background", "0", "0", "0", "0"]
    for row, muscle in zip(rows[1:], MUSCLES, strict=True):
        value, name, r, g, b, alpha = row
        assert int(value) == muscle.label
        assert name == f"{muscle.name} {muscle.side}".replace(" ", "_")
        assert (int(r), int(g), int(b), int(alpha)) == (*muscle.color_rgb, 255)


def test_fsleyes_reads_value_colour_and_name():
    rows = [line.split(" ") for line in fsleyes_lut().splitlines()]
    assert [(int(r[0]), r[4]) for r in rows] == [(m.label, m.key) for m in MUSCLES]
    colours = [tuple(round(255 * float(v)) for v in r[1:4]) for r in rows]
    assert colours == [m.color_rgb for m in MUSCLES]
