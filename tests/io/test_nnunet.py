"""Datasets of nnU-Net: what it wants of them, and that they read back as they were."""

import json

import nibabel as nib
import numpy as np
import pytest
from block_neck import block_neck, echoes
from conftest import save_nifti

from cervjax.anatomy import MUSCLES
from cervjax.cli.main import main
from cervjax.io.dixon import read_scan
from cervjax.io.label_sets import MUSCLEMAP, read_label_set
from cervjax.io.labels import find_labelled, read_labels

AFFINE = np.diag([-1.0, 1.0, 3.0, 1.0])  # stored as LAS
NAMES = {"background": 0} | {m.key: m.label for m in MUSCLES}


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Two scans; the echoes of b lie 0.05 mm apart, which nnU-Net would refuse."""
    folder = tmp_path_factory.mktemp("scans")
    for name in ("sub-1", "sub-2"):
        for role, image in zip(("in", "out"), echoes(block_neck()), strict=True):
            affine = AFFINE.copy()
            affine[0, 3] += 0.05 * (name == "sub-2" and role == "out")
            save_nifti(folder / f"{name}_{role}phase.nii.gz", image[::-1], affine)
    return folder


def masks(folder, labels, names=("sub-1", "sub-2")):
    for name in names:
        save_nifti(folder / f"{name}_dseg.nii.gz", labels[::-1], AFFINE)
    return folder


def run(*arguments):
    return main(["nnunet", *map(str, arguments)])


def test_a_dataset_is_what_nnunet_wants_and_reads_back(scans, tmp_path):
    """Its rules: consecutive labels from 0, all channels, and one grid a case."""
    out = tmp_path / "Dataset501_Neck"
    assert run(scans, masks(tmp_path / "m", block_neck()), "-o", out) == 0
    content = json.loads((out / "dataset.json").read_text())
    assert content["labels"] == NAMES and content["numTraining"] == 2
    assert content["channel_names"] == {"0": "in-phase", "1": "out-of-phase"}
    for name in ("sub-1", "sub-2"):
        ends = ("_0000.nii.gz", "_0001.nii.gz")
        paths = [out / "imagesTr" / f"{name}{end}" for end in ends]
        first, second, labels = map(nib.load, [*paths, out / f"labelsTr/{name}.nii.gz"])
        np.testing.assert_array_equal(first.affine, second.affine)
        np.testing.assert_array_equal(first.affine, labels.affine)
        assert first.shape == second.shape == labels.shape
        for image, echo in zip((first, second), echoes(block_neck()), strict=True):
            np.testing.assert_array_equal(image.dataobj, echo[::-1])
        np.testing.assert_array_equal(labels.dataobj, block_neck()[::-1])
    assert len(list(out.rglob("*.nii.gz"))) == 6
    labelled, problems = find_labelled(out)  # our own reader knows sides and channels
    assert len(labelled) == 2 and not problems
    images = read_scan(labelled[0].scan)
    np.testing.assert_array_equal(images.in_phase, echoes(block_neck())[0])
    found = read_label_set("", labelled[0].labels.parent)
    again = read_labels(labelled[0].labels, images.grid, label_set=found)
    np.testing.assert_array_equal(again, block_neck())


def test_values_of_another_program_and_voxels_nobody_judged(scans, tmp_path):
    """MuscleMap's values in a dataset.json whose ignore lies in between."""
    labels = np.zeros(block_neck().shape, np.int16)
    for value, label in MUSCLEMAP.muscles.items():
        labels[block_neck() == label] = value
    labels[60, 60, 3:5] = 1130
    names = {MUSCLES[label - 1].key: v for v, label in MUSCLEMAP.muscles.items()}
    text = json.dumps({"labels": {"background": 0, "ignore": 1130, **names}})
    (tmp_path / "labels.json").write_text(text)
    out = tmp_path / "Dataset002_x"
    flags = ["--labels", tmp_path / "labels.json"]
    assert run(scans, masks(tmp_path / "m", labels), "-o", out, *flags) == 0
    written = np.asarray(nib.load(out / "labelsTr/sub-1.nii.gz").dataobj)[::-1]
    wanted = block_neck()
    wanted[60, 60, 3:5] = 15
    np.testing.assert_array_equal(written, wanted)
    content = json.loads((out / "dataset.json").read_text())
    assert content["labels"] == NAMES | {"ignore": 15}
    assert read_label_set(str(out)).ignored == {15}


def test_exchanged_sides_and_scans_without_masks_are_left_out(scans, tmp_path, capsys):
    folder = masks(tmp_path / "m", block_neck(), ["sub-1"])
    assert run(scans, folder, "-o", tmp_path / "Dataset003_x") == 1
    assert "FAILED sub-2: no mask in" in capsys.readouterr().err
    content = json.loads((tmp_path / "Dataset003_x" / "dataset.json").read_text())
    assert content["numTraining"] == 1
    folder = masks(tmp_path / "mirrored", block_neck()[::-1])
    assert run(scans, folder, "-o", tmp_path / "Dataset004_x") == 2
    assert "left and right are exchanged" in capsys.readouterr().err
    assert not (tmp_path / "Dataset004_x" / "dataset.json").exists()


def test_datasets_never_mix_and_have_nnunets_names(scans, tmp_path, capsys):
    folder = masks(tmp_path / "m", block_neck())
    assert run(scans, folder, "-o", tmp_path / "Neck") == 2
    assert "Dataset501_Neck" in capsys.readouterr().err
    (tmp_path / "Dataset005_x" / "labelsTr").mkdir(parents=True)
    assert run(scans, folder, "-o", tmp_path / "Dataset005_x") == 2
    assert "has labelsTr already" in capsys.readouterr().err
