import numpy as np
import pytest
from conftest import save_nifti

from cervjax.io.dixon import fat_water, read_scan
from cervjax.io.nifti import NiftiError
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


def test_images_of_one_scan_must_share_a_grid(tmp_path):
    scan = write(tmp_path, in_phase=50, out_phase=20)
    shifted = np.eye(4)
    shifted[0, 3] = 0.5
    image = np.arange(64, dtype=np.float32).reshape(4, 4, 4)
    save_nifti(scan.files["out_phase"], image, shifted)
    with pytest.raises(NiftiError, match=r"out_phase\.nii.*0\.50 mm apart"):
        read_scan(scan)


def test_water_and_fat_alone_give_what_the_echoes_would_have_been(tmp_path):
    images = read_scan(write(tmp_path, water=0, fat=10))
    assert images.fat_water is images.scanner
    np.testing.assert_array_equal(images.in_phase, 2 * images.scanner.water + 10)
    np.testing.assert_array_equal(images.out_phase, 10)  # |W - F|, not W - F
    assert any("W + F" in warning for warning in images.warnings)


@pytest.mark.parametrize(
    ("levels", "warning"),
    [
        ({"in_phase": 20, "out_phase": 50}, "brighter in 100 % of the body"),
        ({"in_phase": 20, "out_phase": 20}, "identical: every MFI will be 0 %"),
    ],
)
def test_exchanged_or_equal_echoes_are_noticed(tmp_path, levels, warning):
    (found,) = read_scan(write(tmp_path, **levels)).warnings
    assert warning in found


@pytest.mark.parametrize(("degrees", "warned"), [(20, False), (35, True)])
def test_an_oblique_scan_is_told_of(tmp_path, degrees, warned):
    turn = np.eye(4)
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn[1:3, 1:3] = (c, -s), (s, c)
    scan = write(tmp_path, in_phase=50, out_phase=20)
    for role, path in scan.files.items():
        level = {"in_phase": 50, "out_phase": 20}[role]
        image = level + np.arange(64, dtype=np.float32).reshape(4, 4, 4)
        save_nifti(path, image, turn)
    warnings = read_scan(scan).warnings
    assert [f"{degrees} degrees off" in w for w in warnings] == [True] * warned
