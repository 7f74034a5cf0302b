import math

import numpy as np
import pytest

from cervjax.phantom import scan as scan_module
from cervjax.phantom.artefacts import (
    swapped_region,
)
from cervjax.phantom.protocol import TIERS
from cervjax.phantom.scan import make_scan

pytestmark = pytest.mark.xdist_group("phantom")
COARSE = (1.4, 1.4, 6.0, 6.0)
FINE = (1.1, 1.1, 3.3, 3.3)
"""Where partial volumes count: the least points to be sampled in a millimetre."""
CLEAN = TIERS["clean"]._replace(spacing_mm=FINE)
HARD = TIERS["hard"]._replace(spacing_mm=(1.1, 1.2, 3.0, 5.0))


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
