"""Regions in which a scanner has exchanged water and fat."""

from dataclasses import replace

import numpy as np
import pytest
from block_neck import SPACING_MM, block_neck, echoes

from cervjax.anatomy import MUSCLES
from cervjax.io.dixon import DixonImages, FatWater, dixon_images
from cervjax.io.nifti import image_of_array, read_nifti
from cervjax.measurement.composition import measure
from cervjax.measurement.swaps import swap_warnings, swapped_percent, swapped_region
from cervjax.measurement.verdict import judge_muscles

NECK = block_neck()
LABELS = {m.key: m.label for m in MUSCLES}


@pytest.fixture(scope="module")
def images() -> DixonImages:
    """A scan with the scanner's water and fat, both right."""
    affine = np.diag([*SPACING_MM, 1.0])
    ip, oop = echoes(NECK)
    volumes = {
        "in_phase": ip,
        "out_phase": oop,
        "water": (ip + oop) / 2,
        "fat": np.abs(ip - oop) / 2,
    }
    return dixon_images(
        {k: read_nifti(image_of_array(v, affine)) for k, v in volumes.items()}
    )


def exchanged(images: DixonImages, where) -> DixonImages:
    own = images.scanner
    region = np.zeros(NECK.shape, bool)
    region[where] = True
    water = np.where(region, own.fat, own.water)
    fat = np.where(region, own.water, own.fat)
    return replace(images, scanner=FatWater(fat, water, own.source))


def test_nothing_is_found_where_nothing_is_exchanged(images):
    region = swapped_region(NECK, images)
    assert not region.any()
    assert swap_warnings(swapped_percent(NECK, region), images) == []
    alone = replace(images, scanner=None)
    assert swapped_region(NECK, alone) is None
    assert swapped_percent(NECK, None) == [None] * 14


def test_a_region_is_found_and_its_share_of_each_muscle(images):
    wrong = exchanged(images, np.s_[:60, :, :14])  # the left, below C4
    region = swapped_region(NECK, wrong)
    expected = (NECK > 0) & (np.indices(NECK.shape)[0] < 60)
    expected[..., 14:] = False
    np.testing.assert_array_equal(region, expected)
    percent = swapped_percent(NECK, region)
    for m, found in zip(MUSCLES, percent, strict=True):
        share = 100 * expected[NECK == m.label].mean()
        assert found == pytest.approx(share)
    (warning,) = swap_warnings(percent, wrong)
    assert "LS_L (100 %)" in warning and "SPCap_L (33 %)" in warning
    assert "LS_R" not in warning and "more than half fat" in warning


def test_streaks_and_noise_are_no_region(images):
    rng = np.random.default_rng(0)
    few = rng.random(NECK.shape) < 0.02
    assert not swapped_region(NECK, exchanged(images, few)).any()


@pytest.mark.parametrize(
    ("slices", "verdict"), [(26, "do_not_use"), (10, "look"), (0, "use")]
)
def test_it_counts_where_fat_is_measured_on_the_scanners(images, slices, verdict):
    wrong = exchanged(images, np.s_[:60, :, :slices])
    percent = swapped_percent(NECK, swapped_region(NECK, wrong))
    for measured, expected in ((wrong.scanner, verdict), (wrong.fat_water, "use")):
        scan = replace(wrong, fat_water=measured)
        rows = measure(NECK, measured.fat, measured.water, voxel_volume_ml=0.003)
        rows = [
            row
            | {
                "scanner_swapped_percent": p,
                "mfi_percent": 12.0,
                "asymmetry_mfi_points": 0.0,
            }
            for row, p in zip(rows, percent, strict=True)
        ]
        own = judge_muscles(rows, NECK, scan)[LABELS["SCM_L"] - 1]
        assert own.verdict == expected
