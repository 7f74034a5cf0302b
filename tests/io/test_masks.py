"""Which mask is of which scan."""

from pathlib import Path

import pytest

from cervjax.io.masks import masks_of
from cervjax.io.pairing import find_scans


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def pair(root, name="a"):
    return touch(root, f"{name}_inphase.nii.gz", f"{name}_outphase.nii.gz")


@pytest.mark.parametrize(
    "name",
    ["a_dseg", "a", "a_seg", "sub/a_mask", "a_inphase_dseg", "a_label-muscle_dseg"],
)
def test_a_mask_is_named_as_its_scan(tmp_path, name):
    scans, _ = find_scans(pair(tmp_path / "scans"))
    masks = touch(tmp_path / "masks", f"{name}.nii.gz")
    ((scan, mask),), problems = masks_of(scans, masks)
    assert scan.name == "a" and mask == masks / f"{name}.nii.gz" and not problems
    assert masks_of(scans, mask)[0] == [(scan, mask)]


def test_nnunet_names_masks_as_cases(tmp_path):
    for case in ("c_1", "c_2"):
        touch(tmp_path / "imagesTr", f"{case}_0000.nii.gz", f"{case}_0001.nii.gz")
        touch(tmp_path / "labelsTr", f"{case}.nii.gz")
    pairs, problems = masks_of(
        find_scans(tmp_path / "imagesTr")[0], tmp_path / "labelsTr"
    )
    assert [m.name for _, m in pairs] == ["c_1.nii.gz", "c_2.nii.gz"] and not problems


def test_masks_beside_the_images_of_folders_with_equal_names(tmp_path):
    for person in ("p1", "p2"):
        touch(pair(tmp_path / person, "neck"), "neck_seg.nii.gz")
    pairs, problems = masks_of(find_scans(tmp_path)[0], tmp_path)
    assert not problems
    assert {s.name: m.parent.name for s, m in pairs} == {
        "p1_neck": "p1",
        "p2_neck": "p2",
    }


def test_what_has_no_partner_or_two_is_told_and_the_others_are_done(tmp_path):
    for name in "abc":
        pair(tmp_path / "scans", name)
    masks = touch(
        tmp_path / "masks", "a_dseg.nii", "b_dseg.nii", "x/b_seg.nii", "z_dseg.nii"
    )
    pairs, problems = masks_of(find_scans(tmp_path / "scans")[0], masks)
    assert [s.name for s, _ in pairs] == ["a"]
    told = {p.scan: p.message for p in problems}
    assert told["b"].startswith("2 masks: ") and "no mask in" in told["c"]
    assert "z_dseg.nii is a mask without a scan" in told["z"]


def test_one_mask_for_many_scans_is_refused(tmp_path):
    pair(pair(tmp_path / "scans"), "b")
    mask = touch(tmp_path, "m_dseg.nii") / "m_dseg.nii"
    with pytest.raises(ValueError, match="one mask, but there are 2 scans"):
        masks_of(find_scans(tmp_path / "scans")[0], mask)
    with pytest.raises(ValueError, match="not a folder"):
        masks_of([], tmp_path / "gone")
