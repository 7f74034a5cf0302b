"""The whole way: files in, masks and tables out."""

import csv
import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from conftest import optimised, save_nifti, save_pair
from nibabel.orientations import (
    apply_orientation,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from PIL import Image

import cervjax
from cervjax.cli.main import main
from cervjax.inference.segment import prepare_images, segment_prepared
from cervjax.inference.stages import STAGES
from cervjax.inference.tiling import bucket_shape
from cervjax.inference.types import Settings
from cervjax.io.dixon import read_scan
from cervjax.io.nifti import image_of_array, read_nifti, write_labels
from cervjax.io.pairing import find_scans
from cervjax.io.scans import Scan
from cervjax.measurement.scan import measure_scan
from cervjax.model.weights import load_weights

pytestmark = pytest.mark.usefixtures("no_pictures")

ALL_ORIENTATIONS = [
    np.array([(axes[i], signs >> i & 1 and -1 or 1) for i in range(3)], float)
    for axes in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
    for signs in range(8)
]


def infer(*arguments) -> int:
    return main(["infer", *map(str, arguments)])


def table(path) -> list[dict[str, str]]:
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def stored_as(data, affine, orientation):
    """The same scene with its axes stored in another order and direction."""
    back = ornt_transform(io_orientation(np.eye(4)), orientation)
    moved = apply_orientation(data, back)
    return moved, affine @ inv_ornt_aff(back, data.shape)


def segment_images(images, weights, recipe, settings):
    prepared = prepare_images(images, recipe, settings)
    shape = images.in_phase.shape
    return segment_prepared(prepared, shape, weights, recipe, settings)[0]


def measured(scan: Scan, weights_path) -> tuple[list[dict], list[dict]]:
    weights = load_weights(weights_path)
    images = read_scan(scan)
    found = segment_images(images, weights, weights.card.recipe, Settings("whole"))
    return measure_scan(found.labels, images, found.confidence)


def assert_same_row(got: dict, expected: dict) -> None:
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, float):
            value = pytest.approx(value, rel=1e-5, abs=1e-6, nan_ok=True)
        assert got[key] == value, key


def test_sides_places_and_fat_are_right(tmp_path, two_blobs, threshold_weights):
    save_pair(tmp_path / "in", two_blobs)
    status = infer(
        tmp_path / "in", "-o", tmp_path / "out", "--weights", threshold_weights
    )
    assert status == 0
    image = nib.load(tmp_path / "out" / "sub-1_dseg.nii.gz")
    labels = np.asarray(image.dataobj)
    assert set(np.unique(labels)) == {0, 9, 10}
    rows = {int(r["label"]): r for r in table(tmp_path / "out" / "measurements.csv")}
    assert len(rows) == 14
    for label, centre in two_blobs.centres_mm.items():
        voxels = np.argwhere(labels == label)
        found = image.affine[:3, :3] @ voxels.mean(0) + image.affine[:3, 3]
        # NiftyNet's pooling and upsampling lean one voxel towards the origin; trained
        # kernels make up for it, these do not.
        np.testing.assert_allclose(found, centre - [2, 2, 3], atol=3)
        assert float(rows[label]["mfi_percent"]) == pytest.approx(
            two_blobs.mfi_percent[label], abs=0.5
        )
    assert rows[9]["side"] == "right" and rows[10]["side"] == "left"
    assert rows[1]["mfi_percent"] == "" and rows[1]["voxels"] == "0"


def test_all_48_orientations_are_one_scan(tmp_path, two_blobs):
    """The same RAS arrays, and masks that lie on the same places, bit for bit."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 15, two_blobs.in_phase.shape).astype(np.uint8)
    codes = set()
    for orientation in ALL_ORIENTATIONS:
        data, affine = stored_as(two_blobs.in_phase, two_blobs.affine, orientation)
        codes.add(nib.aff2axcodes(affine))
        image = read_nifti(image_of_array(data, affine))
        np.testing.assert_array_equal(image.data, two_blobs.in_phase)
        np.testing.assert_array_equal(image.affine, two_blobs.affine)
        np.testing.assert_array_equal(image.stored_affine, affine)
        write_labels(tmp_path / "mask.nii", labels, image)
        mask = nib.load(tmp_path / "mask.nii")
        np.testing.assert_array_equal(mask.affine, affine)
        expected = stored_as(labels, two_blobs.affine, orientation)[0]
        np.testing.assert_array_equal(np.asarray(mask.dataobj), expected)
    assert len(codes) == 48


def test_any_orientation_gives_the_same_table(two_blobs, random_weights):
    """From array to table; what lies in between sees RAS only, see above."""
    tables = []
    for i in (0, 27, 46):
        one, affine = stored_as(
            two_blobs.in_phase, two_blobs.affine, ALL_ORIENTATIONS[i]
        )
        other, _ = stored_as(two_blobs.out_phase, two_blobs.affine, ALL_ORIENTATIONS[i])
        result = cervjax.segment(one, other, affine=affine, weights=random_weights)
        assert result.labels.shape == one.shape
        np.testing.assert_array_equal(result.affine, affine)
        tables.append((result.rows, result.slice_rows))
    for rows, slices in tables[1:]:
        for got, expected in ((rows, tables[0][0]), (slices, tables[0][1])):
            for a, b in zip(got, expected, strict=True):
                assert_same_row(a, b)


def test_oblique_affine_gives_the_same_table(tmp_path, two_blobs, random_weights):
    """The grid is tilted with the patient: only positions in the scanner change."""
    angle = np.radians(17)
    tilt = np.eye(4)
    tilt[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    tables = []
    for name, affine in (("a", two_blobs.affine), ("b", tilt @ two_blobs.affine)):
        pair = {
            role: save_nifti(
                tmp_path / f"{name}_{role}.nii", getattr(two_blobs, role), affine
            )
            for role in ("in_phase", "out_phase")
        }
        tables.append(measured(Scan(name, **pair), random_weights)[0])
    for a, b in zip(*tables, strict=True):
        assert_same_row(a, b)


def test_mask_keeps_the_scans_own_grid(tmp_path, two_blobs, random_weights):
    """Stored PIR, oblique, anisotropic, with different qform and sform codes."""
    data, affine = stored_as(two_blobs.in_phase, two_blobs.affine, ALL_ORIENTATIONS[27])
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]]
    for suffix, factor in (("inphase", 1.0), ("outphase", 0.8)):
        path = tmp_path / "in" / f"s_{suffix}.nii.gz"
        save_nifti(path, (data * factor).astype(np.int16), turn @ affine, code=1)
        image = nib.load(path)
        image.header["sform_code"] = 2
        nib.save(image, path)
    infer(tmp_path / "in", "-o", tmp_path / "o", "--weights", random_weights)
    scan = nib.load(tmp_path / "in" / "s_inphase.nii.gz")
    mask = nib.load(tmp_path / "o" / "s_dseg.nii.gz")
    assert mask.shape == scan.shape and mask.get_data_dtype() == np.uint8
    for form in ("get_qform", "get_sform"):
        got = getattr(mask.header, form)(coded=True)
        expected = getattr(scan.header, form)(coded=True)
        np.testing.assert_array_equal(got[0], expected[0])
        assert got[1] == expected[1]
    assert mask.header.get_xyzt_units() == scan.header.get_xyzt_units()


def test_measurements_agree_with_the_written_mask(tmp_path, two_blobs, random_weights):
    save_pair(tmp_path / "in", two_blobs)
    infer(tmp_path / "in", "-o", tmp_path / "out", "--weights", random_weights)
    check_measurements(tmp_path / "in", tmp_path / "out")


def check_measurements(scans, out):
    """Recomputes volume and MFI from the files alone."""
    found, _ = find_scans(scans)
    rows = table(out / "measurements.csv")
    assert len(rows) == 14 * len(found)
    for scan in found:
        labels = np.asarray(nib.load(out / f"{scan.name}_dseg.nii.gz").dataobj)
        image = nib.load(scan.in_phase)
        ip, oop = image.get_fdata(), nib.load(scan.out_phase).get_fdata()
        voxel_ml = np.prod(image.header.get_zooms()[:3]) / 1000
        for row in (r for r in rows if r["scan"] == scan.name):
            mask = labels == int(row["label"])
            assert int(row["voxels"]) == mask.sum()
            assert float(row["volume_ml"]) == pytest.approx(
                mask.sum() * voxel_ml, rel=1e-4
            )
            if mask.any() and ip[mask].sum() > 0:
                fat, water = (ip - oop)[mask].mean() / 2, (ip + oop)[mask].mean() / 2
                assert float(row["mfi_percent"]) == pytest.approx(
                    100 * fat / (fat + water), rel=1e-3, abs=1e-4
                )


def test_water_and_fat_stand_in_for_the_pair(tmp_path, two_blobs, threshold_weights):
    water = (two_blobs.in_phase + two_blobs.out_phase) / 2
    fat = (two_blobs.in_phase - two_blobs.out_phase) / 2
    save_nifti(tmp_path / "in" / "s_water.nii.gz", water, two_blobs.affine)
    save_nifti(tmp_path / "in" / "s_fat.nii.gz", fat, two_blobs.affine)
    weights = ("--weights", threshold_weights)
    assert infer(tmp_path / "in", "-o", tmp_path / "out", *weights) == 0
    rows = {int(r["label"]): r for r in table(tmp_path / "out" / "measurements.csv")}
    assert rows[9]["fat_water_source"] == "scanner water and fat"
    assert float(rows[10]["mfi_percent"]) == pytest.approx(40, abs=0.5)


@pytest.mark.parametrize("measure_on", ["echoes", "scanner"])
def test_exchanged_water_and_fat_are_told(
    tmp_path, two_blobs, threshold_weights, measure_on
):
    """The scanner exchanges them on the patient's right: the echoes do not care."""
    scans = save_pair(tmp_path / "in", two_blobs)
    water = (two_blobs.in_phase + two_blobs.out_phase) / 2
    fat = (two_blobs.in_phase - two_blobs.out_phase) / 2
    wrong = np.zeros(water.shape, bool)
    wrong[len(wrong) // 2 :] = True
    images = {"water": np.where(wrong, fat, water), "fat": np.where(wrong, water, fat)}
    for role, image in images.items():
        save_nifti(scans / f"sub-1_{role}.nii.gz", image, two_blobs.affine)
    flags = ("--weights", threshold_weights, "--measure-on", measure_on)
    assert infer(scans, "-o", tmp_path / "out", *flags) == 0
    rows = {int(r["label"]): r for r in table(tmp_path / "out" / "measurements.csv")}
    right = float(rows[9]["mfi_percent"])
    assert (right > 50) == (measure_on == "scanner")
    warnings = json.loads((tmp_path / "out" / "sub-1_dseg.json").read_text())
    told = [w for w in warnings["Warnings"] if "probably exchanged" in w]
    assert len(told) == 1 and "SCM_R" in told[0] and "SCM_L" not in told[0]


def test_windows_find_what_whole_mode_finds_on_another_grid(
    tmp_path, two_blobs, threshold_weights
):
    """One window over everything; labels brought back by neighbour would differ."""
    images = read_scan(find_scans(save_pair(tmp_path, two_blobs))[0][0])
    weights = load_weights(threshold_weights)
    recipe = replace(weights.card.recipe, spacing_mm=(1.3, 1.4, 1.5), padding=(8, 8, 4))
    size = bucket_shape(
        prepare_images(images, recipe, Settings("whole")).image.shape[:3]
    )
    one, other = (
        segment_images(images, weights, recipe, settings)
        for settings in (
            Settings("whole"),
            Settings("sliding_window", window=size, border=(8, 8, 4)),
        )
    )
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_allclose(one.confidence, other.confidence, rtol=1e-4)
    assert len(np.unique(one.labels)) > 1


@pytest.mark.parametrize("slices, told", [(8, True), (16, False)])
def test_windows_too_low_for_the_weights_are_told(
    tmp_path, two_blobs, threshold_weights, capsys, slices, told
):
    scans = save_pair(tmp_path / "in", two_blobs)
    size = ("--window", 16, 16, slices, "--border", 2, 2, 2)
    windows = ("--mode", "sliding_window", *size)
    flags = ("--padding", 2, 2, 0, "--weights", threshold_weights)
    infer(scans, "-o", tmp_path / "out", *flags, *windows)
    sidecar = json.loads((tmp_path / "out" / "sub-1_dseg.json").read_text())
    assert any("whole height" in w for w in sidecar["Warnings"]) == told


def test_results_are_skipped_kept_and_refused(
    tmp_path, two_blobs, threshold_weights, random_weights, capsys
):
    scans, out = save_pair(tmp_path / "in", two_blobs), tmp_path / "out"
    run = (scans, "-o", out, "--weights")
    assert infer(*run, threshold_weights) == 0
    mask = out / "sub-1_dseg.nii.gz"
    first = mask.stat().st_mtime_ns
    (out / "measurements.csv").unlink()
    assert infer(*run, threshold_weights) == 0
    assert "skipped" in capsys.readouterr().out
    assert mask.stat().st_mtime_ns == first
    assert len(table(out / "measurements.csv")) == 14  # rebuilt from the side-car
    capsys.readouterr()
    assert infer(*run, random_weights) == 2
    assert "were made with other weights (sub-1)" in capsys.readouterr().err
    assert len(table(out / "measurements.csv")) == 14
    assert mask.stat().st_mtime_ns == first
    assert infer(*run, random_weights, "--overwrite") == 1
    assert "nothing to be used in 1 scan(s): sub-1" in capsys.readouterr().out
    assert table(out / "failures.csv") == []
    assert mask.stat().st_mtime_ns != first


def test_side_car_tells_where_a_result_comes_from(
    tmp_path, two_blobs, threshold_weights, monkeypatch
):
    monkeypatch.undo()  # with pictures
    scans, out = save_pair(tmp_path / "in", two_blobs), tmp_path / "out"
    infer(scans, "-o", out, "--weights", threshold_weights)
    sidecar = json.loads((out / "sub-1_dseg.json").read_text())
    assert sidecar["Identity"]["weights_sha256"] == load_weights(threshold_weights)[2]
    assert set(sidecar["Identity"]["inputs_sha256"]) == {"in_phase", "out_phase"}
    assert sidecar["Identity"]["settings"]["mode"] == "whole"
    assert "Not for clinical use" in sidecar["Limits"]
    with Image.open(out / "sub-1_qc.png") as picture:
        assert min(picture.size) > 500
    assert tuple(sidecar["Seconds"]) == STAGES
    names = {p.name for p in out.iterdir()}
    assert names == {
        "sub-1_dseg.nii.gz",
        "sub-1_dseg.json",
        "sub-1_qc.png",
        "sub-1_tables.json.gz",
        "measurements.csv",
        "measurements.json",
        "measurements_slices.csv",
        ".cervjax",
        ".lock",
        "failures.csv",
        "labels_itksnap.txt",
        "labels_slicer.ctbl",
        "labels_fsleyes.lut",
    }


def test_a_volume_beyond_memory_falls_back_to_windows(
    tmp_path, two_blobs, threshold_weights, capsys
):
    scans, out = save_pair(tmp_path / "in", two_blobs), tmp_path / "out"
    limits = ("--max-memory-gb", "0.006", "--window", 64, 48, 24, "--border", 4, 4, 2)
    assert infer(scans, "-o", out, "--weights", threshold_weights, *limits) == 0
    assert "a sliding window of (64, 48, 24) used instead" in capsys.readouterr().out
    small = ("--max-memory-gb", "0.006", "--window", 16, 16, 8, "--border", 4, 4, 2)
    flags = ("--weights", threshold_weights, "--padding", 8, 8, 4, "--overwrite")
    assert infer(scans, "-o", out, *flags, *small) == 0
    said = capsys.readouterr().out
    assert "window of (16, 16, 24) used instead" in said  # as high as the scan
    assert "whole height" not in said
    limits = ("--max-memory-gb", "0.0001", "--overwrite")
    assert infer(scans, "-o", out, "--weights", threshold_weights, *limits) == 1
    assert "GB allowed" in table(out / "failures.csv")[0]["error"]


def bad_scans(folder, scan):
    """Pairs that must each fail for their own reason, and what is then said."""
    ip, oop, affine = scan.in_phase, scan.out_phase, scan.affine

    def pair(name, first, second=oop, second_affine=affine, first_affine=affine):
        save_nifti(folder / f"{name}_inphase.nii.gz", first, first_affine)
        save_nifti(folder / f"{name}_outphase.nii.gz", second, second_affine)

    shifted = affine.copy()
    shifted[0, 3] += 1
    pair("shift", ip, oop, shifted)
    yield "shift", "one affine"
    pair("shape", ip, oop[:-1])
    yield "shape", "one shape"
    pair("nan", np.where(ip > 999, np.nan, ip).astype(np.float32))
    yield "nan", "finite"
    pair("zero", ip * 0)
    yield "zero", "empty scan"
    pair("flat", ip[..., 0], oop[..., 0])
    yield "flat", "3-D"
    pair("series", np.stack([ip, ip], -1))
    yield "series", "3-D"
    pair("sheared", ip, oop, *[affine @ (np.eye(4) + 0.1 * np.eye(4, k=1))] * 2)
    yield "sheared", "sheared"
    (folder / "cut_inphase.nii.gz").write_bytes(
        (folder / "zero_outphase.nii.gz").read_bytes()[:3000]
    )
    shutil.copy(folder / "zero_outphase.nii.gz", folder / "cut_outphase.nii.gz")
    yield "cut", "cut short"
    (folder / "text_inphase.nii").write_text("not an image")
    shutil.copy(folder / "zero_outphase.nii.gz", folder / "text_outphase.nii.gz")
    yield "text", "not readable as NIfTI"
    save_nifti(folder / "lonely_inphase.nii.gz", ip, affine)
    yield "lonely", "lonely_outphase"
    pair("none", ip, oop)
    for name, value in (("huge", 70.0), ("minus", -1.0), ("zero-size", 0.0)):
        for suffix in ("inphase", "outphase"):
            raw = bytearray(
                nib.load(folder / f"none_{suffix}.nii.gz").to_bytes()
            )  # pixdim[1] lies at byte 80
            raw[80:84] = np.float32(value).tobytes()
            (folder / f"{name}_{suffix}.nii").write_bytes(raw)
        yield name, "voxel size"
    for suffix in ("inphase", "outphase"):
        path = folder / f"none_{suffix}.nii.gz"
        raw = bytearray(nib.load(path).to_bytes())
        raw[252:256] = bytes(4)  # qform_code and sform_code
        path.unlink()
        path.with_suffix("").write_bytes(raw)
    yield "none", "left and right"


def test_bad_scans_fail_alone_with_their_reason(
    tmp_path, two_blobs, threshold_weights, capsys
):
    scans, out = tmp_path / "in", tmp_path / "out"
    expected = dict(bad_scans(scans, two_blobs))
    save_pair(scans, two_blobs, "good")
    assert infer(scans, "-o", out, "--weights", threshold_weights) == 1
    failures = {row["scan"]: row for row in table(out / "failures.csv")}
    assert failures.keys() == expected.keys()
    for name, reason in expected.items():
        assert reason in failures[name]["error"], name
        assert f"{name}_" in failures[name]["files"]
        assert "unexpected" not in failures[name]["error"]
        assert not list(out.glob(f"{name}_*"))
    assert (out / "good_dseg.nii.gz").is_file()
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err
    assert printed.err.count("FAILED") == len(expected)


def test_legal_scale_factors_are_legal(tmp_path, two_blobs, threshold_weights):
    """A slope of 0 or NaN means none; a real slope is applied."""
    scans, out = tmp_path / "in", tmp_path / "out"
    for name, slope, inter in (("zero", 0, 0), ("nan", np.nan, np.nan), ("two", 2, 1)):
        for suffix, data in (
            ("inphase", two_blobs.in_phase),
            ("outphase", two_blobs.out_phase),
        ):
            path = scans / f"{name}_{suffix}.nii"
            stored = np.round(data) if name != "two" else np.round((data - 1) / 2)
            save_nifti(path, stored.astype(np.int16), two_blobs.affine)
            raw = bytearray(path.read_bytes())
            raw[112:120] = np.array([slope, inter], np.float32).tobytes()
            path.write_bytes(raw)
    assert infer(scans, "-o", out, "--weights", threshold_weights) == 0
    for row in table(out / "measurements.csv"):
        if row["label"] == "10":
            assert float(row["mfi_percent"]) == pytest.approx(40, abs=0.5)
            assert float(row["water_mean"]) == pytest.approx(600, abs=15)


def test_exchanged_and_identical_pairs_are_warned_of(
    tmp_path, two_blobs, threshold_weights, capsys
):
    scans = tmp_path / "in"
    ip, oop = two_blobs.in_phase, two_blobs.out_phase
    save_pair(scans, two_blobs._replace(in_phase=oop, out_phase=ip), "swap")
    save_pair(scans, two_blobs._replace(out_phase=two_blobs.in_phase), "same")
    infer(scans, "-o", tmp_path / "out", "--weights", threshold_weights)
    printed = capsys.readouterr().out
    assert "swap: in-phase and out-of-phase are probably exchanged" in printed
    assert "same: in-phase and out-of-phase images are identical" in printed


def test_a_full_disk_ends_the_run_with_a_reason(
    tmp_path, two_blobs, threshold_weights, monkeypatch
):
    scans, out = tmp_path / "in", tmp_path / "out"
    for name in ("a", "b", "c"):
        save_pair(scans, two_blobs, name)

    def full(folder, name, content, **how):
        path = folder / f"{name}_dseg.nii.gz"
        if name == "b":
            raise OSError(28, "No space left on device", str(path))
        path.write_bytes(b"x")

    monkeypatch.setattr("cervjax.inference.standing.replace_mask", full)
    assert infer(scans, "-o", out, "--weights", threshold_weights) == 1
    failures = table(out / "failures.csv")
    assert [f["scan"] for f in failures] == ["b", "c"]
    assert "disk is full" in failures[0]["error"]
    assert "not tried" in failures[1]["error"]
    assert {r["scan"] for r in table(out / "measurements.csv")} == {"a"}


def test_the_script_starts_itself_anew_with_its_arguments(tmp_path, two_blobs):
    """Large pages need a new process: arguments and exit status must survive it."""
    save_pair(tmp_path / "in", two_blobs)
    script = Path(__file__).parents[2] / "infer.py"
    env = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    for folder, status in ((tmp_path / "in", 0), (tmp_path / "none", 2)):
        command = [sys.executable, str(script), str(folder), "--dry-run"]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert done.returncode == status
        assert ("sub-1" in done.stdout) == (status == 0)


def test_overlapping_scans_changes_no_result(tmp_path, two_blobs, threshold_weights):
    """Three scans of different brightness together, and each one alone."""
    for i, name in enumerate(("a", "b", "c")):
        scan = two_blobs._replace(
            in_phase=two_blobs.in_phase * (i + 1),
            out_phase=two_blobs.out_phase * (i + 1) * (1 - 0.05 * i),
        )
        save_pair(tmp_path / "all", scan, name)
        save_pair(tmp_path / name, scan, name)
    rows = []
    for folder in ("all", "a", "b", "c"):
        out = tmp_path / f"out-{folder}"
        assert infer(tmp_path / folder, "-o", out, "--weights", threshold_weights) == 0
        rows.append(table(out / "measurements.csv"))
    assert rows[0] == rows[1] + rows[2] + rows[3]
    assert len({r["mfi_percent"] for r in rows[0] if r["label"] == "9"}) > 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("--weights", "/nowhere.safetensors"), "no such weights"),
        (("-o", "/dev/null/out"), "cannot write"),
        (("--window", "30", "32", "16"), "multiples of 8"),
        (("--window", "32", "32", "16", "--border", "16", "4", "2"), "leaves nothing"),
        (("--device", "tpu"), "no tpu here"),
        (("--landmarks", "/nowhere.txt"), "NiftyNet checkpoint only"),
    ],
)
def test_a_run_that_cannot_start_says_why(
    tmp_path, two_blobs, threshold_weights, change, reason, capsys
):
    scans = save_pair(tmp_path / "in", two_blobs)
    given = [scans, "-o", tmp_path / "out", "--weights", threshold_weights]
    assert infer(*given, *change) == 2
    assert reason in capsys.readouterr().err


def test_dry_run_prints_the_pairing_and_writes_nothing(tmp_path, two_blobs, capsys):
    scans = save_pair(tmp_path / "in", two_blobs)
    assert infer(scans, "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "sub-1_inphase.nii.gz" in printed and "1 scan(s)" in printed
    save_nifti(scans / "sub-2_inphase.nii.gz", two_blobs.in_phase, two_blobs.affine)
    assert infer(scans, "--dry-run") == 1
    assert {p.name for p in tmp_path.iterdir()} == {"in"}


CASES = {
    "e2e_small": ((64, 48, 16), (4, 4, 2), (20, 16, 6)),
    "e2e_full": ((360, 240, 32), (8, 8, 8), (90, 60, 8)),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", ["e2e_small", "e2e_full"])
def test_niftynets_own_result_comes_out(case, golden, tmp_path):
    window, border, padding = CASES[case]
    with optimised() if case == "e2e_full" else nullcontext():
        status = infer(
            golden / case / "images",
            "-o",
            tmp_path,
            "--mode",
            "sliding_window",
            "--weights",
            golden / "net_small" / "models" / "model.ckpt-1",
            "--window",
            *window,
            "--border",
            *border,
            "--padding",
            *padding,
        )
    assert status == 1 and not table(tmp_path / "failures.csv")  # a piece of a neck
    (ours,) = tmp_path.glob("*_dseg.nii.gz")
    (theirs,) = (golden / case / "expected").glob("*.nii.gz")
    ours, theirs = nib.load(ours), nib.load(theirs)
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-4)
    margin = np.load(golden / case / "margin.npz")
    size = int(np.prod(margin["shape"]))
    near_tie = np.unpackbits(margin["near_tie_1e3"])[:size].reshape(margin["shape"])
    differs = np.asarray(ours.dataobj) != np.asarray(theirs.dataobj)
    assert not (differs & (near_tie == 0)).any()
    assert differs.mean() < 0.0005
    check_measurements(golden / case / "images", tmp_path)


@pytest.mark.slow
def test_real_pairs_run(real_scans, golden, tmp_path):
    """Thighs, not necks: this shows that real files pass, not that labels are right."""
    weights = golden / "net_small" / "models" / "model.ckpt-1"
    scans = real_scans / "thigh_dixon_siemens"
    # Few windows: what takes longer belongs to benchmarks.
    small = ("--padding", 0, 0, 0, "--window", 320, 304, 32, "--border", 0, 0, 0)
    mode = ("--mode", "sliding_window", *small)
    with optimised():
        assert infer(scans, "-o", tmp_path, "--weights", weights, *mode) == 1  # no neck
    check_measurements(scans, tmp_path)
