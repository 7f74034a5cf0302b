"""Results for other programs, and MuscleMap's back."""

import csv

import nibabel as nib
import numpy as np
import pytest
from block_neck import LEVEL_SLICES, block_neck, echoes
from conftest import save_nifti

from cervjax.anatomy import MUSCLES
from cervjax.cli.main import main
from cervjax.io.label_sets import MUSCLEMAP
from cervjax.measurement.neighbours import (
    musclemap_rows,
    rows_of_musclemap,
    sct_levels,
)

AFFINE = np.diag([-1.0, 1.0, 3.0, 1.0])  # stored as LAS


def table(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two measured necks of blocks, with levels; of b the left SCM is missing."""
    folder = tmp_path_factory.mktemp("translation")
    with pytest.MonkeyPatch.context() as patch:
        home = "cervjax.figures.quality"
        patch.setattr(f"{home}.qc_figure", lambda *args, **options: None)
        patch.setattr(f"{home}.save_png", lambda figure, path: path.touch())
        for name in "ab":
            neck = block_neck()
            for role, image in zip(("in", "out"), echoes(neck), strict=True):
                path = folder / f"scans/{name}_{role}phase.nii.gz"
                save_nifti(path, image[::-1], AFFINE)
            if name == "b":
                neck[neck == 10] = 0
            save_nifti(folder / f"masks/{name}_dseg.nii.gz", neck[::-1], AFFINE)
        rows = [f"{k},{a},{b - 1}" for k, (a, b) in LEVEL_SLICES.items()]
        text = "\n".join(["level,first_slice,last_slice", *rows])
        (folder / "levels.csv").write_text(text + "\n")
        argv = [folder / "scans", folder / "masks", "-o", folder / "out"]
        main(["measure", *map(str, argv), "--levels", str(folder / "levels.csv")])
    return folder / "out"


def run(*arguments):
    return main(["translate", *map(str, arguments)])


def test_musclemap_and_back_over_all_muscles(results, tmp_path):
    there, back = tmp_path / "there", tmp_path / "back"
    assert run(results, "-o", there, "--to", "musclemap") == 0
    stored = nib.load(there / "a_dseg.nii.gz")
    ours = nib.load(results / "a_dseg.nii.gz")
    np.testing.assert_array_equal(stored.affine, ours.affine)
    values, labels = np.asarray(stored.dataobj), np.asarray(ours.dataobj)
    for value, label in MUSCLEMAP.muscles.items():  # odd is left there, right here
        assert value % 2 != label % 2
        np.testing.assert_array_equal(values == value, labels == label)
    assert run(there, "-o", back, "--from", "musclemap") == 0
    for name in "ab":
        again = nib.load(back / f"{name}_dseg.nii.gz")
        was = nib.load(results / f"{name}_dseg.nii.gz")
        np.testing.assert_array_equal(again.dataobj, was.dataobj)
    measured = table(results / "measurements.csv")
    measured = {(r["scan"], r["label"]): r for r in measured if int(r["voxels"])}
    read = {
        (r["scan"], r["label"]): r for r in table(back / "measurements_musclemap.csv")
    }
    assert read.keys() == measured.keys() and len(read) == 27
    for key, row in read.items():
        was = measured[key]
        assert [row[c] for c in ("muscle", "side", "slices")] == [
            was[c] for c in ("muscle", "side", "slices")
        ]
        for column in ("volume_ml", "fat_fraction_mean_percent"):
            assert float(row[column]) == pytest.approx(float(was[column]), abs=0.006)


def test_musclemaps_table_is_as_it_writes_it(results, tmp_path):
    run(results, "-o", tmp_path, "--to", "musclemap")
    rows = table(tmp_path / "b_dixon_results.csv")
    names = "Label", "Anatomy", "Slices with segmentation", "Fat (%)", "Volume (ml)"
    assert tuple(rows[0]) == names
    labels = [int(row["Label"]) for row in rows]
    assert labels == sorted(MUSCLEMAP.muscles.keys() - {1141})  # no left SCM
    named = {row["Label"]: row["Anatomy"] for row in rows}
    assert named["1101"] == "levator scapulae left"
    assert named["1112"] == "semispinalis cervicis and multifidus right"


def test_sct_tables_by_slice_and_level(results, tmp_path):
    run(results, "-o", tmp_path, "--to", "sct")
    slices, levels = (
        table(tmp_path / f"sct_per{what}.csv") for what in ("slice", "level")
    )
    measured = table(results / "measurements_slices.csv")
    assert len(slices) == len(measured)
    for row, was in zip(slices, measured, strict=True):
        assert row["Slice (I->S)"] == was["slice"]
        assert row["VertLevel"] == was["level"][-1:]  # C5 is 5
        assert row["MEAN(area)"] == was["area_mm2"] and row["STD(area)"] == "0"
        assert row["WA()"] == was["fat_fraction_mean_percent"]
        assert row["Size [vox]"] == was["voxels"]
    tr = [r for r in levels if r["Label"] == "trapezius left"]
    first, end = LEVEL_SLICES["C6"]
    found = [(r["Filename"], r["Slice (I->S)"], r["VertLevel"]) for r in tr]
    assert found == [(f"{n}_dseg.nii.gz", f"{first}:{end - 1}", "6") for n in "ab"]


def test_the_spread_of_areas_and_gaps_within_a_level():
    rows = [{"label": 1, "side": "right", "level": "C5", "area_mean_mm2": 4.0}]
    rows[0] |= {"voxels": 9, "fat_fraction_mean_percent": 8.0}
    areas = {3: 2.0, 4: 4.0, 6: 6.0}
    slices = [
        {"label": k, "level": "C5", "slice": z, "area_mm2": a * k}
        for z, a in areas.items()
        for k in (1, 2)
    ]
    (row,) = sct_levels("a.nii.gz", rows, slices, "")
    assert row["Slice (I->S)"] == "3;4;6"
    assert row["STD(area)"] == pytest.approx(np.std([2, 4, 6]))


def test_slicer_gets_every_scan_in_its_place(results, tmp_path):
    nrrd = pytest.importorskip("nrrd", reason="needs pynrrd")
    assert run(results, "-o", tmp_path, "--to", "slicer") == 0
    data, header = nrrd.read(str(tmp_path / "b.seg.nrrd"))
    mask = nib.load(results / "b_dseg.nii.gz")
    labels = np.asarray(mask.dataobj)
    index = np.argwhere(data)
    ras = (header["space origin"] + index @ header["space directions"]) * (-1, -1, 1)
    back = nib.affines.apply_affine(np.linalg.inv(mask.affine), ras).round().astype(int)
    np.testing.assert_array_equal(labels[tuple(back.T)], data[data > 0])
    assert np.count_nonzero(labels) == len(index)


def test_a_mask_that_was_changed_since_is_not_passed_on(results, tmp_path, capsys):
    import shutil

    shutil.copytree(results, tmp_path / "copy")
    mask = nib.load(results / "a_dseg.nii.gz")
    nib.save(
        nib.Nifti1Image(mask.get_fdata() * 0, mask.affine),
        tmp_path / "copy" / "a_dseg.nii.gz",
    )
    assert run(tmp_path / "copy", "-o", tmp_path / "out", "--to", "sct", "slicer") == 1
    printed = capsys.readouterr()
    assert "FAILED a: " in printed.err and "1 failed" in printed.out
    assert "was changed since it was measured" in printed.err
    assert not (tmp_path / "out/a.seg.nrrd").exists()
    assert {r["Filename"] for r in table(tmp_path / "out/sct_perslice.csv")} == {
        "b_dseg.nii.gz"
    }
    assert run(results, "-o", results, "--to", "musclemap") == 2  # would replace masks


def test_every_row_of_musclemap_has_its_muscle(tmp_path):
    """All 14, from rows made by hand."""
    rows = [
        {"label": m.label, "side": m.side, "slices": m.label, "voxels": 1}
        | {"fat_fraction_mean_percent": 1.005 * m.label, "volume_ml": 2.0 * m.label}
        for m in MUSCLES
    ]
    written = musclemap_rows(rows)
    path = tmp_path / "a_dixon_results.csv"
    lines = [
        ",".join(map(str, r.values()))
        for r in [dict.fromkeys(written[0]) | {k: k for k in written[0]}, *written]
    ]
    path.write_text("\n".join([*lines, "7101,femur left,3,1,1"]) + "\n")
    read = rows_of_musclemap(path)
    assert [r["label"] for r in read] == list(range(1, 15))
    assert all(r["volume_ml"] == 2 * r["label"] == 2 * r["slices"] for r in read)


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("Label,Fat (%),Total volume (ml)", "1101,3,4", "lacks the column Volume"),
        ("Label,Fat (%),Volume (ml)", "7101,3,4", "none of its labels is a muscle"),
        ("Label,Fat (%),Volume (ml)", "1101,much,4", "line 2: Fat .* must be a number"),
    ],
)
def test_other_tables_are_refused_by_name(tmp_path, capsys, header, row, message):
    path = tmp_path / "x_dixon_results.csv"
    path.write_text(f"{header}\n{row}\n")
    with pytest.raises(ValueError, match=message):
        rows_of_musclemap(path)
    assert run(path, "-o", tmp_path / "out", "--from", "musclemap") == 1
    assert str(path) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "status"),
    [("a.seg.nrrd", 1), ("a_dseg.nii.gz", 1), ("sct_perslice.csv", 2)],
)
def test_somebodys_own_files_stay(results, tmp_path, capsys, name, status):
    (tmp_path / name).write_bytes(b"mine")
    programs = ["--to", "slicer", "musclemap", "sct"]
    assert run(results, "-o", tmp_path, *programs) == status
    assert name in capsys.readouterr().err
    assert (tmp_path / name).read_bytes() == b"mine"
    (tmp_path / name).unlink()
    assert run(results, "-o", tmp_path, *programs) == 0
    assert run(results, "-o", tmp_path, *programs) == 0  # its own are replaced
