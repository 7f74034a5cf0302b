import numpy as np
import pytest

from cervjax.anatomy import MUSCLES
from cervjax.measurement.composition import measure
from cervjax.phantom import scan as scan_module
from cervjax.phantom.atlas import load_anatomy
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
    assert fatty.sum() >= 10
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
    lean = with_mfi(build_neck(thin, load_anatomy()), np.zeros(14))
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
