"""Several networks: probabilities averaged on the scan's grid; who may be averaged."""

import csv
import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from conftest import RECIPE, SMALL, network_variables, save_pair
from scipy.ndimage import map_coordinates
from scipy.special import softmax

import cervjax
from cervjax.cli.main import main
from cervjax.inference.decode import Member, labels_of_mean, places_between
from cervjax.inference.ensemble import ensemble
from cervjax.model.card import ModelCard
from cervjax.model.weights import Weights, load_weights, save_weights

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture(scope="module")
def others(tmp_path_factory, random_weights, threshold_weights):
    """Further weights, of other names, grids, classes and labels."""
    folder = tmp_path_factory.mktemp("members")
    own = load_weights(threshold_weights)
    cards = {
        "finer": replace(own.card, recipe=replace(RECIPE, spacing_mm=(1.6, 1.7, 3.0))),
        "windows": replace(own.card, mode="sliding_window"),
        "named": replace(
            own.card, labels=dict(own.card.labels) | {"9": "something else"}
        ),
    }
    for name, card in cards.items():
        save_weights(folder / f"{name}.safetensors", own.variables, card)
    random = load_weights(random_weights)
    copied = replace(random.card, name="copy")
    save_weights(folder / "copy.safetensors", random.variables, copied)
    more = replace(SMALL, classes=22)
    card = ModelCard("levels", "", "", "", "whole", RECIPE, architecture=more)
    path = folder / "levels.safetensors"
    save_weights(path, network_variables(0, more), card)
    return {p.stem: p for p in folder.iterdir()} | {
        "random": random_weights,
        "threshold": threshold_weights,
    }


def infer(*arguments) -> int:
    return main(["infer", *map(str, arguments)])


def table(path) -> list[dict[str, str]]:
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def member(rng, size, counts, inside=None):
    """Logits of a grid of its own, and where the common places lie on it."""
    logits = rng.normal(0, 2, (*size, 15)).astype(np.float32)
    spans = zip(size, counts, strict=True)
    places = tuple(places_between(2 * n - 2, k, start=1, step=2) for n, k in spans)
    ends = inside or [(0, k) for k in counts]
    within = tuple(
        (np.arange(k) >= a) & (np.arange(k) < b)
        for (a, b), k in zip(ends, counts, strict=True)
    )
    return Member(logits, places, within)


def test_probabilities_are_averaged_where_the_scans_voxels_are():
    """Against SciPy's interpolation; outside its part a member says background."""
    rng, counts = np.random.default_rng(0), (9, 7, 5)
    members = (
        member(rng, (8, 6, 5), counts),
        member(rng, (11, 9, 4), counts, [(2, 8), (0, 6), (1, 5)]),
    )
    expected = np.zeros((*counts, 15))
    for logits, places, inside in members:
        at = np.meshgrid(*(p.before + p.beyond for p in places), indexing="ij")
        fine = [
            map_coordinates(logits[..., k], at, order=1, mode="nearest")
            for k in range(15)
        ]
        probability = softmax(np.stack(fine, -1), axis=-1)
        probability[~inside[0][:, None, None] | ~inside[1][:, None] | ~inside[2]] = (
            np.eye(15)[0]
        )
        expected += probability / 2
    labels, confidence = labels_of_mean(members)
    np.testing.assert_array_equal(labels, expected.argmax(-1))
    np.testing.assert_allclose(confidence, expected.max(-1), rtol=1e-4)
    assert len(np.unique(labels)) > 5


def test_a_member_twice_under_two_names_is_that_member(two_blobs, others):
    pair, affine = (two_blobs.in_phase, two_blobs.out_phase), two_blobs.affine
    how = {"affine": affine, "tta": 2}
    alone = cervjax.segment(*pair, weights=others["random"], **how)
    both = [others["random"], others["copy"]]
    together = cervjax.segment(*pair, weights=both, **how)
    assert np.mean(together.labels != alone.labels) < 1e-3  # ties
    np.testing.assert_allclose(together.confidence, alone.confidence, rtol=1e-4)
    assert len(np.unique(alone.labels)) > 5
    assert len(alone.segmentation.opinions) == 2
    assert len(together.segmentation.opinions) == 4


@pytest.mark.slow
def test_members_may_see_the_scan_on_grids_of_their_own(two_blobs, others):
    pair, affine = (two_blobs.in_phase, two_blobs.out_phase), two_blobs.affine
    both = [others["threshold"], others["finer"]]
    one, other, mean = (
        cervjax.segment(*pair, affine=affine, weights=w) for w in (*both, both)
    )
    for label in (9, 10):
        a, b, c = ((r.labels == label).sum() for r in (one, other, mean))
        assert 0 < min(a, b) * 0.9 <= c <= max(a, b) * 1.1
    agree = one.labels == other.labels
    np.testing.assert_array_equal(mean.labels[agree], one.labels[agree])


def test_results_name_all_members_whatever_their_order(tmp_path, two_blobs, others):
    scans, out = save_pair(tmp_path / "in", two_blobs), tmp_path / "out"
    files = others["threshold"], others["random"]
    digests = sorted(load_weights(file).sha256 for file in files)
    infer(scans, "-o", out, "--weights", *files)
    sidecar = json.loads((out / "sub-1_dseg.json").read_text())
    assert sidecar["Identity"]["weights_sha256"] == " ".join(digests)
    assert sidecar["DrawnBy"] == " ".join(digests)
    assert {card["name"] for card in sidecar["ModelCard"]} == {"threshold", "random"}
    (other,) = sidecar["Identity"]["settings"]["members"]
    assert other["tta"] == 1 and other["recipe"]["padding"] == [8, 6, 4]
    rows = table(out / "measurements.csv")
    assert {r["weights_sha256"] for r in rows} == {" ".join(d[:12] for d in digests)}
    mask = out / "sub-1_dseg.nii.gz"
    first = mask.stat().st_mtime_ns
    infer(scans, "-o", out, "--weights", *reversed(files))
    assert mask.stat().st_mtime_ns == first  # done already
    assert infer(scans, "-o", out, "--weights", files[0]) == 2
    assert np.asanyarray(nib.Nifti1Image.from_filename(mask).dataobj).any()


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        (("threshold", "threshold"), "is given twice"),
        (("threshold", "levels"), "they have 15 and 22 classes"),
        (("threshold", "named"), "label 9 is"),
        (("threshold", "windows"), "has no probabilities on the scan's grid"),
        (("threshold", "nowhere"), "no such weights"),
    ],
)
def test_what_cannot_be_averaged_is_one_line(
    tmp_path, two_blobs, others, capsys, pair, said
):
    scans = save_pair(tmp_path / "in", two_blobs)
    files = [others.get(name, tmp_path / "nowhere.safetensors") for name in pair]
    assert infer(scans, "-o", tmp_path / "out", "--weights", *files) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and said in message
    assert all(str(f) in message for f in files[said == "no such weights" :])
    assert not (tmp_path / "out" / "measurements.csv").exists()


def test_the_same_weights_in_two_files_are_refused(others):
    weights = load_weights(others["threshold"])
    with pytest.raises(ValueError, match="a b: these are the same weights"):
        ensemble({"a": weights, "b": Weights(*weights)})


def test_a_folder_after_the_weights_is_that_of_the_scans(tmp_path, two_blobs, others):
    scans, out = save_pair(tmp_path / "in", two_blobs), tmp_path / "out"
    assert infer("-o", out, "--weights", others["threshold"], scans) == 0
    rows = table(out / "measurements.csv")
    assert {r["weights_sha256"] for r in rows} == {
        load_weights(others["threshold"]).sha256[:12]
    }
