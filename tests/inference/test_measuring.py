"""Masks that are there already: measured, and never written over."""

import csv
import json
import re

import nibabel as nib
import numpy as np
import pytest
from block_neck import LEVEL_SLICES, block_neck, echoes
from conftest import save_nifti, save_pair

from cervjax.anatomy import MUSCLES
from cervjax.cli.main import main
from cervjax.io.label_sets import MUSCLEMAP

pytestmark = pytest.mark.usefixtures("no_pictures")

AFFINE = np.diag([-1.0, 1.0, 3.0, 1.0])  # stored as LAS


def table(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def run(*arguments):
    return main(["measure", *map(str, arguments)])


@pytest.fixture
def study(tmp_path):
    """Scan a, and its mask, stored as LAS."""
    neck = block_neck()
    images = [np.rint(v).astype(np.int16)[::-1] for v in echoes(neck)]
    write_pair(tmp_path / "scans", *images)
    return *(v.astype(float) for v in images), neck[::-1]


def write_pair(folder, in_phase, out_phase, name="a"):
    save_nifti(folder / f"{name}_inphase.nii.gz", in_phase, AFFINE)
    save_nifti(folder / f"{name}_outphase.nii.gz", out_phase, AFFINE)


def by_hand(in_phase, out_phase, mask):
    fat, water = (in_phase - out_phase) / 2, (in_phase + out_phase) / 2
    fat, water = fat[mask], water[mask]
    return 100 * fat.mean() / (fat.mean() + water.mean()), mask.sum() * 0.003


def papers(labels):
    return labels, []


def musclemaps(labels):
    new = np.zeros(labels.shape, np.int16)
    for value, label in MUSCLEMAP.muscles.items():
        new[labels == label] = value
    new[60, 60, 0] = 5021  # of another part of the body
    return new, ["--labels", "musclemap"]


def nnunets(labels):
    """Named, in an order of its own, right before left as in no other set."""
    values = {m.key: 1 + (5 * m.label) % 14 for m in MUSCLES}
    new = np.zeros(labels.shape, np.float32)
    for m in MUSCLES:
        new[labels == m.label] = values[m.key]
    return new, {"labels": {"background": 0, **values}}


@pytest.mark.parametrize("program", [papers, musclemaps, nnunets])
def test_numbers_are_those_of_a_computation_by_hand(tmp_path, study, program):
    in_phase, out_phase, labels = study
    mask, more = program(labels)
    save_nifti(tmp_path / "masks" / "a_dseg.nii.gz", mask, AFFINE)
    if isinstance(more, dict):
        (tmp_path / "masks" / "dataset.json").write_text(json.dumps(more))
        more = []
    out = tmp_path / "out"
    assert run(tmp_path / "scans", tmp_path / "masks", "-o", out, *more) == 0
    rows = table(out / "measurements.csv")
    assert [int(r["label"]) for r in rows] == list(range(1, 15))
    for row in rows:
        mfi, volume = by_hand(in_phase, out_phase, labels == int(row["label"]))
        assert float(row["mfi_percent"]) == pytest.approx(mfi, rel=1e-5)
        assert float(row["volume_ml"]) == pytest.approx(volume, rel=1e-5)
        assert row["mask_source"] == "given" and row["weights_sha256"] == ""
        assert (row["verdict"], row["reasons"]) == ("use", "")
    copy = nib.load(out / "a_dseg.nii.gz")
    np.testing.assert_array_equal(np.asarray(copy.dataobj), labels)
    np.testing.assert_array_equal(copy.affine, AFFINE)
    again = (out / "measurements.csv").read_bytes()
    assert run(tmp_path / "scans", tmp_path / "masks", "-o", out, *more) == 0
    assert (out / "measurements.csv").read_bytes() == again


def test_one_label_is_enough(tmp_path, study):
    mask = np.where(study[2] == 9, 9, 0).astype(np.uint8)
    save_nifti(tmp_path / "masks" / "a.nii", mask, AFFINE)
    out = tmp_path / "out"
    files = (tmp_path / "scans" / f"a_{p}phase.nii.gz" for p in ("in", "out"))
    flags = [
        x for p in zip(("--in-phase", "--out-phase"), files, strict=True) for x in p
    ]
    assert run(tmp_path / "masks" / "a.nii", *flags, "-o", out) == 0
    rows = table(out / "measurements.csv")
    assert [r["label"] for r in rows if r["mfi_percent"]] == ["9"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m[:-1], "not on the grid of its scan"),
        (lambda m: m * 20, "they look|renumber or remove"),
        (lambda m: m * np.float32(0.5), "whole numbers"),
        (np.zeros_like, "has no muscle"),
        (lambda m: m[::-1], "left and right are exchanged in 7 of 7"),
        (lambda m: musclemaps(m)[0], "they look like MuscleMap's: --labels musclemap"),
    ],
)
def test_a_bad_mask_is_one_line_and_the_others_are_done(
    tmp_path, study, capsys, change, message
):
    in_phase, out_phase, labels = study
    for name, mask in (("a", labels), ("b", change(labels))):
        write_pair(tmp_path / "scans", in_phase, out_phase, name)
        save_nifti(tmp_path / "masks" / f"{name}_dseg.nii", mask, AFFINE)
    out = tmp_path / "out"
    assert run(tmp_path / "scans", tmp_path / "masks", "-o", out) == 1
    assert {r["scan"] for r in table(out / "measurements.csv")} == {"a"}
    (failed,) = table(out / "failures.csv")
    assert failed["scan"] == "b" and "b_dseg.nii" in failed["error"]
    assert re.search(message, failed["error"]), failed["error"]
    assert not list(out.glob("b_*"))
    assert capsys.readouterr().err.count("FAILED b") == 1


def test_masks_where_they_lie_are_measured_and_left_as_they_are(tmp_path, study):
    folder = tmp_path / "scans"
    path = save_nifti(folder / "a_dseg.nii.gz", study[2].astype(np.float32), AFFINE)
    before = path.read_bytes()
    for _ in range(2):
        assert run(folder, folder, "-o", folder) == 0
        assert path.read_bytes() == before
    assert len(table(folder / "measurements.csv")) == 14


def infer(tmp_path, weights, *flags):
    argv = (tmp_path / "in", "-o", tmp_path / "out", "--weights", weights, *flags)
    return main(["infer", *map(str, argv)])


@pytest.fixture
def edited(tmp_path, two_blobs, threshold_weights):
    """A results folder in which somebody has added a muscle to the mask."""
    save_pair(tmp_path / "in", two_blobs, "a")
    assert infer(tmp_path, threshold_weights) == 0
    path = tmp_path / "out" / "a_dseg.nii.gz"
    image = nib.load(path)
    labels = np.asarray(image.dataobj).copy()
    labels[2:6, 20:24, 8:12] = 14
    nib.save(nib.Nifti1Image(labels, image.affine, image.header), path)
    return path, labels, two_blobs


@pytest.mark.parametrize("flags", [(), ("--overwrite",)])
def test_an_edited_mask_is_measured_and_kept(
    tmp_path, edited, threshold_weights, capsys, flags
):
    path, labels, scan = edited
    content = path.read_bytes()
    capsys.readouterr()
    assert infer(tmp_path, threshold_weights, *flags) == 0
    assert "a_dseg.nii.gz was edited: kept" in capsys.readouterr().out
    assert path.read_bytes() == content
    rows = {int(r["label"]): r for r in table(tmp_path / "out" / "measurements.csv")}
    mfi, volume = by_hand(scan.in_phase, scan.out_phase, labels == 14)
    volume *= 4  # its voxels are of 2 x 2 x 3 mm
    assert float(rows[14]["mfi_percent"]) == pytest.approx(mfi, rel=1e-4)
    assert float(rows[14]["volume_ml"]) == pytest.approx(volume, rel=1e-5)
    assert {r["mask_source"] for r in rows.values()} == {"edited"}
    assert rows[14]["weights_sha256"] and rows[14]["confidence_mean"] == ""
    first = (tmp_path / "out" / "measurements.csv").read_bytes()
    assert infer(tmp_path, threshold_weights) == 0  # nothing has changed since
    assert "already measured, skipped" in capsys.readouterr().out
    assert (tmp_path / "out" / "measurements.csv").read_bytes() == first


def test_edits_are_discarded_only_when_asked(tmp_path, edited, threshold_weights):
    path = edited[0]
    assert infer(tmp_path, threshold_weights) == 0
    assert infer(tmp_path, threshold_weights, "--discard-edits") == 0
    assert not (np.asarray(nib.load(path).dataobj) == 14).any()
    rows = table(tmp_path / "out" / "measurements.csv")
    assert {r["mask_source"] for r in rows} == {"network"}


def test_an_edited_mask_that_cannot_be_read_is_kept(
    tmp_path, edited, threshold_weights
):
    path = edited[0]
    path.write_bytes(path.read_bytes()[:200])
    assert infer(tmp_path, threshold_weights, "--overwrite") == 1
    assert path.stat().st_size == 200
    (failed,) = table(tmp_path / "out" / "failures.csv")
    assert "--discard-edits" in failed["error"]
    assert table(tmp_path / "out" / "measurements.csv") == []
    assert infer(tmp_path, threshold_weights, "--discard-edits") == 0


@pytest.mark.parametrize("flags", [(), ("--overwrite",), ("--discard-edits",)])
def test_a_mask_drawn_by_hand_is_never_replaced(
    tmp_path, two_blobs, threshold_weights, flags
):
    """`infer scans -o scans` where the masks lie beside the images."""
    folder = save_pair(tmp_path / "in", two_blobs, "a")
    (tmp_path / "out").symlink_to(folder)
    path = save_nifti(
        folder / "a_dseg.nii.gz", np.ones((44, 36, 16), np.uint8), two_blobs.affine
    )
    before = path.read_bytes()
    assert infer(tmp_path, threshold_weights, *flags) == 1
    assert path.read_bytes() == before
    (failed,) = table(folder / "failures.csv")
    assert "was not written by cervjax" in failed["error"]


def test_measured_from_a_results_folder_it_says_who_drew(
    tmp_path, edited, two_blobs, threshold_weights
):
    out = tmp_path / "measured"
    assert run(tmp_path / "in", tmp_path / "out", "-o", out) == 0
    assert {r["mask_source"] for r in table(out / "measurements.csv")} == {"edited"}
    assert infer(tmp_path, threshold_weights, "--discard-edits") == 0
    assert run(tmp_path / "in", tmp_path / "out", "-o", tmp_path / "other") == 0
    rows = table(tmp_path / "other" / "measurements.csv")
    assert {r["mask_source"] for r in rows} == {"network"}


def test_a_run_cut_short_is_done_again(tmp_path, two_blobs, threshold_weights):
    """Killed between mask and side-car: the mask is ours, though no table has it."""
    save_pair(tmp_path / "in", two_blobs, "a")
    assert infer(tmp_path, threshold_weights) == 0
    sidecar = tmp_path / "out" / "a_dseg.json"
    content = json.loads(sidecar.read_text())
    digest = content["Files"]["a_dseg.nii.gz"]
    half = {k: content[k] for k in ("GeneratedBy", "Scan")} | {"Writing": [digest]}
    sidecar.write_text(json.dumps(half))
    assert infer(tmp_path, threshold_weights) == 0
    assert json.loads(sidecar.read_text())["Files"]["a_dseg.nii.gz"] == digest


def test_levels_give_rows_and_what_the_paper_would_measure(tmp_path, study):
    """A muscle in its full length, measured per level and within Table 1."""
    in_phase, out_phase, labels = study
    long = labels.copy()
    long[labels == 12] = 0
    columns = (labels == 12).any(2)
    long[columns] = np.where(long[columns] == 0, 12, long[columns])  # TR left
    save_nifti(tmp_path / "masks" / "a_dseg.nii.gz", long, AFFINE)
    lines = [f"{k},{a},{b - 1}" for k, (a, b) in LEVEL_SLICES.items()]
    table_of_levels = tmp_path / "levels.csv"
    table_of_levels.write_text("level,first_slice,last_slice\n" + "\n".join(lines))
    out = tmp_path / "out"
    where = (tmp_path / "scans", tmp_path / "masks", "-o", out)
    assert run(*where, "--levels", table_of_levels) == 0
    rows = {r["label"]: r for r in table(out / "measurements.csv")}
    inside = long == 12
    assert rows["12"]["levels"] == "C3 C4 C5 C6" and rows["14"]["levels"] == "C5 C6"
    mfi, volume = by_hand(in_phase, out_phase, inside)
    assert float(rows["12"]["mfi_percent"]) == pytest.approx(mfi, rel=1e-5)
    inside[..., LEVEL_SLICES["C6"][1] :] = inside[..., : LEVEL_SLICES["C6"][0]] = False
    mfi, volume = by_hand(in_phase, out_phase, inside)
    assert float(rows["12"]["mfi_table1_percent"]) == pytest.approx(mfi, rel=1e-5)
    assert float(rows["12"]["volume_table1_ml"]) == pytest.approx(volume, rel=1e-5)
    per_level = table(out / "measurements_levels.csv")
    own = {r["level"]: r for r in per_level if r["label"] == "12"}
    assert set(own) == set(LEVEL_SLICES)
    assert float(own["C6"]["mfi_percent"]) == pytest.approx(mfi, rel=1e-5)
    assert float(own["C6"]["area_mean_mm2"]) == pytest.approx(1000 * volume / 18)
    slices = table(out / "measurements_slices.csv")
    levels = {int(r["slice"]): r["level"] for r in slices if r["label"] == "12"}
    for name, (first, stop) in LEVEL_SLICES.items():
        assert {levels[z] for z in range(first, stop)} == {name}
    assert levels[0] == ""
    assert run(*where) == 0  # without levels: blank, and no table of an earlier run
    rows = table(out / "measurements.csv")
    assert {r["volume_table1_ml"] for r in rows} == {""}
    assert not (out / "measurements_levels.csv").exists()
    assert run(*where, "--levels", tmp_path / "gone.nii") == 1
