"""Masks on images of one contrast: `cervjax measure --method mixture2`."""

import csv
import sys

import nibabel as nib
import numpy as np
import pytest
from block_neck import block_neck
from conftest import save_nifti

from cervjax.cli.main import main

pytestmark = pytest.mark.usefixtures("no_pictures")

AFFINE = np.diag([-1.0, 1.0, 3.0, 1.0])  # stored as LAS


@pytest.fixture(scope="module")
def necks(tmp_path_factory):
    """Two T1 images, a quarter of each muscle bright, and their masks."""
    folder = tmp_path_factory.mktemp("t1")
    rng = np.random.default_rng(0)
    labels = block_neck()[::-1]
    labels = np.where(labels > 3, 0, labels)  # few, to be quick
    fat = rng.uniform(size=labels.shape) < 0.25
    for name in ("a_T1w", "b_T1w"):
        image = np.where(fat, 900, 300) + rng.normal(0, 30, labels.shape)
        save_nifti(folder / "images" / f"{name}.nii.gz", image.astype("f4"), AFFINE)
        save_nifti(folder / "masks" / f"{name}_dseg.nii.gz", labels, AFFINE)
    return folder, labels, fat


def run(*arguments):
    return main(["measure", *map(str, arguments)])


def table(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def test_rows_are_those_of_a_count_by_hand(necks, tmp_path):
    folder, labels, fat = necks
    more = ("--method", "mixture2", "--maps", "-q")
    assert run(folder / "images", folder / "masks", "-o", tmp_path, *more) == 0
    rows = table(tmp_path / "measurements_mixture.csv")
    assert [r["scan"] for r in rows] == ["a_T1w"] * 14 + ["b_T1w"] * 14
    for row in rows[:3] + rows[14:17]:
        inside = labels == int(row["label"])
        assert float(row["fat_percent"]) == pytest.approx(
            100 * fat[inside].mean(), rel=1e-5
        )
        volume = 0.003 * (fat & inside).sum()
        assert float(row["fat_volume_ml"]) == pytest.approx(volume, rel=1e-4)
        assert row["method"] == "mixture2" and row["image"] == f"{row['scan']}.nii.gz"
        assert row["verdict"] == "use", row["reasons"]
    tissues = nib.load(tmp_path / "a_T1w_mixture.nii.gz")
    np.testing.assert_array_equal(tissues.affine, AFFINE)
    expected = np.where(labels > 0, np.where(fat, 3, 1), 0)
    np.testing.assert_array_equal(np.asarray(tissues.dataobj), expected)
    assert not list(tmp_path.glob("measurements.csv"))


def test_scans_come_one_by_one_but_not_by_two_methods(necks, tmp_path, capsys):
    folder, *_ = necks
    for name in "ab":
        files = (folder / f"images/{name}_T1w.nii.gz", folder / "masks")
        mask = folder / f"masks/{name}_T1w_dseg.nii.gz"
        assert run(files[0], mask, "-o", tmp_path, "--method", "mixture3") == 0
    rows = table(tmp_path / "measurements_mixture.csv")
    assert {r["scan"] for r in rows} == {"a_T1w", "b_T1w"}
    assert all(r["undefined_percent"] for r in rows if r["voxels"] != "0")
    assert run(files[0], mask, "-o", tmp_path, "--method", "mixture2") == 2
    assert "has a_T1w by mixture3" in capsys.readouterr().err


def test_bad_masks_are_a_line_each_and_the_others_are_done(necks, tmp_path, capsys):
    folder, labels, _ = necks
    masks, images = tmp_path / "masks", tmp_path / "images"
    for name, mask in (("a", labels), ("b", labels[:-1]), ("c", labels)):
        save_nifti(masks / f"{name}.nii.gz", mask, AFFINE)
    image = nib.load(folder / "images/a_T1w.nii.gz").get_fdata()
    for name in "abd":
        save_nifti(images / f"{name}.nii.gz", image, AFFINE)
    out = tmp_path / "out"
    assert run(images, masks, "-o", out, "--method", "mixture2") == 1
    assert {r["scan"] for r in table(out / "measurements_mixture.csv")} == {"a"}
    failed = {r["scan"]: r["error"] for r in table(out / "failures.csv")}
    assert "not on the grid" in failed["b"] and "mask without a scan" in failed["c"]
    assert set(failed) == {"b", "c"}
    assert "without a mask, left out: d" in capsys.readouterr().out
    assert not list(out.glob("b*"))


def test_flags_of_dixon_scans_are_refused(necks, tmp_path, capsys):
    folder, *_ = necks
    given = (folder / "images", folder / "masks", "-o", tmp_path / "out")
    assert run(*given, "--method", "mixture2", "--levels", tmp_path / "x.csv") == 2
    assert "--levels is of Dixon scans" in capsys.readouterr().err


def test_without_scikit_learn_the_extra_is_named(necks, tmp_path, capsys, monkeypatch):
    folder, *_ = necks
    for name in [m for m in sys.modules if m.partition(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    given = (folder / "images", folder / "masks", "-o", tmp_path / "out")
    assert run(*given, "--method", "mixture2") == 2
    error = capsys.readouterr().err
    assert 'pip install "cervjax[mixture]"' in error and error.count("\n") == 1
    assert not list((tmp_path / "out").glob("*"))
