import math
from types import SimpleNamespace

import numpy as np
import pytest

from cervjax.anatomy import MUSCLES
from cervjax.measurement.composition import measure
from cervjax.phantom import scan as scan_module
from cervjax.phantom.artefacts import (
    FIELD_STEP_MM,
    add_metal,
    at_voxels,
    coil_shading,
    dephasing,
    field_map_hz,
    fold,
    move,
    pulsate,
    swallow,
    swapped_region,
)
from cervjax.phantom.body import Body
from cervjax.phantom.neck import build_neck, with_mfi
from cervjax.phantom.protocol import TIERS
from cervjax.phantom.scan import make_scan
from cervjax.phantom.signal import Sequence, fat_weights, water_weights
from cervjax.phantom.subject import MEAN_MFI_PERCENT, draw_subject
from cervjax.phantom.tissues import CODES

pytestmark = pytest.mark.xdist_group("phantom")

COARSE = (1.4, 1.4, 6.0, 6.0)
FINE = (1.1, 1.1, 3.3, 3.3)
"""Where partial volumes count: the least points to be sampled in a millimetre."""
VOXEL_ML = 1.1 * 1.1 * 3.3 / 1000
CLEAN = TIERS["clean"]._replace(spacing_mm=FINE)
HARD = TIERS["hard"]._replace(spacing_mm=(1.1, 1.2, 3.0, 5.0))
TABLE_1 = {
    "MFSS": {4, 5, 6},
    "LC": {3, 4, 5, 6},
    "SPCap": {3, 4, 5},
    "SSCap": {3, 4, 5},
    "SCM": {4, 5, 6},
    "TR": {6},
    "LS": {5, 6},
}
LEANEST = 0.01
"""Mean fat fraction of a muscle that shows more than was wanted."""


@pytest.fixture(scope="module")
def sampled_and_clean(neck):
    """What the voxels hold, and the scan of it."""
    kept = []

    def spy(*args):
        kept.append(sample(*args))
        return kept[-1]

    sample = scan_module.sample
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan_module, "sample", spy)
        scan = make_scan(neck, CLEAN, (0, 0))
    return kept[0], scan


@pytest.fixture(scope="module")
def clean(sampled_and_clean):
    return sampled_and_clean[1]


@pytest.fixture(scope="module")
def scans(neck, clean):
    tiers = {"clinical": TIERS["clinical"]._replace(spacing_mm=FINE), "hard": HARD}
    return {"clean": clean} | {n: make_scan(neck, t, (0, 0)) for n, t in tiers.items()}


def mfi_of(scan):
    return np.array([row["mfi_signal_percent"] for row in scan.truth])


# --- all severities


@pytest.mark.parametrize("severity", TIERS)
def test_water_and_fat_are_the_whole(scans, severity):
    scan = scans[severity]
    images = scan.in_phase, scan.out_phase, scan.water, scan.fat
    for image in images:
        assert image.dtype == np.int16 and image.min() >= 0
        assert image.shape == scan.grid.shape
    np.testing.assert_array_equal(scan.water + scan.fat, scan.in_phase)
    assert scan.in_phase.max() < 16_000  # far from overflow


@pytest.mark.parametrize("severity", TIERS)
def test_muscles_are_labelled_at_their_levels_only(scans, severity):
    scan = scans[severity]
    for m in MUSCLES:
        mask = scan.labels == m.label
        at = set(np.unique(scan.levels[mask]))
        assert at == TABLE_1[m.abbreviation], m.key
        inside = np.isin(scan.levels, list(TABLE_1[m.abbreviation]))
        np.testing.assert_array_equal(mask, (scan.full_labels == m.label) & inside)
    beyond = scan.full_labels[scan.labels == 0]
    assert set(np.unique(beyond)) == set(range(15))  # they go on elsewhere


@pytest.mark.parametrize("severity", TIERS)
def test_right_is_right(scans, severity):
    """The grid runs along +x, so right muscles have higher indices."""
    scan = scans[severity]
    assert scan.grid.affine[0, 0] > 0
    for right, left in zip(MUSCLES[::2], MUSCLES[1::2], strict=True):
        x = [
            np.nonzero(scan.full_labels == m.label)[0].mean() * scan.grid.spacing_mm[0]
            for m in (right, left)
        ]
        assert x[0] > x[1] + 15, right.abbreviation


def test_same_seed_same_scan(neck, scans):
    first = scans["hard"]
    again, other = (make_scan(neck, HARD, (0, k)) for k in (0, 1))
    for field in ("in_phase", "out_phase", "water", "labels", "pdff_percent"):
        np.testing.assert_array_equal(getattr(first, field), getattr(again, field))
    assert first.settings == again.settings != other.settings
    assert first.grid.stored_axes == again.grid.stored_axes
    np.testing.assert_array_equal(first.grid.affine, again.grid.affine)


# --- clean scans


def test_signal_of_voxels_within_one_muscle(sampled_and_clean):
    """Against the closed form, which test_phantom_signal checks, and one scale."""
    sampled, scan = sampled_and_clean
    whole = sampled.share == 1
    assert whole.sum() > 50_000
    q = scan.pdff_percent[whole].astype(np.float64)[:, None] / 100
    water, fat = water_weights(Sequence())[CODES["1"]], fat_weights(Sequence())
    predicted = np.abs((1 - q) * water + q * fat)
    written = np.stack([scan.in_phase[whole], scan.out_phase[whole]], 1)
    scale = (predicted * written).sum() / (predicted**2).sum()
    assert np.abs(scale * predicted - written).max() < 0.6  # rounding, and no more
    assert np.ptp(q) > 0.2


def test_truth_of_infiltration_from_the_images(clean):
    measured = measure(
        clean.labels,
        (clean.in_phase - clean.out_phase) / 2,
        (clean.in_phase + clean.out_phase) / 2,
        voxel_volume_ml=VOXEL_ML,
    )
    for m, row, other in zip(MUSCLES, clean.truth, measured, strict=True):
        mask = clean.labels == m.label
        inside = clean.in_phase[mask].astype(float).mean()
        outside = clean.out_phase[mask].astype(float).mean()
        mfi = 100 * (inside - outside) / 2 / inside
        for name in ("mfi_signal_percent", "mfi_image_percent"):
            assert row[name] == pytest.approx(mfi, abs=0.05), m.key
            assert row[name] == pytest.approx(other["mfi_percent"], abs=0.05)
        assert (row["label"], row["muscle"]) == (m.label, m.abbreviation)
        assert row["side"] == m.side
        assert row["voxels"] == mask.sum() == other["voxels"]
        assert row["volume_ml"] == pytest.approx(mask.sum() * VOXEL_ML)
        whole = (clean.full_labels == m.label).sum()
        assert row["volume_full_ml"] == pytest.approx(whole * VOXEL_ML)


def test_density_fat_fraction_of_masks(clean):
    """T1 makes fat bright: signal says more than protons do."""
    for row in clean.truth:
        mask = clean.labels == row["label"]
        # every muscle's density is 0.8, a little more or less at its border
        map_mean = clean.pdff_percent[mask].mean(dtype=np.float64)
        assert row["pdff_mask_percent"] == pytest.approx(map_mean, abs=0.3)
        assert row["pdff_mask_percent"] < row["mfi_signal_percent"]
    body = clean.pdff_percent[clean.levels > 0]
    assert body.min() >= 0 and 90 < body.max() <= 100


def test_infiltration_is_what_was_drawn(neck):
    """On the paper's grid. Calibrated lying straight; this one lies as subjects do."""
    scan = make_scan(neck, TIERS["clean"], (0, 0))
    drawn, found = neck.subject.mfi_percent, mfi_of(scan)
    fatty = neck.mean_fraction[1:] > LEANEST
    assert fatty.sum() >= 12
    np.testing.assert_allclose(found[fatty], drawn[fatty], atol=0.6)
    assert (found[~fatty] > drawn[~fatty] - 0.6).all()


def test_infiltration_is_what_was_drawn_lying_straight(neck):
    wanted = np.linspace(9, 30, 14)
    tier = TIERS["clean"]._replace(tilt_deg=0, shift_mm=0)
    changed = with_mfi(neck, wanted)
    scan = make_scan(changed, tier, (0, 3))
    fatty = changed.mean_fraction[1:] > LEANEST
    assert fatty.sum() >= 12
    np.testing.assert_allclose(mfi_of(scan)[fatty], wanted[fatty], atol=0.3)


@pytest.mark.slow
def test_fat_around_a_muscle_alone_is_less_than_the_muscles_own():
    """Even of the thinnest sheet MFI has to tell its fat, not how it was outlined."""
    trapezius = [m.label - 1 for m in MUSCLES if m.abbreviation == "TR"]
    subjects = [draw_subject(11, i) for i in range(20)]
    thin = min(subjects, key=lambda s: s.muscle_area[trapezius].mean())
    tier = TIERS["clean"]._replace(tilt_deg=0, shift_mm=0)
    lean = with_mfi(build_neck(thin), np.zeros(14))
    found = mfi_of(make_scan(lean, tier, (0, 3)))
    for m in MUSCLES:
        assert found[m.label - 1] < MEAN_MFI_PERCENT[m.key] - 1, m.key


def test_more_fat_in_one_muscle(neck, clean):
    more = np.where(np.arange(1, 15) == 9, 5.0, 0.0)
    scan = make_scan(with_mfi(neck, neck.subject.mfi_percent + more), CLEAN, (0, 0))
    change = mfi_of(scan) - mfi_of(clean)
    assert change[8] == pytest.approx(5, abs=0.4)
    assert np.abs(np.delete(change, 8)).max() < 0.3
    np.testing.assert_array_equal(scan.labels, clean.labels)
    elsewhere = np.abs(scan.in_phase - clean.in_phase)[clean.full_labels != 9]
    assert np.mean(elsewhere > 25) < 0.01


def test_volume_of_tissue_against_the_body(neck):
    """Levels of 16 mm, cut exactly into slices of 2 mm."""
    plain = neck.subject._replace(
        level_heights=np.ones(7), lordosis_deg=0.0, shoulder_mm=0.0
    )
    tier = TIERS["clean"]._replace(
        tilt_deg=0, shift_mm=0, spacing_mm=(1.0, 1.0, 2.0, 2.0)
    )
    scan = make_scan(neck._replace(subject=plain), tier, (0, 4))
    body, z = neck.body, -78.0 + np.arange(157)
    top = {"C3": 40, "C4": 24, "C5": 8, "C6": -8}
    for m, row in zip(MUSCLES, scan.truth, strict=True):
        low, high = top[m.levels[-1]] - 16, top[m.levels[0]]
        planes = (body.tissue == m.label).sum((1, 2))
        inner = planes[(z > low) & (z < high)].sum()
        ends = planes[(z == low) | (z == high)].sum() / 2
        wanted = (inner + ends) * 0.25 / 1000
        assert row["volume_tissue_ml"] == pytest.approx(wanted, rel=0.04), m.key
        assert row["volume_ml"] == pytest.approx(wanted, rel=0.10), m.key


def test_scale_and_settings_of_a_clean_scan(clean):
    muscle = clean.in_phase[clean.full_labels > 0]
    assert np.median(muscle) == pytest.approx(500, abs=1)
    settings = clean.settings
    assert settings["snr"] is None and settings["motion_mm"] == 0
    assert not (settings["fat_water_swap"] or settings["wrap"])
    assert settings["te_in_ms"] == 2.46 and settings["te_out_ms"] == 3.69
    assert (clean.in_phase[clean.pdff_percent + clean.levels == 0] < 40).all()


def test_fold_over_changes_the_ends_only(neck):
    tier = TIERS["clean"]._replace(spacing_mm=COARSE, field_of_view_mm=(230, 230))
    plain, wrapped = (make_scan(neck, tier._replace(wrap=p), (0, 5)) for p in (0, 1))
    assert wrapped.settings["wrap"] is True and plain.settings["wrap"] is False
    for field in ("labels", "full_labels", "levels", "pdff_percent"):
        different = getattr(wrapped, field) != getattr(plain, field)
        assert np.mean(different) < 1e-3, field
    np.testing.assert_allclose(mfi_of(wrapped), mfi_of(plain), atol=0.05)
    changed = np.abs(wrapped.in_phase - plain.in_phase) > 5
    ends = round(0.06 * plain.grid.shape[1])
    assert changed[:, ends:-ends].mean() < 1e-3
    assert changed[:, :ends].mean() + changed[:, -ends:].mean() > 0.05


# --- swap, noise


@pytest.fixture(scope="module")
def swapped_or_not(neck):
    tier = TIERS["clinical"]._replace(spacing_mm=COARSE)
    return [make_scan(neck, tier, (0, 7), swap=swap) for swap in (True, False)]


def test_swap_exchanges_water_and_fat_somewhere(swapped_or_not):
    with_swap, without = swapped_or_not
    changed = with_swap.water != without.water
    assert 0.005 < changed.mean() < 0.98
    np.testing.assert_array_equal(with_swap.water[changed], without.fat[changed])
    np.testing.assert_array_equal(with_swap.fat[changed], without.water[changed])
    np.testing.assert_array_equal(with_swap.fat[~changed], without.fat[~changed])
    assert with_swap.settings["fat_water_swap"] is True
    assert without.settings["fat_water_swap"] is False


def test_swap_leaves_the_echoes_and_the_truth(swapped_or_not):
    with_swap, without = swapped_or_not
    for field in ("in_phase", "out_phase", "labels", "full_labels", "pdff_percent"):
        a, b = getattr(with_swap, field), getattr(without, field)
        assert a.tobytes() == b.tobytes(), field
    np.testing.assert_array_equal(mfi_of(with_swap), mfi_of(without))


def test_scanner_knows_fat_from_water_where_it_does_not_swap(clean, swapped_or_not):
    for scan in (clean, swapped_or_not[1]):
        fatty = scan.pdff_percent > 90
        lean = (scan.full_labels > 0) & (scan.pdff_percent < 5)
        assert np.median(scan.fat[fatty] / scan.in_phase[fatty]) > 0.8
        assert np.median(scan.water[lean] / scan.in_phase[lean]) > 0.9


@pytest.mark.parametrize("region_seed", range(8))
def test_swapped_regions_are_parts(region_seed):
    region = swapped_region((40, 30, 20), np.random.default_rng(region_seed))
    assert region.shape == (40, 30, 20) and 0.01 < region.mean() < 0.8


def test_signal_to_noise_ratio(scans):
    scan = scans["clinical"]
    air = scan.in_phase[:, -40:][[*range(12), *range(-12, 0)]].astype(float)
    sigma = air.mean() / math.sqrt(math.pi / 2)  # Rayleigh
    assert air.std() == pytest.approx(sigma * math.sqrt(2 - math.pi / 2), rel=0.05)
    ratio = np.median(scan.in_phase[scan.labels > 0]) / sigma
    assert ratio == pytest.approx(scan.settings["snr"], rel=0.15)
    assert 16 <= scan.settings["snr"] <= 40


# --- artefacts


def complex_image(seed=0, shape=(5, 24, 3)):
    rng = np.random.default_rng(seed)
    image = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    return image.astype(np.complex64)


def test_fold_by_hand():
    line = np.array([1, 2, 10, 20, 30, 40, 3, 4])[None, :, None]
    found = fold(line, 2)[0, :, 0]
    # 1 2 lie in front of the first row: they appear at the end; 3 4 at the start
    np.testing.assert_array_equal(found, [10 + 3, 20 + 4, 30 + 1, 40 + 2])
    np.testing.assert_array_equal(fold(line, 0), line)


def from_the_first_line():
    """In place of a generator: the motion begins long before the scan."""
    return SimpleNamespace(uniform=lambda low, high: -10.0)


def test_no_motion_is_the_identity():
    image = complex_image()
    found = move(image, np.random.default_rng(0), 0.0, 0.7)
    np.testing.assert_allclose(found, image, atol=1e-5)


@pytest.mark.parametrize("rows", [3, -5])
def test_motion_of_the_whole_scan_is_a_shift(rows):
    image = complex_image()
    found = move(image, from_the_first_line(), rows * 0.7, 0.7)
    np.testing.assert_allclose(found, np.roll(image, rows, 1), atol=1e-5)


def test_motion_keeps_the_energy_and_blurs():
    image = complex_image()
    found = move(image, np.random.default_rng(1), 2.0, 0.7)
    energy = [np.sum(np.abs(v) ** 2, (1,)) for v in (found, image)]
    np.testing.assert_allclose(*energy, rtol=1e-4)
    assert np.abs(found - image).max() > 0.1


def test_swallowing_stays_in_its_columns():
    image = complex_image(shape=(9, 64, 4))
    where = np.zeros(image.shape, np.float32)
    where[3:6, 20:30] = 1
    still = swallow(image, where, np.random.default_rng(0), 0.0)
    np.testing.assert_allclose(still, image, atol=1e-5)
    np.testing.assert_array_equal(swallow(image, 0 * where, None, 0.5), image)
    ghosts = swallow(image, where, np.random.default_rng(0), 0.5) - image
    assert (ghosts[:3] == 0).all() and (ghosts[6:] == 0).all()
    assert np.abs(ghosts[3:6]).max() > 0.05
    assert np.abs(ghosts[3:6, 40:]).max() > 0.01  # along the whole column


def test_pulsation_by_hand():
    image = np.zeros((3, 300, 2), np.complex64)
    image[1, 150, 0] = image[0, 50, 1] = 4
    arteries = np.zeros(image.shape, np.float32)
    arteries[1] = 1
    still = pulsate(image, arteries, np.random.default_rng(0), 0.0)
    np.testing.assert_array_equal(still, image)
    found = pulsate(image, arteries, np.random.default_rng(0), 0.1)
    ghosts = np.abs(found - image)
    assert not ghosts[[0, 2]].any() and not ghosts[1, :, 1].any()
    rows = np.flatnonzero(ghosts[1, :, 0])
    period = rows[-2] - 150
    assert 24 <= period < 60
    assert list(rows - 150) == [-2 * period, -period, period, 2 * period]
    assert ghosts[1, rows, 0] == pytest.approx([0.16, 0.4, 0.4, 0.16], rel=1e-4)


def sphere(radius_mm, centre_mm=(2.0, -10.0, 0.0)):
    """Fat in air, on the usual grid; centre z, y, x."""
    first, step = np.array([-78.0, -122.0, -156.0]), np.array([1.0, 0.5, 0.5])
    axes = [
        f + s * np.arange(n)
        for f, s, n in zip(first, step, (157, 445, 625), strict=True)
    ]
    square = [(a - c) ** 2 for a, c in zip(axes, centre_mm, strict=True)]
    inside = square[0][:, None, None] + square[1][:, None] + square[2] < radius_mm**2
    return Body(np.where(inside, CODES["fat"], 0).astype(np.uint8), first, step)


@pytest.mark.parametrize("field_t", [3.0, 1.5], ids=str)
@pytest.mark.parametrize("radius_mm", [32.0, 40.0], ids=str)
def test_field_of_a_sphere_is_a_dipole(radius_mm, field_t):
    """But for a shim of second order, which is taken out of both."""
    hz = field_map_hz(sphere(radius_mm), field_t)
    axes = [
        f + FIELD_STEP_MM * np.arange(n) - c
        for f, n, c in zip((-78, -122, -156), hz.shape, (2, -10, 0), strict=True)
    ]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    r = np.sqrt(x**2 + y**2 + z**2)
    outside = (r > 1.2 * radius_mm) & (r < 1.9 * radius_mm)
    x, y, z, r = (v[outside] for v in (x, y, z, r))
    ppm = (-9.05 - 0.36) / 3 * (radius_mm / r) ** 3 * (3 * (z / r) ** 2 - 1)
    shim = np.stack(
        [
            np.ones_like(x),
            x,
            y,
            z,
            x * y,
            x * z,
            y * z,
            x * x - y * y,
            2 * z * z - x * x - y * y,
        ],
        1,
    )
    left = [
        v - shim @ np.linalg.lstsq(shim, v, rcond=None)[0]
        for v in (hz[outside], 42.577 * field_t * ppm)
    ]
    slope = (left[0] @ left[1]) / (left[1] @ left[1])
    assert slope == pytest.approx(1, abs=0.12)
    assert np.corrcoef(*left)[0, 1] > 0.97


def test_field_within_a_sphere_is_shimmed_away():
    body = sphere(40.0)
    hz = field_map_hz(body, 3.0)
    middle = hz[16:25, 24:33, 35:44]  # 16 mm to all sides
    assert np.abs(middle).max() < 20
    assert np.abs(hz).max() > 200


def test_shim_leaves_no_slope_in_the_neck(neck):
    hz = field_map_hz(neck.body, 3.0)
    inside = neck.body.tissue[::4, ::8, ::8] > 0
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in hz.shape), indexing="ij")
    inside &= np.abs(z) < 0.75  # what is shimmed
    left = hz[inside]
    assert 20 < left.std() < 300
    for term in (np.ones_like(x), x, y, z, x * y, x * z, y * z):
        share = (left @ term[inside]) / np.linalg.norm(left)
        assert abs(share) < 1e-6 * np.linalg.norm(term[inside])


def test_metal_by_hand():
    body = SimpleNamespace(first_mm=np.array([-40.0, -40.0, -40.0]))
    hz = np.full((21, 21, 21), 7.0)
    found = add_metal(hz, body, np.array([[0.0, 0.0, 0.0]]), 4.0) - 7
    # at one radius 2 and -1 times the strength, at two an eighth of it
    assert found[[9, 11], 10, 10] == pytest.approx([24_000] * 2)
    assert found[10, [9, 11], 10] == pytest.approx([-12_000] * 2)
    assert found[12, 10, 10] == pytest.approx(3000)
    assert found[10, 10, 12] == pytest.approx(-1500)
    assert (hz == 7).all()


def test_flat_field_does_not_dephase():
    np.testing.assert_array_equal(dephasing(np.full((4, 5, 6), 80.0), 3.69, 3.0), 1)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_dephasing_of_a_slope(axis):
    slope, te, voxel = 25.0, 3.69, 3.0  # Hz/mm, ms, mm
    ramp = slope * FIELD_STEP_MM * np.arange(8.0)
    shape = [-1 if i == axis else 1 for i in range(3)]
    hz = np.broadcast_to(ramp.reshape(shape), (8, 8, 8))
    u = (np.arange(10_000) + 0.5) / 10_000 * voxel - voxel / 2
    wanted = abs(np.exp(2j * np.pi * slope * u * te / 1000).mean())
    assert 0.8 < wanted < 0.9
    np.testing.assert_allclose(dephasing(hz, te, voxel), wanted, rtol=1e-6)


def test_field_between_its_points():
    body = SimpleNamespace(first_mm=np.array([-10.0, 0.0, 5.0]))
    field = np.add.outer(
        np.add.outer(100.0 * np.arange(4), 10 * np.arange(4)), np.arange(4)
    )
    at = np.array([[-10.0, -4.0], [4.0, 6.0], [5.0, 16.0]])  # z, y, x
    found = at_voxels(field, at[..., None, None], body)
    np.testing.assert_allclose(found.ravel(), [10, 150 + 15 + 2.75])


def test_coils():
    points = np.random.default_rng(0).uniform(-60, 60, (3, 12, 10, 8))
    flat = coil_shading(points, 0.0, np.random.default_rng(1))
    np.testing.assert_allclose(flat, 1)
    shade = coil_shading(points, 1.0, np.random.default_rng(1))
    assert shade.mean() == pytest.approx(1)
    centre, rim = np.zeros((3, 1)), np.array([[0.0], [-80.0], [0.0]])
    both = np.concatenate([centre, rim], 1)
    low, high = coil_shading(both, 1.0, np.random.default_rng(1))
    assert high > 1.2 * low
