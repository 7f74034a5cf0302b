"""Which scans have labels, whose they are, and what is read of them."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from conftest import save_nifti
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff

from cervjax.io.labels import (
    _person,
    exchanged_pairs,
    exchanged_sides,
    find_labelled,
    read_labels,
)
from cervjax.io.nifti import NiftiError, read_nifti

AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(root: Path) -> dict[str, tuple[str, str]]:
    scans, problems = find_labelled(root)
    assert not problems
    return {
        s.scan.name: (s.labels.relative_to(root).as_posix(), s.participant)
        for s in scans
    }


def only_problem(root: Path) -> tuple[list[str], str]:
    scans, (problem,) = find_labelled(root)
    return [s.scan.name for s in scans], f"{problem.scan}: {problem.message}; " + (
        problem.hint
    )


def test_bids_with_labels_in_derivatives(tmp_path):
    """As `phantom.dataset` writes them, beside other truth."""
    for name in ("sub-01/ses-1/anat/sub-01_ses-1", "sub-02/ses-2/anat/sub-02_ses-2"):
        images = ("inphase", "outphase", "water", "fat")
        touch(tmp_path, *(f"{name}_{image}.nii.gz" for image in images))
        others = ("desc-full_dseg", "pdff", "levels", "dseg")
        truth = (f"derivatives/truth/{name}_{other}.nii.gz" for other in others)
        touch(tmp_path, *truth)
    truth = "derivatives/truth/"
    assert found(tmp_path) == {
        "sub-01_ses-1": (
            truth + "sub-01/ses-1/anat/sub-01_ses-1_dseg.nii.gz",
            "sub-01",
        ),
        "sub-02_ses-2": (
            truth + "sub-02/ses-2/anat/sub-02_ses-2_dseg.nii.gz",
            "sub-02",
        ),
    }


def test_bids_with_labels_beside_the_images(tmp_path):
    touch(tmp_path, *(f"sub-1/anat/sub-1_{x}.nii" for x in ("IN", "OPP", "dseg")))
    assert found(tmp_path) == {"sub-1": ("sub-1/anat/sub-1_dseg.nii", "sub-1")}


def test_linked_derivatives_are_followed_once(tmp_path):
    touch(tmp_path / "in", "sub-1_IN.nii", "sub-1_OPP.nii")
    touch(tmp_path / "elsewhere", "sub-1_dseg.nii")
    (tmp_path / "in" / "derivatives").mkdir()
    (tmp_path / "in" / "derivatives" / "drawn").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "again").symlink_to(tmp_path / "elsewhere")
    scans = found(tmp_path / "in")
    assert scans == {"sub-1": ("derivatives/drawn/sub-1_dseg.nii", "sub-1")}


def test_nnunet(tmp_path):
    for case, part in (("neck_1", "Tr"), ("neck_2", "Tr"), ("neck_3", "Ts")):
        touch(tmp_path, *(f"images{part}/{case}_000{i}.nii.gz" for i in (0, 1)))
        touch(tmp_path, f"labels{part}/{case}.nii.gz")
    touch(tmp_path, "dataset.json")
    assert found(tmp_path) == {
        "neck_1": ("labelsTr/neck_1.nii.gz", "neck_1"),
        "neck_2": ("labelsTr/neck_2.nii.gz", "neck_2"),
        "neck_3": ("labelsTs/neck_3.nii.gz", "neck_3"),
    }


@pytest.mark.parametrize("ending", ["dseg", "seg", "label", "labels", "mask"])
def test_plain_folder(tmp_path, ending):
    touch(tmp_path, "a_in.nii", "a_opp.nii", f"a_{ending}.nii.gz")
    assert found(tmp_path) == {"a": (f"a_{ending}.nii.gz", "a")}


def test_folder_for_each_scan(tmp_path):
    """Names repeat from folder to folder, or say the role and nothing else."""
    for folder in ("p1", "p2"):
        touch(tmp_path, *(f"{folder}/neck_{x}.nii" for x in ("in", "opp", "seg")))
    touch(tmp_path, "p3/in.nii", "p3/opp.nii", "p3/labels.nii")
    touch(tmp_path, "p4/in.nii", "p4/opp.nii", "p4/p4_dseg.nii")
    assert found(tmp_path) == {
        "p1_neck": ("p1/neck_seg.nii", "p1_neck"),
        "p2_neck": ("p2/neck_seg.nii", "p2_neck"),
        "p3": ("p3/labels.nii", "p3"),
        "p4": ("p4/p4_dseg.nii", "p4"),
    }


def test_folder_for_each_role(tmp_path):
    touch(tmp_path, "inphase/a.nii", "outphase/a.nii", "a_dseg.nii")
    assert found(tmp_path) == {"a": ("a_dseg.nii", "a")}


def test_water_and_fat_are_a_scan_too(tmp_path):
    touch(tmp_path, "a_water.nii", "a_fat.nii", "a_dseg.nii")
    assert found(tmp_path) == {"a": ("a_dseg.nii", "a")}


def test_participant_is_in_a_name_or_a_folder(tmp_path):
    touch(tmp_path, *(f"sub-7/x_{x}.nii" for x in ("in", "opp", "dseg")))
    touch(tmp_path, *(f"all/7_sub-8_{x}.nii" for x in ("in", "opp", "dseg")))
    touch(tmp_path, *(f"sub-a/sub-b_{x}.nii" for x in ("in", "opp", "dseg")))
    assert {name: who for name, (_, who) in found(tmp_path).items()} == {
        "x": "sub-7",
        "7_sub-8": "sub-8",
        "sub-b": "sub-b",
    }


def test_scan_without_labels_is_a_problem(tmp_path):
    touch(tmp_path, "a_in.nii", "a_opp.nii", "a_dseg.nii", "b_in.nii", "b_opp.nii")
    touch(tmp_path, "b_desc-full_dseg.nii", "derivatives/b_desc-full_dseg.nii")
    names, text = only_problem(tmp_path)
    assert names == ["a"]
    assert text.startswith(f"b: no labels; Add {tmp_path}/b_dseg.nii.gz")


def test_nnunet_case_without_labels_says_where_they_go(tmp_path):
    touch(tmp_path, "imagesTr/c_0000.nii.gz", "imagesTr/c_0001.nii.gz")
    assert f"Add {tmp_path}/labelsTr/c.nii.gz" in only_problem(tmp_path)[1]


def test_several_candidates_are_a_problem(tmp_path):
    touch(tmp_path, "sub-1_in.nii", "sub-1_opp.nii")
    touch(tmp_path, "derivatives/x/sub-1_dseg.nii", "derivatives/y/sub-1_dseg.nii")
    names, text = only_problem(tmp_path)
    assert not names and "2 candidates" in text
    assert "x/sub-1_dseg.nii" in text and "y/sub-1_dseg.nii" in text


def test_labels_of_two_scans_are_a_problem(tmp_path):
    for folder in ("p1", "p2"):
        touch(tmp_path, f"{folder}/neck_in.nii", f"{folder}/neck_opp.nii")
    touch(tmp_path, "derivatives/neck_dseg.nii")
    scans, problems = find_labelled(tmp_path)
    assert not scans
    assert [p.scan for p in problems] == ["p1_neck", "p2_neck"]
    assert all("another scan claims" in p.message for p in problems)
    assert all("derivatives/neck_dseg.nii" in p.message for p in problems)


def test_images_without_partner_stay_a_problem(tmp_path):
    touch(tmp_path, "a_in.nii", "a_opp.nii", "a_dseg.nii", "b_in.nii", "b_dseg.nii")
    names, text = only_problem(tmp_path)
    assert names == ["a"] and "without a partner" in text


def test_empty_folder_explains_the_layouts(tmp_path):
    with pytest.raises(ValueError, match=r"(?s)no complete scan.*BIDS.*labelsTr.*_seg"):
        find_labelled(tmp_path)
    with pytest.raises(ValueError, match="does not exist; check the path"):
        find_labelled(tmp_path / "nowhere")


def grid_and_labels(tmp_path, change=lambda labels: labels, affine=AFFINE):
    rng = np.random.default_rng(0)
    image = rng.uniform(1, 9, (6, 7, 5)).astype(np.float32)
    labels = rng.integers(0, 15, image.shape).astype(np.uint8)
    grid = read_nifti(save_nifti(tmp_path / "in.nii", image, AFFINE))
    path = save_nifti(tmp_path / "x_dseg.nii", change(labels), affine)
    return labels, grid, path


@pytest.mark.parametrize("stored", ["LPI", "PIR", "SLA"])
def test_labels_are_turned_as_the_image_is(tmp_path, stored):
    labels, grid, path = grid_and_labels(tmp_path)
    turn = nib.orientations.ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(stored))
    affine = AFFINE @ inv_ornt_aff(turn, labels.shape)
    save_nifti(path, np.asarray(apply_orientation(labels, turn)), affine)
    np.testing.assert_array_equal(read_labels(path, grid), labels)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_labels_of_any_type(tmp_path, dtype):
    labels, grid, path = grid_and_labels(tmp_path, lambda a: a.astype(dtype))
    got = read_labels(path, grid)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, labels)


@pytest.mark.parametrize("slope", [0.50000006, 0.49999997])
def test_labels_with_scale_factors(tmp_path, slope):
    """As SPM writes them: 14 becomes 14.000001 or 13.999999."""
    labels, grid, path = grid_and_labels(tmp_path)
    image = nib.Nifti1Image((labels * 2).astype(np.uint8), AFFINE)
    image.header.set_slope_inter(slope, 0)
    nib.save(image, path)
    assert not np.array_equal(read_nifti(path).data, labels)
    np.testing.assert_array_equal(read_labels(path, grid), labels)


def with_value(value: float):
    def change(labels):
        labels = labels.astype(np.float32)
        labels[2, 3, 1:3] = value
        return labels

    return change


@pytest.mark.parametrize(
    "change, affine, message",
    [
        (with_value(15), AFFINE, "2 voxels have the values 15; renumber"),
        (with_value(-1), AFFINE, "2 voxels have the values -1; renumber"),
        (with_value(4.5), AFFINE, "2 voxels are not, such as 4.5; resample"),
        (with_value(np.nan), AFFINE, "2 of 210 voxels are NaN"),
        (lambda a: a[:-1], AFFINE, r"\(6, 7, 5\) and \(5, 7, 5\)"),
        (lambda a: a, np.diag([2, 2.03, 3, 1]), "up to 0.18 mm apart"),
        (np.zeros_like, AFFINE, "no muscle, every voxel is 0"),
    ],
)
def test_unfit_labels_name_file_and_reason(tmp_path, change, affine, message):
    _, grid, path = grid_and_labels(tmp_path, change, affine)
    with pytest.raises(NiftiError, match=rf"x_dseg\.nii.*{message}"):
        read_labels(path, grid)


def test_many_foreign_values_are_cut_short(tmp_path):
    _, grid, path = grid_and_labels(tmp_path, lambda a: a.astype(np.int16) * 10)
    with pytest.raises(NiftiError, match=r"values 20, 30, .*, 90, \.\.\.; renumber"):
        read_labels(path, grid)


def test_small_shift_is_the_same_grid(tmp_path):
    affine = AFFINE.copy()
    affine[:3, 3] = 0.09
    labels, grid, path = grid_and_labels(tmp_path, affine=affine)
    np.testing.assert_array_equal(read_labels(path, grid), labels)


def test_exchanged_sides_are_noticed():
    labels = np.zeros((40, 15, 3), np.uint8)
    for k in range(1, 15):
        labels[30 if k % 2 else 10, k, 1] = k
    assert exchanged_sides(labels) == "" and exchanged_pairs(labels) == ([], 7)
    assert "7 of 7 pairs" in exchanged_sides(labels[::-1])
    one = labels.copy()
    one[:, 1:3] = one[::-1, 1:3]  # one muscle drawn oddly
    assert exchanged_sides(one) == "" and exchanged_pairs(one) == (["MFSS"], 7)
    few = np.where(np.isin(labels, (1, 2, 5)), labels, 0)[::-1]
    assert "1 of 1 pairs" in exchanged_sides(few)
    assert exchanged_sides(0 * labels) == "" and exchanged_sides(labels[:20]) == ""


@pytest.mark.parametrize(
    ("name", "person"),
    [
        ("P0_ses-1", "P0"),
        ("P0_T2", "P0"),
        ("P0_v02", "P0"),
        ("P0_ses-1_run-2", "P0"),
        ("P0-followup", "P0"),
        ("P0_20240109", "P0"),
        ("neck_01", "neck_01"),
        ("case-12", "case-12"),
        ("T2", "T2"),
        ("P0_s01", "P0_s01"),
    ],
)
def test_visits_of_a_person_stay_together(name, person):
    assert _person(name) == person
