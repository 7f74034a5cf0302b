"""DICOM folders: the right images, where they lie in the patient, and nobody's name."""

import gzip
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom", reason="needs the extra dicom")
pytest.importorskip("dcm2niix", reason="needs the extra dicom")

from conftest import SHARED, save_nifti  # noqa: E402
from dicom_files import (  # noqa: E402
    SECRETS,
    affine_ras,
    classic,
    enhanced,
    study,
)

from cervjax.cli.main import main  # noqa: E402
from cervjax.io.dicom_frames import series_role  # noqa: E402
from cervjax.io.dicom_scans import find_dicom_scans  # noqa: E402
from cervjax.io.pairing import find_scans  # noqa: E402
from cervjax.io.tables import read_rows  # noqa: E402

KEY = b"0123456789abcdef"


@pytest.fixture(autouse=True)
def own_key(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))


@pytest.fixture
def images():
    """Different everywhere, so that no flip or exchange can hide."""
    rng = np.random.default_rng(0)
    shape = (12, 10, 6)  # columns, rows, slices
    return {r: rng.integers(1, 900, shape) for r in ("in_phase", "out_phase")}


def converted(folder, out: Path, *flags: str) -> tuple[int, list]:
    status = main(["dicom", str(folder), "-o", str(out), *flags])
    return status, find_scans(out)[0] if status == 0 else []


def check(scan, images):
    """Every voxel lies where DICOM's own formula puts it."""
    for role, image in images.items():
        found = nib.load(scan.files[role])
        assert found.shape == (12, 10, 6)
        index = np.stack(np.indices(image.shape), -1).reshape(-1, 3)
        places = nib.affines.apply_affine(affine_ras(), index)
        back = nib.affines.apply_affine(np.linalg.inv(found.affine), places)
        assert np.abs(back - back.round()).max() < 1e-3
        values = np.asarray(found.dataobj)[tuple(back.round().astype(int).T)]
        np.testing.assert_array_equal(values, image.reshape(-1))


def test_classic_series_are_converted_voxel_for_voxel(tmp_path, images):
    paths = classic(tmp_path / "export" / "deep", study(), images)
    rng = np.random.default_rng(1)
    for new, old in enumerate(rng.permutation(len(paths))):  # names tell no order
        paths[old].rename(paths[old].with_name(f"IM_{new}"))
    status, (scan,) = converted(tmp_path / "export", tmp_path / "out")
    assert status == 0
    check(scan, images)


def test_frames_of_an_enhanced_file_in_any_order(tmp_path, images):
    order = np.random.default_rng(2).permutation(12)
    enhanced(tmp_path / "export" / "IM_1", study(), images, order)
    _, (scan,) = converted(tmp_path / "export", tmp_path / "out")
    check(scan, images)


def test_an_archive_is_read(tmp_path, images):
    paths = classic(tmp_path / "export", study(), images)
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        for path in paths:
            archive.write(path, f"Quillfeather/{path.name}")
    _, (scan,) = converted(tmp_path / "export.zip", tmp_path / "out")
    check(scan, images)
    (tmp_path / "bad.zip").write_bytes(b"PK")
    assert main(["dicom", str(tmp_path / "bad.zip"), "-o", str(tmp_path / "o")]) == 2


def test_no_word_about_the_patient_is_written_or_printed(tmp_path, images, capfd):
    classic(tmp_path / "in" / "Quillfeather^Zebulon", study(), images)
    paths = classic(tmp_path / "in" / "2", study(time="11"), images, number=20)
    paths[3].unlink()
    paths[4].write_bytes(b"\0" * 128 + b"DICM" + b"Quillfeather" * 9)
    assert main(["dicom", str(tmp_path / "in"), "-o", str(tmp_path / "out")]) == 1
    printed = "".join(capfd.readouterr())
    assert "PROBLEM" in printed
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(files) == 4
    for path in files:
        content = path.read_bytes()
        if path.name.endswith(".gz"):
            content = gzip.decompress(content)
        for secret in SECRETS:
            assert secret.encode() not in content, path
            assert secret not in path.name
    assert not [secret for secret in SECRETS if secret in printed]


def test_dicom_and_nifti_give_the_same_table(
    tmp_path, two_blobs, random_weights, no_pictures, capfd
):
    pair = {"in_phase": two_blobs.in_phase, "out_phase": two_blobs.out_phase}
    images = {role: np.round(image).astype(int) for role, image in pair.items()}
    classic(tmp_path / "dicom" / "Quillfeather", study(), images)
    for role, image in images.items():
        name = f"sub-1_{role.replace('_', '')}.nii.gz"
        save_nifti(tmp_path / "nifti" / name, image.astype(np.int16), affine_ras())
    tables = []
    for source in ("dicom", "nifti"):
        out = tmp_path / f"of_{source}"
        main(
            ["infer", str(tmp_path / source), "-o", str(out)]
            + ["--weights", str(random_weights), "--histogram", "--maps"]
            + ["--dicom-seg"] * (source == "dicom")
        )
        ids = ("scan", "volume_ml", "mfi_percent", "muscle", "side")
        rows = [row for _, row in read_rows(out / "measurements.csv")]
        tables.append([[row[name] for name in ids[1:]] for row in rows])
    assert tables[0] == tables[1] and len(tables[0]) == 14
    printed = "".join(capfd.readouterr())
    assert "1 DICOM segmentation(s), 0 failed" in printed
    content = b"".join(
        (gzip.decompress if path.suffix == ".gz" else bytes)(path.read_bytes())
        for path in (tmp_path / "of_dicom").rglob("*")
        if path.is_file()
    )
    assert not [s for s in SECRETS if s.encode() in content + printed.encode()]


def test_two_people_and_two_scans_stay_apart(tmp_path, images):
    other = {role: image[::-1].copy() for role, image in images.items()}
    classic(tmp_path / "in", study(), images)
    classic(tmp_path / "in", study("B2", "Other^One"), other, number=30)
    scans, problems, _ = find_dicom_scans(tmp_path / "in", KEY)
    assert len(scans) == 2 and not problems
    assert len({scan.name[:12] for scan in scans}) == 2
    for scan in scans:
        people = {f.person for stack in scan.stacks.values() for f in stack.frames}
        assert len(people) == 1


def test_the_same_key_gives_the_same_names(tmp_path, images):
    classic(tmp_path / "in", study(), images)
    (first,), _, _ = find_dicom_scans(tmp_path / "in", KEY)
    (again,), _, _ = find_dicom_scans(tmp_path / "in", KEY)
    (other,), _, _ = find_dicom_scans(tmp_path / "in", KEY[::-1])
    assert first.name == again.name != other.name
    (kept,), _, _ = find_dicom_scans(tmp_path / "in", KEY, keep_ids=True)
    assert kept.name == "sub-HOSP7741X_ses-20240506_run-5"


def test_images_of_others_are_kept(tmp_path, images):
    classic(tmp_path / "in", study(), images)
    _, scans = converted(tmp_path / "in", tmp_path / "out")
    assert converted(tmp_path / "in", tmp_path / "out")[0] == 0  # the same again
    scans[0].in_phase.write_bytes(b"mine")
    assert converted(tmp_path / "in", tmp_path / "out")[0] == 1
    assert scans[0].in_phase.read_bytes() == b"mine"


def problem_of(folder: Path) -> str:
    scans, (problem,), _ = find_dicom_scans(folder, KEY)
    assert not scans and not problem.files
    return problem.message


def test_missing_slices_are_told(tmp_path, images):
    paths = classic(tmp_path, study(), images)
    for path in (paths[2], paths[8]):
        path.unlink()
    assert "slices are missing: they lie 4.0 to 8.0 mm apart" in problem_of(tmp_path)


def test_a_slice_lost_from_one_image_only(tmp_path, images):
    classic(tmp_path, study(), images)[0].unlink()
    scans, problems, _ = find_dicom_scans(tmp_path, KEY)
    assert not scans
    assert all("without a partner on the same grid" in p.message for p in problems)


def test_a_tilted_stack_is_refused(tmp_path, images):
    classic(tmp_path, study(), images, tilt_mm=1.0)
    assert "tilt of 14.0 degrees" in problem_of(tmp_path)


def test_images_over_time_are_refused(tmp_path, images):
    first, again = study(), study()
    again.StudyInstanceUID = first.StudyInstanceUID
    paths = classic(tmp_path / "a", first, images)
    for path in paths:
        ds = pydicom.dcmread(path)
        ds.SOPInstanceUID = pydicom.uid.generate_uid()
        ds.save_as(tmp_path / f"{path.name}_again")
    assert "several images over time" in problem_of(tmp_path)


def test_a_copy_of_the_files_counts_once(tmp_path, images):
    common = study()
    for path in classic(tmp_path / "a", common, images):
        path.with_name(f"{path.name}_copy").write_bytes(path.read_bytes())
    scans, problems, _ = find_dicom_scans(tmp_path, KEY)
    assert len(scans) == 1 and not problems


def test_echo_times_tell_what_types_leave_open(tmp_path, images):
    common = study()
    paths = classic(tmp_path, common, images)
    for path in paths:
        ds = pydicom.dcmread(path)
        ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
        ds.SeriesInstanceUID, ds.SeriesNumber = "1.2.3", 5
        ds.save_as(path)
    (scan,), problems, _ = find_dicom_scans(tmp_path, KEY)
    assert not problems
    times = {r: s.frames[0].echo_time_ms for r, s in scan.stacks.items()}
    assert times == {"in_phase": 2.46, "out_phase": 1.23}


def test_two_images_of_one_role_are_a_problem(tmp_path, images):
    common = study()
    classic(tmp_path, common, images)
    classic(tmp_path, common, images, number=9)
    assert "2 in-phase images on one grid: series 5" in problem_of(tmp_path)


def test_maps_and_phase_images_are_left_out(tmp_path, images):
    common = study()
    classic(tmp_path, common, images)
    extra = {"in_phase": images["in_phase"]}
    types = (["DERIVED", "PRIMARY", "M", "DIXON", "FF"], ["ORIGINAL", "PRIMARY", "P"])
    for i, kind in enumerate(types):
        classic(tmp_path, common, extra, number=20 + i, ImageType=kind)
    scans, problems, left_out = find_dicom_scans(tmp_path, KEY)
    assert len(scans) == 1 and not problems
    assert "computed, no echo (FF)" in left_out[0]
    assert "no magnitude image (P)" in left_out[1]


@pytest.mark.parametrize(
    ("text", "role"),
    [
        ("t1_vibe_dixon_cor_opp", "out_phase"),
        ("WATER: Ax LAVA-Flex", "water"),
        ("InPhase: Ax LAVA-Flex", "in_phase"),
        ("T1 TSE FAT SAT", ""),
        ("t2_tse_tra", ""),
    ],
)
def test_roles_in_descriptions(text, role):
    assert series_role(text) == role


def test_scaled_pixels_keep_their_scale(tmp_path, images):
    scale = {"RescaleSlope": "2", "RescaleIntercept": "0"}
    classic(tmp_path / "in", study(), images, **scale)
    _, (scan,) = converted(tmp_path / "in", tmp_path / "out")
    check(scan, {role: 2 * image for role, image in images.items()})


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("philips_enhanced", "no in-phase and out-of-phase images"),
        ("siemens_two_echo_classic", "no in-phase and out-of-phase images"),
        ("siemens_xa30_enhanced", "no in-phase and out-of-phase images"),
    ],
)
def test_real_exports_that_are_no_dixon_scans_are_refused(name, reason):
    """Field maps: their echo times are a quarter of a turn off both phases."""
    folder = SHARED / "scans" / "dicom" / name
    if not folder.exists():
        pytest.skip("needs ../shared/scans, which is not part of the product")
    assert reason in problem_of(folder)
