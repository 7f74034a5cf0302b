import numpy as np
import pytest
from conftest import save_nifti

from cervjax.io.dixon import fat_water, read_scan
from cervjax.io.scans import Scan


def test_two_point_dixon_by_hand():
    result = fat_water(np.array([[[10.0, 4.0]]]), np.array([[[6.0, 5.0]]]))
    np.testing.assert_array_equal(result.fat, [[[2.0, -0.5]]])
    np.testing.assert_array_equal(result.water, [[[8.0, 4.5]]])
    assert result.source == "in-phase and out-of-phase"


@pytest.mark.parametrize(
    "stored, expected",
    [("uint16", "float32"), ("int16", "float32"), ("float64", "float64")],
)
def test_dixon_of_stored_integers_does_not_wrap(stored, expected):
    ip, oop = np.full((1, 1, 1), 30000, stored), np.full((1, 1, 1), 32000, stored)
    result = fat_water(ip, oop)
    assert (result.fat.item(), result.water.item()) == (-1000, 31000)
    assert result.fat.dtype == result.water.dtype == expected


def test_fractions_above_half_fold_back():
    water, fat = 30.0, 70.0
    ip, oop = np.full((1, 1, 1), water + fat), np.full((1, 1, 1), abs(water - fat))
    assert fat_water(ip, oop).fat.item() == min(water, fat)


def test_dixon_of_unequal_shapes():
    with pytest.raises(ValueError, match="shapes"):
        fat_water(np.zeros((2, 2, 2)), np.zeros((2, 2, 1)))


def write(folder, **images) -> Scan:
    """A scan of constant-free images, 4 x 4 x 4, 1 mm."""
    ramp = np.arange(64, dtype=np.float32).reshape(4, 4, 4)
    paths = {
        role: save_nifti(folder / f"{role}.nii", ramp + level, np.eye(4))
        for role, level in images.items()
    }
    return Scan("a", **paths)


def test_without_water_and_fat_a_wish_for_them_is_refused_with_a_warning(tmp_path):
    """Or a table of two kinds of fat fraction would look like one."""
    images = read_scan(write(tmp_path, in_phase=50, out_phase=20), measure_on="scanner")
    assert images.fat_water.source == "in-phase and out-of-phase"
    (warning,) = images.warnings
    assert "no water and fat images" in warning and "in-phase" in warning


def test_water_and_fat_are_measured_on_where_wanted(tmp_path):
    scan = write(tmp_path, in_phase=50, out_phase=20, water=35, fat=15)
    for wish, source in (
        ("echoes", "in-phase and out-of-phase"),
        ("scanner", "scanner water and fat"),
    ):
        images = read_scan(scan, measure_on=wish)
        assert images.fat_water.source == source
        assert len(images.warnings) == (wish == "scanner")
