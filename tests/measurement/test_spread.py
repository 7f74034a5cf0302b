"""Spread of fat, lean volume, largest cross-section, and a moved outline."""

import json

import nibabel as nib
import numpy as np
import pytest
from block_neck import SPACING_MM, block_neck, echoes
from conftest import save_nifti

from cervjax.anatomy import MUSCLES
from cervjax.cli.main import main
from cervjax.io.dixon import fat_water
from cervjax.measurement.statistics import histogram, measure_spread

NECK = block_neck()
BOTH = fat_water(*echoes(NECK))


def test_spread_is_numpys():
    rows = measure_spread(NECK, BOTH.fat, BOTH.water, SPACING_MM)
    for m, row in zip(MUSCLES, rows, strict=True):
        inside = NECK == m.label
        fat, water = (v[inside].astype(float) for v in (BOTH.fat, BOTH.water))
        percent = 100 * fat / (fat + water)
        assert row["fat_fraction_sd_percent"] == pytest.approx(percent.std())
        for p in (5, 25, 75, 95):
            expected = pytest.approx(np.percentile(percent, p))
            assert row[f"fat_fraction_p{p}_percent"] == expected
        lean = (water / (fat + water)).sum() * 0.003
        assert row["lean_volume_ml"] == pytest.approx(lean)
        assert row["area_max_mm2"] == inside.sum((0, 1)).max()


def block(spacing=(1.0, 1.0, 3.0)):
    """Muscle 9, of 6 x 8 x 4 voxels without fat, in half fat; 10 lies at its side."""
    labels = np.zeros((20, 20, 10), np.uint8)
    labels[5:11, 6:14, 3:7] = 9
    labels[11:15, 6:14, 3:7] = 10
    fat = np.where(labels == 9, 0.0, 50.0)
    return labels, fat, 100.0 - fat, spacing


def test_the_outline_moves_within_thick_slices_and_not_into_neighbours():
    row = measure_spread(*block())[8]
    assert row["outline_step_mm"] == 1 and row["mfi_outline_in_percent"] == 0
    inside, ring = 6 * 8 * 4, (8 + 6 + 6) * 4  # no corners; one side is muscle 10's
    expected = 100 * 50 * ring / (100 * (inside + ring))
    assert row["mfi_outline_out_percent"] == pytest.approx(expected)
    assert row["area_max_slice"] == 3 and row["area_max_mm2"] == 48
    cubes = measure_spread(*block((1.0, 1.0, 1.0)))[8]
    caps = 2 * 6 * 8
    expected = 100 * 50 * (ring + caps) / (100 * (inside + ring + caps))
    assert cubes["mfi_outline_out_percent"] == pytest.approx(expected)


def test_a_rim_of_fat_shows_when_the_outline_moves_in():
    labels, fat, water, spacing = block()
    rim = labels == 9
    rim[6:10, 7:13] = False
    fat = np.where(rim, 40.0, fat)
    row = measure_spread(labels, fat, 100 - fat, spacing)[8]
    assert row["mfi_outline_in_percent"] == 0
    assert row["fat_fraction_p95_percent"] == 40


def test_an_absent_and_a_tiny_muscle():
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[0, 0, 0] = 3
    ones = np.ones(labels.shape)
    rows = measure_spread(labels, ones, ones, (1.0, 1.0, 1.0))
    assert np.isnan(rows[0]["mfi_outline_in_percent"]) and rows[0]["area_max_mm2"] == 0
    assert rows[2]["fat_fraction_sd_percent"] == 0
    assert np.isnan(rows[2]["mfi_outline_in_percent"])  # nothing is left
    assert measure_spread(labels, 0 * ones, 0 * ones, (1.0, 1.0, 1.0))


def test_the_histogram_counts_every_voxel():
    rows = histogram(NECK, BOTH.fat, BOTH.water)
    for m in MUSCLES:
        own = [row for row in rows if row["label"] == m.label]
        assert sum(row["voxels"] for row in own) == (NECK == m.label).sum()
        assert all(row["to_percent"] - row["from_percent"] == 5 for row in own)
    wild = histogram(NECK, np.full(NECK.shape, 3.0), np.full(NECK.shape, -2.0))
    assert {row["to_percent"] for row in wild if row["label"] == 1} == {120}


def test_maps_lie_on_the_scans_grid_and_say_what_they_are(tmp_path):
    affine = np.diag([-1.0, 1.0, 3.0, 1.0])
    images = [np.ascontiguousarray(v[::-1]) for v in echoes(NECK)]
    for name, image in zip(("in", "out"), images, strict=True):
        save_nifti(tmp_path / "scans" / f"a_{name}phase.nii.gz", image, affine)
    save_nifti(tmp_path / "masks" / "a_dseg.nii.gz", NECK[::-1], affine)
    where = (tmp_path / "scans", tmp_path / "masks", "-o", tmp_path / "out")
    assert main(["measure", *map(str, where), "--maps", "--histogram"]) == 0
    maps = {
        name: nib.load(tmp_path / "out" / f"a_{name}.nii.gz")
        for name in ("water", "fat", "fatfraction")
    }
    for image in maps.values():
        np.testing.assert_array_equal(image.affine, affine)
        assert image.get_data_dtype() == np.float32
    water, fat, fraction = (image.get_fdata() for image in maps.values())
    expected = (images[0] - images[1]) / 2
    np.testing.assert_allclose(fat, expected, rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(water + fat, images[0], rtol=1e-6, atol=1e-4)
    inside = NECK[::-1] == 9
    np.testing.assert_allclose(
        fraction[inside], (100 * fat / (fat + water))[inside], rtol=1e-5
    )
    said = json.loads((tmp_path / "out" / "a_fatfraction.json").read_text())
    assert said["Units"] == "%" and "70 % as 30 %" in said["FoldingAbove50Percent"]
    assert (tmp_path / "out" / "measurements_histogram.csv").is_file()


def test_maps_among_the_scans_are_refused(tmp_path, capsys):
    """They would be taken for the scanner's water and fat in the next run."""
    for name, image in zip(("in", "out"), echoes(NECK), strict=True):
        save_nifti(tmp_path / f"a_{name}phase.nii.gz", image, np.eye(4))
    save_nifti(tmp_path / "a_dseg.nii.gz", NECK, np.eye(4))
    out = tmp_path / "sub"
    where = (tmp_path, tmp_path, "-o", out, "--maps")
    assert main(["measure", *map(str, where)]) == 2
    assert "taken for images of scans" in capsys.readouterr().err
    assert not out.exists()
