import numpy as np
import pytest
from matplotlib.path import Path as Outline
from scipy.ndimage import distance_transform_edt
from scipy.spatial.transform import Rotation
from scipy.stats import norm, truncnorm

from cervjax.anatomy import MUSCLES
from cervjax.phantom.atlas import Structure, level_bounds_mm
from cervjax.phantom.body import Body, build_body, paint
from cervjax.phantom.pose import (
    Pose,
    affine_to_neck,
    draw_pose,
    slice_levels,
    to_neck,
    upright,
)
from cervjax.phantom.protocol import TIERS, Grid, draw_grid, draw_sequence
from cervjax.phantom.sampling import at_table_1, sample
from cervjax.phantom.signal import Sequence, voxel_table
from cervjax.phantom.subject import (
    HIGHEST_MFI_PERCENT,
    MEAN_MFI_PERCENT,
    draw_change,
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
LEVELS = dict(zip("C2 C3 C4 C5 C6 C7 T1".split(), range(2, 9), strict=True))
AGE_SLOPE = {"MFSS": 0.16, "LC": 0.15, "SSCap": 0.16}
PLAIN = Pose(np.eye(3), np.zeros(3), 0.0, np.ones(7), 0.0)
CURVED = Pose(np.eye(3), np.zeros(3), 9.0, np.linspace(0.9, 1.1, 7), 6.0)
COHORT = 3000


@pytest.fixture(scope="module")
def subjects():
    return [draw_subject(5, i) for i in range(COHORT)]


def column(subjects, name):
    return np.array([getattr(p, name) for p in subjects])


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


# --- atlas


def test_levels_lie_on_each_other():
    bounds = level_bounds_mm()
    assert list(bounds) == list(LEVELS)
    for upper, lower in zip(list(LEVELS)[:-1], list(LEVELS)[1:], strict=True):
        assert bounds[upper][0] == bounds[lower][1]
        assert bounds[upper][0] < bounds[upper][1]
    assert bounds["C5"][0] < 0 < bounds["C5"][1]


def test_sections_between_sections_by_hand():
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]])
    one = Structure(
        "s", "fat", 0, 1, np.array([0.0, 10.0]), np.stack([square, 3 * square])
    )
    index, xy = one.at(np.array([-1.0, 0.0, 2.5, 10.0, 10.5]))
    np.testing.assert_array_equal(index, [1, 2, 3])
    np.testing.assert_allclose(xy, [square, 1.5 * square, 3 * square])


def test_what_reaches_the_end_of_the_atlas_goes_on():
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]])
    one = Structure(
        "s",
        "fat",
        0,
        1,
        np.array([-60.0, 0.0, 60.0]),
        np.stack([square, 2 * square, 3 * square]),
    )
    index, xy = one.at(np.array([-75.0, 30.0, 70.0]))
    np.testing.assert_array_equal(index, [0, 1, 2])
    np.testing.assert_allclose(xy, [square, 2.5 * square, 3 * square])


# --- painting


def polygon(rng, lobes=19, reach=60.0):
    """Not convex, does not cross itself."""
    angle = np.sort(rng.uniform(0, 2 * np.pi, lobes))
    radius = rng.uniform(0.2, 1, lobes) * reach
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


@pytest.mark.parametrize("centre", [(0, 0), (150, 95), (-150, -118), (0, 400)], ids=str)
def test_painting_against_matplotlib(centre):
    rng = np.random.default_rng(3)
    xy = np.stack([polygon(rng) + centre for _ in range(2)])
    xy[1] += 7.3
    volume = np.zeros((4, 445, 625), np.uint8)
    paint(volume, np.array([1, 2]), xy, 9)
    x, y = np.meshgrid(-156 + 0.5 * np.arange(625), -122 + 0.5 * np.arange(445))
    points = np.stack([x.ravel(), y.ravel()], 1)
    for plane, outline in zip(volume[1:3], xy, strict=True):
        inside = Outline(outline).contains_points(points).reshape(x.shape)
        np.testing.assert_array_equal(plane, 9 * inside)
    assert not volume[[0, 3]].any()
    assert volume.any() == (centre != (0, 400))


def test_painting_over_some_codes_only():
    volume = np.random.default_rng(0).integers(0, 5, (1, 445, 625)).astype(np.uint8)
    before = volume.copy()
    square = np.array([[-20.1, -20.1], [20.1, -20.1], [20.1, 20.1], [-20.1, 20.1]])
    paint(volume, np.array([0]), square[None], 200, np.isin(np.arange(256), [1, 3]))
    inside = np.zeros(before.shape, bool)
    inside[0, 204:285, 272:353] = True  # -20 to 20 mm
    free = inside & np.isin(before, [1, 3])
    assert (volume[free] == 200).all() and free.any()
    np.testing.assert_array_equal(volume[~free], before[~free])


# --- body


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
    z, bounds = positions(body)[0], level_bounds_mm()
    counts = np.zeros(14)
    for m in MUSCLES:
        names = TABLE_1[m.abbreviation].split()
        low, high = bounds[names[-1]][0], bounds[names[0]][1]
        counts[m.label - 1] = (body.tissue[(z >= low) & (z <= high)] == m.label).sum()
    return counts


def test_muscles_have_the_areas_that_were_drawn():
    who = draw_subject(0, 7)
    assert np.ptp(who.muscle_area) > 0.5  # or the test is idle
    unscaled = who._replace(
        muscle_area=np.ones(14), girth=1.0, bone=1.0, warp_mm=0.0, gap_mm=0.0
    )
    found = table_1_voxels(build_body(who)) / table_1_voxels(build_body(unscaled))
    np.testing.assert_allclose(found, who.muscle_area, rtol=0.06)


def test_investing_fascia_is_as_thick_as_drawn(neck):
    """About TR and SCM; the others keep their own thin sheath."""
    middle = np.abs(positions(neck.body)[0] - np.mean(level_bounds_mm()["C6"])) < 4
    thin, thick = (
        build_body(neck.subject._replace(investing_fascia_mm=mm)) for mm in (0.5, 1.2)
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


def test_fused_level_and_thick_fat(neck):
    who, plain = neck.subject, neck.body
    fat = 2 * who.fat_posterior
    changed = build_body(who._replace(fused_level=2, fat_posterior=fat))
    z, y, x = positions(plain)
    bounds = level_bounds_mm()
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


# --- subjects


def test_same_seed_same_subject():
    first, again = draw_subject(3, 8), draw_subject(3, 8)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    for other in (draw_subject(3, 9), draw_subject(4, 8)):
        assert other.height_m != first.height_m or other.bmi != first.bmi
        assert not np.isin(other.mfi_percent, first.mfi_percent).any()
        assert not np.isin(other.muscle_area, first.muscle_area).any()
    assert first.name == "sub-0009"


def test_age_sex_and_size_of_the_cohort(subjects):
    age, bmi = column(subjects, "age_years"), column(subjects, "bmi")
    female, height = column(subjects, "sex") == "F", column(subjects, "height_m")
    cut = truncnorm((18 - 34.2) / 10.7, (65 - 34.2) / 10.7, 34.2, 10.7)
    assert age.mean() == pytest.approx(cut.mean(), abs=4 * 10.7 / COHORT**0.5)
    assert age.std() == pytest.approx(cut.std(), rel=0.05)
    assert female.mean() == pytest.approx(61 / 84, abs=0.03)
    assert bmi.mean() == pytest.approx(25 * np.exp(0.17**2 / 2), abs=0.3)
    assert height[female].mean() == pytest.approx(1.64, abs=0.01)
    assert height[~female].mean() == pytest.approx(1.77, abs=0.01)
    for a, b in ((age, bmi), (age, female), (bmi, female), (bmi, height)):
        assert np.corrcoef(a, b)[0, 1] == pytest.approx(0, abs=4 / COHORT**0.5)


def test_infiltration_of_the_cohort(subjects):
    mfi, age = column(subjects, "mfi_percent"), column(subjects, "age_years")
    for m in MUSCLES:
        # 34.2 years is the mode of the cut normal distribution, not its mean
        wanted = MEAN_MFI_PERCENT[m.key]
        wanted += AGE_SLOPE.get(m.abbreviation, 0) * (age.mean() - 34.2)
        assert mfi[:, m.label - 1].mean() == pytest.approx(wanted, abs=0.3), m.key
    assert mfi.min() >= 3.8


def test_effects_on_infiltration(subjects):
    female = column(subjects, "sex") == "F"
    x = np.stack(
        [
            np.ones(COHORT),
            female,
            column(subjects, "age_years") - 34.2,
            column(subjects, "bmi") - 25,
        ],
        1,
    )
    effects, *_ = np.linalg.lstsq(x, column(subjects, "mfi_percent"), rcond=None)
    _, sex, slope, bmi = effects
    assert sex.mean() == pytest.approx(1.8, abs=0.3)
    np.testing.assert_allclose(sex, 1.8, atol=0.6)
    np.testing.assert_allclose(bmi, 0, atol=0.07)
    for m in MUSCLES:
        wanted = AGE_SLOPE.get(m.abbreviation, 0)
        assert slope[m.label - 1] == pytest.approx(wanted, abs=0.035), m.key


def test_areas_of_the_cohort(subjects):
    area = column(subjects, "muscle_area")
    female = column(subjects, "sex") == "F"
    np.testing.assert_allclose(area.mean(0), 1, atol=0.03)
    ratio = area[female].mean(0) / area[~female].mean(0)
    np.testing.assert_allclose(ratio, 0.78, atol=0.04)
    sides = np.log(area[:, 1::2] / area[:, ::2])  # left over right
    assert (sides.std(0) > 0.05).all()
    error = sides.std(0) / COHORT**0.5
    assert (np.abs(sides.mean(0)) < 4 * error).all()


def test_pathology_is_more_fat_and_less_muscle(subjects):
    ill = [draw_subject(5, i, pathology=True) for i in range(1000)]
    more = column(ill, "mfi_percent").mean(0) - column(subjects, "mfi_percent").mean(0)
    less = column(ill, "muscle_area").mean(0) / column(subjects, "muscle_area").mean(0)
    assert (more > 1.5).all() and (less < 0.99).all()
    assert more[:2].min() > 2 * more[8:].max() > 0  # multifidus above all
    fused = column(ill, "fused_level")
    assert np.mean(fused >= 0) == pytest.approx(0.3, abs=0.06)
    assert (column(subjects, "fused_level") == -1).all()


def test_a_third_worsens(subjects):
    change = np.array([draw_change(5, p) for p in subjects])
    assert np.array_equal(change, [draw_change(5, p) for p in subjects])
    worse = change.any(1)
    share = norm.interval(0.9999, 1 / 3, (2 / 9 / COHORT) ** 0.5)
    assert share[0] < worse.mean() < share[1]
    mfi = column(subjects, "mfi_percent")
    assert (mfi + change <= HIGHEST_MFI_PERCENT + 1e-9).all()
    free = worse & (mfi + 4 < HIGHEST_MFI_PERCENT).all(1)  # nothing is cut off
    assert (change[free] > 0).all()
    mfss, lc, sscap, scm = change[free][:, [0, 2, 6, 8]].T
    assert 1.5 <= mfss.min() < 1.6 and 3.9 < mfss.max() <= 4
    np.testing.assert_allclose(sscap, 0.8 * mfss)
    assert (lc < sscap).all() and (scm < lc).all()


# --- fat in muscles


def in_space(neck):
    """The relative fat of each voxel of a muscle, NaN elsewhere."""
    out = np.full(neck.body.tissue.shape, np.nan, np.float32)
    out.reshape(-1)[neck.texture.voxels] = neck.texture.relative
    return out


def test_fat_is_drawn_for_every_voxel_of_a_muscle(neck):
    tissue = neck.body.tissue
    assert np.isfinite(in_space(neck)).sum() == ((tissue > 0) & (tissue < 15)).sum()
    label = tissue.reshape(-1)[neck.texture.voxels]
    np.testing.assert_array_equal(label, neck.texture.label)
    assert neck.texture.relative.min() > 0


def test_fat_has_mean_one_in_every_muscle(neck):
    for label in range(1, 15):
        own = neck.texture.relative[neck.texture.label == label]
        assert own.mean(dtype=np.float64) == pytest.approx(1, abs=1e-4)
        assert own.std() > 0.2


@pytest.mark.parametrize("axis, least", [(0, 0.9), (1, 0.6), (2, 0.6)], ids=str)
def test_fat_is_no_white_noise(neck, axis, least):
    fat, tissue = np.moveaxis(in_space(neck), axis, 0), neck.body.tissue
    tissue = np.moveaxis(tissue, axis, 0)
    for label in (1, 8, 10):
        both = (tissue[1:] == label) & (tissue[:-1] == label)
        found = np.corrcoef(fat[1:][both], fat[:-1][both])[0, 1]
        assert found > least


@pytest.mark.parametrize("label", [1, 2, 7, 9, 14])
def test_fat_follows_the_border(neck, label):
    mask = neck.body.tissue == label
    planes = np.flatnonzero(mask.any((1, 2)))[::8]
    mask = mask[planes]
    depth = [distance_transform_edt(plane, 0.5) for plane in mask]
    fat, depth = in_space(neck)[planes][mask], np.stack(depth)[mask]
    assert fat[depth <= 0.5].mean() > 1.1 * fat[(depth > 2) & (depth < 4)].mean()


@pytest.mark.parametrize("label", [1, 2])
def test_fat_gathers_at_the_vertebra(neck, label):
    _, y, x = positions(neck.body)
    mask = neck.body.tissue == label
    fat = in_space(neck)
    more = 0
    planes = np.flatnonzero(mask.any((1, 2)))
    for k in planes:
        rows, cols = np.nonzero(mask[k])
        away = np.hypot(x[cols], y[rows] + 14)
        near, far = away < np.quantile(away, 0.2), away > np.quantile(away, 0.5)
        value = fat[k, rows, cols]
        more += value[near].mean() > value[far].mean()
    assert more > 0.8 * len(planes)


def test_mean_fat_of_the_muscles_survives_rounding_to_bytes(neck):
    stored = (neck.codes & 255) / 255
    tissue = neck.codes >> 8
    np.testing.assert_array_equal(tissue, neck.body.tissue)
    for label in (1, 4, 9, 12):
        found = 100 * stored[tissue == label].mean()
        assert found == pytest.approx(neck.pdff_percent[label], abs=0.03)


def test_fat_of_other_tissues(neck):
    codes = neck.codes
    for name, low, high in (
        ("fat", 90, 98),
        ("cord", 0, 1),
        ("csf", 0, 1),
        ("marrow", 30, 55),
        ("tongue", 5, 25),
    ):
        found = 100 * (codes[neck.body.tissue == CODES[name]] & 255).mean() / 255
        assert low <= found <= high, name


# --- pose


def test_plain_pose_is_the_identity():
    points = np.random.default_rng(0).uniform(-110, 110, (3, 500))
    np.testing.assert_allclose(to_neck(PLAIN, *points), points, atol=1e-9)


def test_lordosis_by_hand():
    # 0.01 per mm: at a height of 20, y falls by 2 and the plane tilts by 0.2
    curved = PLAIN._replace(lordosis_deg=np.rad2deg(0.01 * 81))
    x, y, z = to_neck(curved, 0.0, np.array([2.0, -10.0]), 20.0)
    np.testing.assert_allclose(y, [4, -8])
    np.testing.assert_allclose(z, [20 - 0.2 * 12, 20])
    assert x == 0


def test_lordosis_raises_the_front_of_upper_levels():
    curved = PLAIN._replace(lordosis_deg=15.0)
    for z, sign in ((35.0, -1), (-35.0, 1)):
        front, back = to_neck(curved, 0.0, np.array([30.0, -40.0]), z)[2]
        assert sign * (front - z) > 1 and sign * (back - z) < -1


def test_heights_of_levels_by_hand():
    tall = PLAIN._replace(level_heights=np.array([1, 1, 1, 2, 1, 1, 1.0]))
    bounds = level_bounds_mm()
    low, high = bounds["C5"]
    z = np.array([high, 2 * high, 2 * high + 5, low, 2 * low - 3])
    wanted = [high / 2, high, high + 5, low / 2, low - 3]
    np.testing.assert_allclose(to_neck(tall, 0.0, 0.0, z)[2], wanted)


def test_shoulders_are_lifted_aside_and_below_only():
    lifted = PLAIN._replace(shoulder_mm=8.0)
    x = np.array([-120.0, -60.0, 0.0, 60.0, 120.0])
    z = to_neck(lifted, x, 0.0, -50.0)[2]
    half = 8 * 0.5  # smooth step at its middle
    np.testing.assert_allclose(z, [-58, -50 - half, -50, -50 - half, -58])
    np.testing.assert_allclose(to_neck(lifted, x, 0.0, 10.0)[2], 10)


def axial_grid(first_mm=-69.3, step_mm=3.0, slices=48):
    # no slice on the border of two levels, where the last digit would decide
    affine = np.diag([2.0, 2.0, step_mm, 1.0])
    affine[:3, 3] = -60, -70, first_mm
    return affine, (61, 61, slices)


def test_levels_of_slices_by_hand():
    affine, shape = axial_grid()
    wanted = []
    for k in range(shape[2]):
        z = -69.3 + 3.0 * k
        inside = [n for n, (low, high) in level_bounds_mm().items() if low <= z < high]
        wanted.append(LEVELS[inside[0]] if inside else 0)
    np.testing.assert_array_equal(slice_levels(PLAIN, affine, shape), wanted)
    assert set(wanted) == {0, *range(2, 9)}
    heights = np.array([100.0, 50, 30, 15, 0, -15, -30, -50, -100])[::-1]
    affine, shape = axial_grid(-150, 5.0, 61)
    found = slice_levels(PLAIN, affine, shape)[((heights + 150) / 5).astype(int)]
    np.testing.assert_array_equal(found[::-1], [0, 2, 3, 4, 5, 6, 7, 8, 0])


def test_levels_grow_with_the_neck():
    affine, shape = axial_grid()
    grown = PLAIN._replace(level_heights=np.full(7, 1.25))
    wider = affine.copy()
    wider[2] *= 1.25
    # Beyond C2 and T1 nothing is stretched, but nothing is a level either.
    np.testing.assert_array_equal(
        slice_levels(grown, wider, shape), slice_levels(PLAIN, affine, shape)
    )


def moved(pose, affine, rotation, shift):
    """Patient and grid, both moved by one rigid motion."""
    rigid = np.eye(4)
    rigid[:3, :3], rigid[:3, 3] = rotation.as_matrix(), shift
    turned = rigid[:3, :3] @ pose.rotation
    at = rigid[:3, :3] @ pose.shift_mm + shift
    return pose._replace(rotation=turned, shift_mm=at), rigid @ affine


def test_rotation_by_a_known_angle():
    turn = Rotation.from_euler("xyz", [20, -7, 11], degrees=True)
    pose = PLAIN._replace(rotation=turn.as_matrix(), shift_mm=np.array([4.0, -3, 9]))
    affine, _ = axial_grid()
    matrix, offset = affine_to_neck(pose, affine)
    for point in ((0, 0, 0), (10, 44, 31)):
        scanner = affine[:3] @ [*point, 1]
        neck_point = matrix @ point + offset
        # from the neck to the scanner: turned, then shifted
        np.testing.assert_allclose(
            turn.apply(neck_point) + (4, -3, 9), scanner, atol=1e-9
        )


def test_nodding_forwards_is_a_negative_turn_about_x():
    nod = Rotation.from_euler("x", -10, degrees=True).as_matrix()
    pose = PLAIN._replace(rotation=nod)
    # what is forehead-high in the scanner's midline was further back in the neck
    matrix, offset = affine_to_neck(pose, np.eye(4))
    assert (matrix @ [0, 0, 50] + offset)[1] == pytest.approx(
        -50 * np.sin(np.deg2rad(10))
    )


def test_patient_and_grid_moved_together():
    affine, shape = axial_grid()
    turn = Rotation.from_euler("xyz", [12, 5, -8], degrees=True)
    pose, grid = moved(CURVED, affine, turn, np.array([6.0, 2.0, -9.0]))
    found = slice_levels(pose, grid, shape)
    np.testing.assert_array_equal(found, slice_levels(CURVED, affine, shape))


def test_levels_do_not_depend_on_where_the_grid_starts_in_the_plane():
    nod = Rotation.from_euler("x", 8, degrees=True).as_matrix()
    pose = CURVED._replace(rotation=nod, shift_mm=np.array([3.0, 5.0, 2.0]))
    affine, shape = axial_grid()
    other = affine.copy()
    other[:2, 3] += 31.0, -17.0
    np.testing.assert_array_equal(
        slice_levels(pose, affine, shape), slice_levels(pose, other, shape)
    )


def test_lying_down():
    who = draw_subject(0, 0)
    still = draw_pose(who, np.random.default_rng(0), tilt_deg=0, shift_mm=0)
    for a, b in zip(still, upright(who), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
    rng = np.random.default_rng(0)
    poses = [draw_pose(who, rng, tilt_deg=6, shift_mm=8) for _ in range(500)]
    shifts = np.array([p.shift_mm for p in poses])
    np.testing.assert_allclose(shifts.std(0), 8, rtol=0.15)
    angle = [np.rad2deg(Rotation.from_matrix(p.rotation).as_rotvec()) for p in poses]
    np.testing.assert_allclose(np.std(angle, 0), [6, 3, 3.6], rtol=0.15)


# --- voxels


def halves():
    """Muscle 9 on the right and 10 on the left of x = 0, nothing else; 0.5 mm."""
    first = np.array([-9.75, -9.75, -9.75])
    tissue = np.full((40, 40, 40), 10, np.uint8)
    tissue[..., 20:] = 9
    return Body(tissue, first, np.full(3, 0.5))


@pytest.mark.parametrize("shift, right", [(0.0, 3), (0.5, 3), (1.0, 4), (-1.0, 1)])
def test_partial_volume_by_hand(shift, right):
    """Voxels of 3 mm: looked at 1.2 and 0.6 mm to both sides, and in the middle."""
    body = halves()
    affine = np.diag([3.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = shift - 3, -4, -4
    grid = Grid((3, 9, 9), affine, "RAS")
    table = voxel_table(Sequence())
    codes = np.where(body.tissue == 9, 256 * 9 + 51, 256 * 10 + 102).astype(np.uint16)
    if shift == 0:  # the middle is on the border; move it off
        affine[0, 3] += 0.1
    found = sample(codes, body, PLAIN, grid, table)
    share, mean = found.share[1, 4, 4], found.mean[1, 4, 4]
    assert share == pytest.approx(max(right, 5 - right) / 5)
    assert found.nearest[1, 4, 4] == (9 if right >= 3 else 10)
    assert found.labels[1, 4, 4] == found.nearest[1, 4, 4]
    fat = 0.8 * (right / 5 * 51 + (1 - right / 5) * 102) / 255
    assert mean[1] == pytest.approx(fat, rel=1e-5)
    assert (found.share[[0, 2], 4, 4] == 1).all()
    assert found.labels[[0, 2], 4, 4].tolist() == [10, 9]


@pytest.mark.parametrize("shift, points", [(1.0, 1), (0.5, 2)])
def test_voxel_that_is_less_than_half_muscle_has_no_label(shift, points):
    body = halves()
    tissue = np.where(body.tissue == 9, CODES["fat"], body.tissue)
    affine = np.diag([3.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = shift - 3, -4, -4  # the rest of 5 points is in fat
    codes = tissue.astype(np.uint16) << 8
    grid = Grid((3, 9, 9), affine, "RAS")
    found = sample(codes, body, PLAIN, grid, voxel_table(Sequence()))
    assert found.share[1, 4, 4] == pytest.approx(points / 5)
    assert found.nearest[1, 4, 4] == 10 and found.labels[1, 4, 4] == 0


def test_patient_moved_by_whole_voxels(neck):
    affine = np.diag([2.0, 2.0, 6.0, 1.0])
    affine[:3, 3] = -80, -80, -33
    grid, table = Grid((80, 75, 11), affine, "RAS"), voxel_table(Sequence())
    shifted = CURVED._replace(shift_mm=np.array([4.0, -6.0, 12.0]))
    here = sample(neck.codes, neck.body, CURVED, grid, table)
    there = sample(neck.codes, neck.body, shifted, grid, table)
    for name in ("labels", "share"):
        a = getattr(here, name)[:-2, 3:, :-2]
        b = getattr(there, name)[2:, :-3, 2:]
        assert np.mean(a != b) < 1e-3, name
    assert here.labels.any()


def test_grid_that_turns_with_the_patient(neck):
    affine = np.diag([2.0, 2.0, 6.0, 1.0])
    affine[:3, 3] = -80, -80, -33
    grid, table = Grid((80, 75, 11), affine, "RAS"), voxel_table(Sequence())
    turn = Rotation.from_euler("xyz", [9, 4, -30], degrees=True)
    pose, turned = moved(CURVED, affine, turn, np.array([5.0, 5.0, -7.0]))
    here = sample(neck.codes, neck.body, CURVED, grid, table)
    there = sample(neck.codes, neck.body, pose, grid._replace(affine=turned), table)
    assert np.mean(here.labels != there.labels) < 1e-3


def test_table_1_by_hand():
    labels, levels = np.meshgrid(np.arange(15), np.arange(9), indexing="ij")
    kept = at_table_1(labels[:, None].astype(np.uint8), levels[0])[:, 0]
    for m in MUSCLES:
        at = {LEVELS[name] for name in TABLE_1[m.abbreviation].split()}
        wanted = [m.label if level in at else 0 for level in range(9)]
        np.testing.assert_array_equal(kept[m.label], wanted)
    assert not kept[0].any()


# --- protocol


def test_paper_grid_by_hand():
    grid = draw_grid(TIERS["clean"], np.random.default_rng(0))
    assert grid.shape == (457, 271, 40)  # 320 and 190 by 0.7, 120 by 3 mm
    assert grid.spacing_mm == pytest.approx([0.7, 0.7, 3])
    assert grid.stored_axes == "LAS"
    np.testing.assert_allclose(
        grid.affine[:3] @ [228, 135, 19.5, 1], [0, -12, 0], atol=1e-9
    )


def test_hard_grids_vary_and_stay_right_handed():
    rng = np.random.default_rng(0)
    grids = [draw_grid(TIERS["hard"], rng) for _ in range(300)]
    for grid in grids:
        unit = grid.affine[:3, :3] / grid.spacing_mm
        np.testing.assert_allclose(unit.T @ unit, np.eye(3), atol=1e-9)
        assert np.linalg.det(unit) > 0 and np.diag(unit).min() > 0.7
        in_plane, other, thickness = grid.spacing_mm.round(6)
        assert 0.5 <= in_plane == other <= 1.2 and 2 <= thickness <= 5
    assert len({g.stored_axes for g in grids}) > 40  # of 48


def test_jitter_keeps_the_echoes_apart_as_they_were():
    rng = np.random.default_rng(0)
    assert draw_sequence(TIERS["clean"], rng) == Sequence()
    drawn = [draw_sequence(TIERS["hard"], rng) for _ in range(200)]
    for s in drawn:
        assert s.te_out_ms / s.te_in_ms == pytest.approx(1.5)
    assert np.std([s.te_in_ms for s in drawn]) > 0.05
    assert np.std([s.tr_ms for s in drawn]) > 0.5
