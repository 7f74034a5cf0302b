import csv
import hashlib
import itertools
import json
from dataclasses import replace
from functools import cache

import digital
import nibabel as nib
import numpy as np
import pytest
from digital import digital_scan

from cervjax.anatomy import MUSCLES
from cervjax.cli.main import main
from cervjax.io.pairing import find_scans
from cervjax.phantom import dataset, records
from cervjax.phantom.dataset import subject_of, write_dataset
from cervjax.phantom.neck import build_neck, with_mfi
from cervjax.phantom.protocol import TIERS
from cervjax.phantom.subject import draw_change, draw_subject

pytestmark = pytest.mark.xdist_group("phantom")

IMAGES = ("inphase", "outphase", "water", "fat")
TRUTH = ("dseg", "desc-full_dseg", "pdff", "levels")
VOXEL_ML = 0.024
TABLES = {"truth.csv", "participants.tsv"}
WORSENING = {"seed": 2, "first": 1}
"""A subject who worsens; the hard cohort's scan is stored as SAR, and oblique."""


@pytest.fixture(scope="module", autouse=True)
def quick(neck):
    """Large voxels, and one body for all subjects, under the drawn person's name."""

    @cache
    def filled(mfi: bytes):
        return with_mfi(neck, np.frombuffer(mfi))

    def build(subject, anatomy):
        one = filled(subject.mfi_percent.tobytes())
        named = replace(one.anatomy, name=anatomy.name)
        return one._replace(subject=subject, anatomy=named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "build_neck", build)
        patch.setattr(digital, "build_neck", build)
        for name, spacing in (("clean", (2, 2, 6, 6)), ("hard", (1.5, 2, 4, 6))):
            patch.setitem(TIERS, name, TIERS[name]._replace(spacing_mm=spacing))
        yield


def tree(folder):
    """Hash and time of every file."""
    files = [p for p in folder.rglob("*") if p.is_file()]
    return {
        p.relative_to(folder).as_posix(): (
            hashlib.sha256(p.read_bytes()).hexdigest(),
            p.stat().st_mtime_ns,
        )
        for p in files
    }


def hashes(folder):
    return {name: digest for name, (digest, _) in tree(folder).items()}


def rows_of(path, delimiter=","):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream, delimiter=delimiter))


def data_of(path):
    return np.asanyarray(nib.load(path).dataobj)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Two subjects, one after the other, and the files after each of three calls."""
    folder = tmp_path_factory.mktemp("clean") / "new" / "data"
    states = []
    for count in (1, 2, 2):
        write_dataset(folder, count, severity="clean", seed=2)
        states.append(tree(folder))
    return folder, states


@pytest.fixture(scope="module")
def hard(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hard")
    write_dataset(folder, 1, severity="hard", **WORSENING)
    return folder


def file_of(folder, suffix, name="sub-0001"):
    parts = name.split("_")
    truth = ["derivatives", "truth"] if suffix in TRUTH else []
    return folder.joinpath(*truth, *parts, "anat", f"{name}_{suffix}.nii.gz")


# --- files


def test_every_file_has_its_place(clean):
    folder, _ = clean
    wanted = {"dataset_description.json", ".bidsignore", *TABLES}
    wanted |= {
        f"derivatives/truth/{n}" for n in (".bidsignore", "dataset_description.json")
    }
    for who in ("sub-0001", "sub-0002"):
        wanted |= {f"{who}/anat/{who}_{s}.nii.gz" for s in IMAGES}
        wanted |= {f"{who}/anat/{who}_{s}.json" for s in IMAGES[:2]}
        place = f"derivatives/truth/{who}/anat/{who}"
        wanted |= {f"{place}_{s}.nii.gz" for s in TRUTH} | {f"{place}_desc-truth.json"}
    assert set(tree(folder)) == wanted


@pytest.mark.slow
def test_workers_do_not_change_a_byte(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "build_neck", build_neck)  # workers are not patched
    names = []
    for workers in (1, 2):
        write_dataset(
            tmp_path / str(workers),
            2,
            severity="clean",
            seed=2,
            workers=workers,
            on_progress=names.append,
        )
    assert names == 2 * ["sub-0001", "sub-0002"]
    assert hashes(tmp_path / "1") == hashes(tmp_path / "2")


def test_more_subjects_keep_those_that_are_there(clean):
    _, (one, two, again) = clean
    kept = set(one) - TABLES
    assert {name: two[name] for name in kept} == {name: one[name] for name in kept}
    assert not any("sub-0002" in name for name in one)
    written_anew = {name for name in two if two[name] != again[name]}
    assert written_anew <= TABLES
    assert {n: d for n, (d, _) in two.items()} == {n: d for n, (d, _) in again.items()}


def test_interrupted_call_is_taken_up(tmp_path):
    def stop(name):
        raise KeyboardInterrupt

    write_dataset(tmp_path / "whole", 1, severity="clean", seed=2)
    folder = tmp_path / "part"
    with pytest.raises(KeyboardInterrupt):
        write_dataset(folder, 1, severity="clean", seed=2, on_progress=stop)
    image = file_of(folder, "water")
    image.write_bytes(image.read_bytes()[:50])
    record = file_of(folder, "dseg").with_name("sub-0001_desc-truth.json")
    record.unlink()  # as if it had stopped before the end
    write_dataset(folder, 1, severity="clean", seed=2)
    assert hashes(folder) == hashes(tmp_path / "whole")


def test_a_scan_without_all_files_has_no_record(tmp_path, monkeypatch):
    write = records.write_volume

    def fail(path, *rest):
        if path.name.endswith("_levels.nii.gz"):  # the last
            raise OSError("disk full")
        write(path, *rest)

    monkeypatch.setattr(records, "write_volume", fail)
    with pytest.raises(OSError, match="disk full"):
        write_dataset(tmp_path, 1, severity="clean", seed=2)
    assert file_of(tmp_path, "dseg").exists()
    assert not list(tmp_path.rglob("*_desc-truth.json"))


def test_cohorts_are_apart(hard):
    assert [p.name for p in hard.glob("sub-*")] == ["sub-0002"]
    subjects = rows_of(hard / "participants.tsv", "\t")
    assert [p["participant_id"] for p in subjects] == ["sub-0002"]


def test_scans_are_found(clean):
    folder, _ = clean
    scans, problems = find_scans(folder)
    assert problems == []
    assert [scan.name for scan in scans] == ["sub-0001", "sub-0002"]
    for scan in scans:
        named = dict(
            zip(("in_phase", "out_phase", "water", "fat"), IMAGES, strict=True)
        )
        assert scan.files == {
            role: file_of(folder, suffix, scan.name) for role, suffix in named.items()
        }


# --- headers and data


def test_grid_in_the_header(clean):
    for suffix in IMAGES + TRUTH:
        image = nib.load(file_of(clean[0], suffix))
        assert nib.aff2axcodes(image.affine) == ("L", "A", "S")
        assert image.shape == (160, 95, 20)
        assert image.header.get_zooms() == pytest.approx((2, 2, 6))
        assert image.header.get_xyzt_units()[0] == "mm"
        assert image.header["qform_code"] == image.header["sform_code"] == 1
        kind = {"pdff": np.float32}.get(
            suffix, np.int16 if suffix in IMAGES else np.uint8
        )
        assert image.get_data_dtype() == kind


def test_side_cars(clean):
    for suffix, seconds in (("inphase", 0.00246), ("outphase", 0.00369)):
        path = file_of(clean[0], suffix)
        content = json.loads(path.with_name(f"sub-0001_{suffix}.json").read_text())
        assert content["EchoTime"] == pytest.approx(seconds)
        assert content["RepetitionTime"] == pytest.approx(0.00705)
        assert content["FlipAngle"] == 12 and content["MagneticFieldStrength"] == 3


def test_one_grid_for_images_and_truth(hard):
    first = nib.load(file_of(hard, "inphase", "sub-0002"))
    for suffix in IMAGES + TRUTH:
        image = nib.load(file_of(hard, suffix, "sub-0002"))
        assert image.shape == first.shape
        for affine in (image.get_sform(), image.get_qform()):
            np.testing.assert_allclose(affine, first.affine, atol=1e-3)


def test_right_is_the_patients_right_in_the_world(hard):
    labels = nib.load(file_of(hard, "dseg", "sub-0002"))
    assert nib.aff2axcodes(labels.affine) == ("S", "A", "R")  # not as it was made
    assert nib.affines.obliquity(labels.affine).max() > np.deg2rad(5)
    data, centre = np.asanyarray(labels.dataobj), {}
    for m in MUSCLES:
        index = np.argwhere(data == m.label)
        assert len(index) > 50, m.key
        centre[m.key] = nib.affines.apply_affine(labels.affine, index.mean(0))
    for m in MUSCLES[::2]:
        name = m.abbreviation
        assert centre[f"{name}_R"][0] > centre[f"{name}_L"][0] + 10, name
    for side in "RL":
        front, back = centre[f"LC_{side}"], centre[f"SSCap_{side}"]
        assert front[1] > back[1] + 15
        assert centre[f"SSCap_{side}"][2] > centre[f"TR_{side}"][2]


def test_levels_go_down_in_the_world(hard):
    levels = nib.load(file_of(hard, "levels", "sub-0002"))
    data = np.asanyarray(levels.dataobj)
    z = [
        nib.affines.apply_affine(levels.affine, np.argwhere(data == n).mean(0))[2]
        for n in range(3, 9)
        if (data == n).any()
    ]
    assert len(z) >= 4 and z == sorted(z, reverse=True)


def test_files_hold_the_scan(hard):
    scan = digital_scan(2, 1, "hard")
    assert scan.grid.stored_axes == "SAR"
    fields = (
        "in_phase",
        "out_phase",
        "water",
        "fat",
        "labels",
        "full_labels",
        "pdff_percent",
        "levels",
    )
    for suffix, field in zip(IMAGES + TRUTH, fields, strict=True):
        image = nib.as_closest_canonical(nib.load(file_of(hard, suffix, "sub-0002")))
        np.testing.assert_array_equal(
            np.asanyarray(image.dataobj), getattr(scan, field)
        )
        np.testing.assert_allclose(image.affine, scan.grid.affine, atol=1e-4)


# --- tables


def test_truth_from_the_files(clean):
    folder, _ = clean
    rows = rows_of(folder / "truth.csv")
    assert len(rows) == 2 * 14
    for row, (who, m) in zip(
        rows, itertools.product(("sub-0001", "sub-0002"), MUSCLES), strict=True
    ):
        assert (row["scan"], row["participant_id"], row["session"]) == (who, who, "")
        assert (row["label"], row["muscle"], row["side"]) == (
            str(m.label),
            m.abbreviation,
            m.side,
        )
    mask_of, image = (data_of(file_of(folder, s)) for s in ("dseg", "inphase"))
    other, full = (data_of(file_of(folder, s)) for s in ("outphase", "desc-full_dseg"))
    drawn = subject_of(2, 0, TIERS["clean"]).mfi_percent
    for row in rows[:14]:
        mask = mask_of == int(row["label"])
        inside, outside = image[mask].sum(dtype=float), other[mask].sum(dtype=float)
        mfi = 100 * (inside - outside) / 2 / inside
        assert int(row["voxels"]) == mask.sum()
        assert float(row["volume_ml"]) == pytest.approx(mask.sum() * VOXEL_ML, abs=1e-4)
        whole = (full == int(row["label"])).sum() * VOXEL_ML
        assert float(row["volume_full_ml"]) == pytest.approx(whole, abs=1e-4)
        assert float(row["mfi_image_percent"]) == pytest.approx(mfi, abs=1e-4)
        wanted = drawn[int(row["label"]) - 1]
        assert float(row["mfi_drawn_percent"]) == pytest.approx(wanted, abs=1e-4)
        assert float(row["mfi_change_points"]) == 0


def test_participants_table(clean):
    path = clean[0] / "participants.tsv"
    header = path.read_text().splitlines()[0].split("\t")
    assert header == [
        "participant_id",
        "age",
        "sex",
        "height_m",
        "weight_kg",
        "bmi",
        "anatomy",
    ]
    for index, row in enumerate(rows_of(path, "\t")):
        who = draw_subject(2, index)
        assert row["participant_id"] == f"sub-{index + 1:04d}"
        assert float(row["age"]) == who.age_years and row["sex"] == who.sex
        bmi = float(row["weight_kg"]) / float(row["height_m"]) ** 2
        assert bmi == pytest.approx(float(row["bmi"]), abs=0.05)


@pytest.mark.slow
def test_two_sessions(tmp_path):
    write_dataset(tmp_path, 1, sessions=2, severity="clean", **WORSENING)
    names = ["sub-0002_ses-1", "sub-0002_ses-2"]
    scans, problems = find_scans(tmp_path)
    assert problems == [] and [scan.name for scan in scans] == names
    for scan in scans:
        assert scan.files.keys() == {"in_phase", "out_phase", "water", "fat"}
        assert file_of(tmp_path, "dseg", scan.name).exists()
    rows = rows_of(tmp_path / "truth.csv")
    assert [r["scan"] for r in rows] == [n for n in names for _ in MUSCLES]
    assert [r["session"] for r in rows[::14]] == ["ses-1", "ses-2"]
    wanted = draw_change(2, draw_subject(2, 1))
    assert wanted[0] > 3
    change = [float(r["mfi_change_points"]) for r in rows]
    np.testing.assert_allclose(change, [*[0] * 14, *wanted], atol=1e-5)
    # lain down anew, so that borders differ a little
    shown = np.array([float(r["mfi_signal_percent"]) for r in rows]).reshape(2, 14)
    fascia = [m.label - 1 for m in MUSCLES if m.abbreviation in ("MFSS", "SSCap")]
    np.testing.assert_allclose(
        np.diff(shown, axis=0)[0, fascia], wanted[fascia], atol=0.9
    )
    first, second = (data_of(file_of(tmp_path, "inphase", n)) for n in names)
    assert np.mean(first != second) > 0.1
    alone = digital_scan(2, 1, "clean", session=2)
    np.testing.assert_array_equal(second[::-1], alone.in_phase)  # LAS to RAS
    assert len(rows_of(tmp_path / "participants.tsv", "\t")) == 1


# --- refusals


@pytest.mark.parametrize(
    "changed", [{"seed": 3}, {"sessions": 2}, {"severity": "hard"}], ids=str
)
def test_other_settings_in_the_same_folder(clean, changed):
    folder, (*_, before) = clean
    with pytest.raises(ValueError, match="dataset_description.json"):
        write_dataset(folder, 1, **({"seed": 2, "severity": "clean"} | changed))
    assert {n: d for n, (d, _) in before.items()} == hashes(folder)


def test_foreign_folder(tmp_path):
    (tmp_path / "holiday.txt").touch()
    with pytest.raises(ValueError, match="is not empty"):
        write_dataset(tmp_path, 1, severity="clean")
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.txt"]


@pytest.mark.parametrize(
    "count, changed, message",
    [
        (0, {}, "number of subjects must be positive"),
        (1, {"sessions": 3}, "sessions must be 1 or 2"),
        (1, {"severity": "nasty"}, "clean, clinical, hard"),
        (1, {"workers": 0}, "workers must be positive"),
        (1, {"first": -1}, "index must not be negative"),
    ],
    ids=str,
)
def test_bad_settings(tmp_path, count, changed, message):
    folder = tmp_path / "out"
    with pytest.raises(ValueError, match=message):
        write_dataset(folder, count, **changed)
    assert not folder.exists()


def test_hard_cohorts_are_often_ill():
    ill, well = (
        [subject_of(0, i, TIERS[name]).age_years for i in range(400)]
        for name in ("hard", "clean")
    )
    assert np.mean(ill) > np.mean(well) + 8
    same = np.mean(np.isin(ill, well) & (np.array(ill) == well))
    assert same == pytest.approx(0.3, abs=0.08)  # as they would be in any cohort


# --- command line


def test_command_line(tmp_path, capsys):
    folder = tmp_path / "out"
    flags = "--severity clean --subjects 1 --seed 2".split()
    assert main(["phantom", "-o", str(folder), *flags]) == 0
    assert "Synthetic" in capsys.readouterr().out
    write_dataset(tmp_path / "wanted", 1, severity="clean", seed=2)
    assert hashes(folder) == hashes(tmp_path / "wanted")


def test_command_line_on_a_foreign_folder(tmp_path, capsys):
    (tmp_path / "holiday.txt").touch()
    assert main(["phantom", "-o", str(tmp_path), "--severity", "clean"]) == 2
    error = capsys.readouterr().err
    assert "cervjax: error:" in error and str(tmp_path) in error


def test_command_line_without_a_folder(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["phantom"])
    assert caught.value.code == 2
    assert "--output" in capsys.readouterr().err
