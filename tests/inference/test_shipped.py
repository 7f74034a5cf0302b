"""The weights in the package, on digital necks they were not trained on."""

import csv

import nibabel as nib
import numpy as np
import pytest
from conftest import optimised, save_pair
from digital import digital_scan

from cervjax.anatomy import LEFT_RIGHT_PERMUTATION, MUSCLES
from cervjax.cli.main import main
from cervjax.evaluation.overlap import confusion, dice_per_label
from cervjax.io.nifti import write_volume
from cervjax.model.card import NO_PATIENTS
from cervjax.model.weights import SHIPPED, load_weights

pytestmark = pytest.mark.xdist_group("shipped")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A clinical scan and its mirror image, segmented: labels, and the two tables."""
    folder = tmp_path_factory.mktemp("shipped")
    scan = digital_scan(9_001, 3, "clinical", anatomies=("standard",))
    (folder / "scans").mkdir()
    for name, image in (("inphase", scan.in_phase), ("outphase", scan.out_phase)):
        path, grid = folder / "scans" / f"a_{name}.nii.gz", scan.grid
        write_volume(path, image, grid.affine, grid.stored_axes)
        straight = nib.load(path)
        mirror = np.diag([-1.0, 1, 1, 1])  # the same voxels on the other side
        turned = nib.Nifti1Image(np.asarray(straight.dataobj), mirror @ straight.affine)
        turned.header.set_xyzt_units("mm", "sec")
        turned.set_qform(turned.affine, 1)
        turned.set_sform(turned.affine, 1)
        nib.save(turned, folder / "scans" / f"b_{name}.nii.gz")
    with optimised():
        assert main(["infer", str(folder / "scans"), "-o", str(folder / "out")]) == 0
    with open(folder / "out" / "measurements.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    masks = {
        name: nib.as_closest_canonical(nib.load(folder / "out" / f"{name}_dseg.nii.gz"))
        for name in "ab"
    }
    return scan, {k: np.asarray(v.dataobj) for k, v in masks.items()}, rows


def test_the_card_says_what_they_are():
    card = load_weights(SHIPPED).card
    assert card.limits == NO_PATIENTS and card.licence == "Apache-2.0"
    assert "digital necks" in card.trained_on and "seed" in card.trained_on
    assert set(card.accuracy["muscles"]) == {m.key for m in MUSCLES}
    assert all(0 < row["dice_mean"] < 1 for row in card.accuracy["muscles"].values())


@pytest.mark.slow
def test_they_find_the_muscles(results):
    scan, masks, rows = results
    dice = dice_per_label(confusion(masks["a"], scan.labels))
    assert dice.mean() > 0.8 and dice.min() > 0.7
    truth = {row["label"]: row for row in scan.truth}
    errors = [
        abs(float(r["mfi_percent"]) - truth[int(r["label"])]["mfi_image_percent"])
        for r in rows
        if r["scan"] == "a"
    ]
    assert np.mean(errors) < 2, errors


@pytest.mark.slow
def test_a_mirrored_scan_gives_the_mirrored_result(results):
    _, _, rows = results
    volume = {(r["scan"], int(r["label"])): float(r["volume_ml"]) for r in rows}
    total = sum(v for (scan, _), v in volume.items() if scan == "a")
    differences = []
    for muscle in MUSCLES:
        partner = int(LEFT_RIGHT_PERMUTATION[muscle.label])
        one, other = volume["a", muscle.label], volume["b", partner]
        # Logits lie 2 mm apart, and a mirrored scan between others of them.
        differences.append(abs(one - other) / min(one, total / 14))
    assert max(differences) < 0.06 and np.mean(differences) < 0.025, differences


@pytest.mark.slow
def test_the_limits_are_told_once(tmp_path, two_blobs, capsys):
    scans = save_pair(tmp_path / "in", two_blobs)
    main(["infer", str(scans), "-o", str(tmp_path / "out")])
    assert capsys.readouterr().out.count(NO_PATIENTS) == 1
