import numpy as np
import pytest
from scipy.ndimage import (
    binary_erosion,
    binary_fill_holes,
    distance_transform_edt,
)

from cervjax.anatomy import MUSCLES
from cervjax.phantom.atlas import load_anatomy
from cervjax.phantom.body import WIDTH_MM, build_body
from cervjax.phantom.subject import (
    draw_subject,
)
from cervjax.phantom.tissues import CODES

pytestmark = pytest.mark.xdist_group("phantom")
TABLE_1 = {
    "MFSS": "C4 C5 C6",
    "LC": "C3 C4 C5 C6",
    "SPCap": "C3 C4 C5",
    "SSCap": "C3 C4 C5",
    "SCM": "C4 C5 C6",
    "TR": "C6",
    "LS": "C5 C6",
}
INVESTED = ("TR", "SCM")


def positions(body):
    """z, y, x in mm of the voxels' centres, one array per axis."""
    return [
        first + step * np.arange(n)
        for first, step, n in zip(
            body.first_mm, body.step_mm, body.tissue.shape, strict=True
        )
    ]


def centre_mm(body, mask):
    """x, y, z"""
    at = [v[i].mean() for v, i in zip(positions(body), np.nonzero(mask), strict=True)]
    return np.array(at[::-1])


def test_muscles_lie_on_their_sides(neck):
    x = positions(neck.body)[2]
    for m in MUSCLES:
        mask = neck.body.tissue == m.label
        assert mask.sum() > 20_000
        at = x[np.nonzero(mask)[2]]
        on_the_right = np.mean(at > 0)
        assert on_the_right == pytest.approx(float(m.side == "right"), abs=0.01), m.key
        if m.abbreviation in ("SCM", "LS"):
            assert abs(at).min() > 3


def test_neck_is_the_right_way_round(neck):
    at = {
        n: centre_mm(neck.body, neck.body.tissue == CODES[n])
        for n in (
            "1",
            "3",
            "7",
            "9",
            "11",
            "13",
            "cord",
            "disc",
            "thyroid",
            "lung",
            "tongue",
        )
    }
    fore_to_aft = ["thyroid", "3", "cord", "1", "7", "11"]
    y = [at[name][1] for name in fore_to_aft]
    assert y == sorted(y, reverse=True)
    assert at["disc"][1] > at["cord"][1]
    assert at["tongue"][2] > at["thyroid"][2] > at["lung"][2]
    assert abs(at["cord"][0]) < 3 and abs(at["disc"][0]) < 3
    assert at["9"][0] > at["3"][0] and at["13"][0] > at["1"][0]  # lateral to medial


def test_body_is_in_skin_in_air(neck):
    tissue = neck.body.tissue
    assert not tissue[:, [0, -1]].any() and tissue[:, :, 312].any()
    part = tissue[60:100, :, 200:425]  # above the shoulders
    for seen in (part, part[:, ::-1]):  # from behind, from the front
        first = np.argmax(seen > 0, 1)
        outermost = np.take_along_axis(seen, first[:, None], 1)[seen.any(1)[:, None]]
        assert np.mean(outermost == CODES["skin"]) > 0.98


def table_1_voxels(body):
    """Voxels of each muscle at its levels in Table 1."""
    z, bounds = positions(body)[0], load_anatomy().level_bounds_mm
    counts = np.zeros(14)
    for m in MUSCLES:
        names = TABLE_1[m.abbreviation].split()
        low, high = bounds[names[-1]][0], bounds[names[0]][1]
        counts[m.label - 1] = (body.tissue[(z >= low) & (z <= high)] == m.label).sum()
    return counts


@pytest.mark.slow
def test_muscles_have_the_areas_that_were_drawn():
    who = draw_subject(0, 7)
    assert np.ptp(who.muscle_area) > 0.5  # or the test is idle
    unscaled = who._replace(
        muscle_area=np.ones(14), girth=1.0, bone=1.0, warp_mm=0.0, gap_mm=0.0
    )
    found = table_1_voxels(build_body(who, load_anatomy())) / table_1_voxels(
        build_body(unscaled, load_anatomy())
    )
    np.testing.assert_allclose(found, who.muscle_area, rtol=0.06)


@pytest.mark.slow
def test_investing_fascia_is_as_thick_as_drawn(neck):
    """About TR and SCM; the others keep their thin sheath. No gap is closed here."""
    centre = np.mean(neck.anatomy.level_bounds_mm["C6"])
    middle = np.abs(positions(neck.body)[0] - centre) < 4
    apart = neck.subject._replace(closing_mm=0.0)
    thin, thick = (
        build_body(apart._replace(investing_fascia_mm=mm), neck.anatomy)
        for mm in (0.5, 1.2)
    )
    before, after = thin.tissue[middle], thick.tissue[middle]
    invested = np.isin(before, [m.label for m in MUSCLES if m.abbreviation in INVESTED])
    away_mm = np.stack(
        [
            distance_transform_edt(~plane, sampling=thin.step_mm[1:])
            for plane in invested
        ]
    )
    away_mm -= thin.step_mm[1] / 2  # from the outline, not from the last voxel's centre
    fat = before == CODES["fat"]
    sheathed = after == CODES["fascia"]
    assert sheathed[fat & (away_mm < 0.9)].mean() > 0.9
    assert sheathed[fat & (away_mm > 1.5)].mean() < 0.001
    deep = before == CODES["deep fat"]
    assert sheathed[deep & (away_mm < 0.9)].mean() > 0.9
    assert sheathed[deep & (away_mm > 1.5)].mean() < 0.001
    np.testing.assert_array_equal(after[before < 15], before[before < 15])


@pytest.mark.slow
def test_fused_level_and_thick_fat(neck):
    who, plain = neck.subject, neck.body
    fat = 2 * who.fat_posterior
    changed = build_body(who._replace(fused_level=2, fat_posterior=fat), neck.anatomy)
    z, y, x = positions(plain)
    bounds = load_anatomy().level_bounds_mm
    disc = [
        [
            (body.tissue[np.abs(z - bounds[n][0]) < 4] == CODES["disc"]).sum()
            for n in ("C3", "C4", "C5")
        ]
        for body in (plain, changed)
    ]
    assert disc[1][1] == 0 and disc[0][1] > 0  # index 2 is the disc below C4
    assert (disc[1][0], disc[1][2]) == (disc[0][0], disc[0][2])
    behind = [
        (b.tissue[60:100, y < -40][..., np.abs(x) < 10] == CODES["fat"]).sum()
        for b in (plain, changed)
    ]
    assert behind[1] > 1.6 * behind[0]


@pytest.mark.slow
def test_nothing_lies_outside_the_skin_and_width_is_a_necks(neck):
    """A trapezius that reaches into the shoulder ends at the skin."""
    wide = build_body(neck.subject._replace(girth=2.0), load_anatomy("man_41"))
    for body in (wide, neck.body):
        inside = body.tissue[::12] > 0
        filled = np.stack([binary_fill_holes(plane) for plane in inside])
        skin = body.tissue[::12] == CODES["skin"]
        rim = filled & ~np.stack([binary_erosion(plane) for plane in filled])
        ends = rim.copy()
        ends[:, 1:-1, 1:-1] = False  # where the grid ends
        assert np.mean(skin[rim & ~ends]) > 0.97
    z, _, x = positions(wide)
    upper = wide.tissue[(z > 0) & (z < 40)] > 0
    widths = [np.ptp(x[plane.any(0)]) for plane in upper]
    assert 140 < min(widths) < WIDTH_MM[1] * 1.1
