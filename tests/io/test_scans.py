from pathlib import Path

import pytest

from cervjax.io.scans import PairingError, explicit_scan


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_explicit_pair(tmp_path):
    make(tmp_path, "sub-1_first.nii", "sub-1_second.nii.gz")
    pair = tmp_path / "sub-1_first.nii", tmp_path / "sub-1_second.nii.gz"
    scan = explicit_scan(*pair)
    assert scan.name == "sub-1_first"
    assert scan.files == dict(zip(("in_phase", "out_phase"), pair, strict=True))
    assert explicit_scan(*pair, name="x/y").name == "x_y"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, ["no file", "--in-phase F", "--fat F"]),
        ({"in_phase": "a.nii"}, ["in-phase", "a.nii", "--out-phase F"]),
        ({"out_phase": "a.nii"}, ["out-of-phase", "a.nii", "--in-phase F"]),
        ({"water": "a.nii"}, ["water", "a.nii", "--fat F"]),
        ({"in_phase": "a.nii", "fat": "b.nii"}, ["a.nii", "b.nii"]),
        ({"in_phase": "a.nii", "out_phase": "b.nii", "fat": "c.nii"}, ["c.nii"]),
        ({"in_phase": "a.nii", "out_phase": "absent.nii"}, ["absent.nii", "check"]),
        ({"in_phase": "a.nii", "out_phase": "folder.nii"}, ["folder.nii", "check"]),
        ({"in_phase": "a.nii", "out_phase": "a.dcm"}, ["a.dcm", "dcm2niix"]),
    ],
    ids=str,
)
def test_explicit_scan_refuses(tmp_path, given, words):
    make(tmp_path, "a.nii", "b.nii", "c.nii", "a.dcm", "folder.nii/x")
    (tmp_path / "link.nii").symlink_to(tmp_path / "a.nii")
    with pytest.raises(PairingError) as raised:
        explicit_scan(**{role: tmp_path / name for role, name in given.items()})
    assert all(word in str(raised.value) for word in words)
