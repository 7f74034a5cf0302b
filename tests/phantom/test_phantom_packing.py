"""Muscles fill the space between them but for thin planes."""

import numpy as np
import pytest

from cervjax.phantom.packing import pack_muscles
from cervjax.phantom.subject import draw_subject
from cervjax.phantom.tissues import CODES

pytestmark = pytest.mark.xdist_group("phantom")
STEP = np.array([1.0, 0.5, 0.5])
FIRST = np.array([0.0, -60.0, -60.0])
SHAPE = (2, 200, 240)
SIDE = 40  # pixels: 20 mm
FAT, FASCIA, BONE = CODES["deep fat"], CODES["fascia"], CODES["bone cortical"]
PLAIN = draw_subject(0, 0)._replace(closing_mm=2.0, plane_mm=0.5, fatty_planes=False)


def squares(gap_mm, *, codes=(5, 7), between=FAT):
    """Two squares of 20 x 20 mm side by side, in fat."""
    tissue = np.full(SHAPE, FAT, np.uint8)
    gap = round(gap_mm / STEP[2])
    rows, first = slice(80, 80 + SIDE), 60
    tissue[:, rows, first : first + SIDE] = codes[0]
    tissue[:, rows, first + SIDE : first + SIDE + gap] = between
    tissue[:, rows, first + SIDE + gap : first + 2 * SIDE + gap] = codes[1]
    return tissue


def packed(tissue, subject=PLAIN):
    out = tissue.copy()
    pack_muscles(out, FIRST, STEP, subject)
    return out


def middle_row(tissue):
    """Runs of codes from left to right, half way up the squares: (code, pixels)."""
    row = tissue[1, 100]
    ends = np.flatnonzero(np.r_[np.diff(row) != 0, True])
    return list(zip(row[ends].tolist(), np.diff(np.r_[-1, ends]).tolist(), strict=True))


@pytest.mark.parametrize("gap_mm", [1.0, 2.0, 3.0])
def test_neighbours_touch_but_for_a_plane(gap_mm):
    runs = middle_row(packed(squares(gap_mm)))
    codes, widths = zip(*runs, strict=True)
    assert codes == (FAT, 5, FASCIA, 7, FAT)
    assert widths[2] == 1  # 0.5 mm
    assert widths[1] + widths[3] == 2 * SIDE + 2 * gap_mm - 1
    assert abs(widths[1] - widths[3]) <= 1  # each got half


@pytest.mark.parametrize(
    "plane_mm, pixels", [(0.3, 1), (0.5, 1), (1.0, 2), (1.5, 3), (2.0, 4)]
)
def test_planes_are_as_thick_as_drawn(plane_mm, pixels):
    runs = middle_row(packed(squares(3.0), PLAIN._replace(plane_mm=plane_mm)))
    assert dict(runs)[FASCIA] == pixels


@pytest.mark.parametrize(
    "fatty, plane_mm, name",
    [(False, 1.0, "fascia"), (True, 1.0, "deep fat"), (True, 0.5, "septum")],
)
def test_planes_are_of_fascia_or_fat(fatty, plane_mm, name):
    subject = PLAIN._replace(fatty_planes=fatty, plane_mm=plane_mm)
    codes = [c for c, _ in middle_row(packed(squares(2.0), subject))]
    assert codes == [FAT, 5, CODES[name], 7, FAT]


def test_a_wide_space_stays_fat():
    tissue = squares(20.0)
    np.testing.assert_array_equal(packed(tissue), tissue)


@pytest.mark.parametrize("closing_mm, filled", [(0.8, False), (3.0, True)])
def test_gaps_up_to_twice_the_closing_are_filled(closing_mm, filled):
    tissue = squares(4.0)
    found = packed(tissue, PLAIN._replace(closing_mm=closing_mm))
    assert (found != tissue).any() == filled


def test_a_gap_is_given_away_and_nothing_else():
    tissue = squares(2.0)
    found = packed(tissue)
    changed = found != tissue
    assert (tissue[changed] == FAT).all()
    # between the squares, and rounded off where they end
    gap = 4 * SIDE
    assert 0.9 * gap <= changed[0].sum() <= gap
    assert set(np.unique(found[changed])) == {5, 7, FASCIA}
    for code in (5, 7):
        assert (found == code).sum() >= (tissue == code).sum()


@pytest.mark.parametrize("name", ["bone cortical", "vein", "node", "nerve", "gland"])
def test_what_lies_between_stays(name):
    """Fat and fascia give way, no other tissue does."""
    code = CODES[name]
    tissue = squares(2.0, between=code)
    np.testing.assert_array_equal(packed(tissue)[tissue == code], code)


def test_two_parts_of_one_muscle_grow_together():
    runs = middle_row(packed(squares(2.0, codes=(5, 5))))
    assert runs == [(FAT, 60), (5, 2 * SIDE + 4), (FAT, 240 - 64 - 2 * SIDE)]


def test_muscles_without_a_label_take_part():
    other = CODES["muscle"]
    codes = [c for c, _ in middle_row(packed(squares(2.0, codes=(5, other))))]
    assert codes == [FAT, 5, FASCIA, other, FAT]


def test_no_closing_changes_nothing():
    tissue = squares(1.0)
    np.testing.assert_array_equal(packed(tissue, PLAIN._replace(closing_mm=0)), tissue)


def test_plane_without_muscles_is_left_alone():
    tissue = np.full(SHAPE, BONE, np.uint8)
    np.testing.assert_array_equal(packed(tissue), tissue)
