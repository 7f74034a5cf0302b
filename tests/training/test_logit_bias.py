"""Volumes that are right on average: a bias that is known to be wrong is found."""

from dataclasses import replace
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from conftest import RECIPE, SMALL, network_variables, save_nifti, save_pair

import cervjax
from cervjax.anatomy import MUSCLES
from cervjax.cli.main import main
from cervjax.io.labels import find_labelled
from cervjax.model.card import ModelCard
from cervjax.model.weights import Weights, load_weights, save_weights
from cervjax.training import logit_bias

MUSCLE_RATIOS = {"LC": 0.97, "TR": 1.02}
SHIFTS = np.array([0.4, -0.3, 0.8, -0.6, 0.0, 0.5, -0.9])


def test_a_known_shift_is_found(tmp_path, two_blobs, random_weights, capsys):
    """The reference is what the same network finds with another bias."""
    variables = network_variables(16, SMALL)  # finds several pairs of muscles here
    variables["params"]["head_bias"][:] = 0
    card = load_weights(random_weights).card
    start = tmp_path / "start.safetensors"
    save_weights(start, variables, card)
    weights = load_weights(start)
    scans = save_pair(tmp_path / "scans", two_blobs)
    variables["params"]["head_bias"][1:] += np.repeat(SHIFTS, 2).astype(np.float32)
    save_weights(tmp_path / "truth.safetensors", variables, card)
    out = tmp_path / "out"
    flags = ["--weights", str(tmp_path / "truth.safetensors")]
    main(["infer", str(scans), "-o", str(out), *flags])  # 1: nobody should use it
    mask = nib.load(out / "sub-1_dseg.nii.gz")
    labels = np.asarray(mask.dataobj).astype(np.uint8)
    save_nifti(scans / "sub-1_dseg.nii.gz", labels, mask.affine)
    target = tmp_path / "debiased.safetensors"
    folders = [str(scans), str(scans)]  # of several, all count
    assert main(["debias", str(start), *folders, str(target)]) == 0
    debiased = load_weights(target)
    assert "debiased to 1, on 2 scan(s) of scans, scans" in debiased.card.source
    before, after = (w.variables["params"]["head_bias"] for w in (weights, debiased))
    found = (after - before)[1:].reshape(7, 2)
    assert np.allclose(found[:, 0], found[:, 1]) and after[0] == before[0]
    # Only labels that occur can be told, and here, where background hardly does,
    # only against each other.
    occurs = np.bincount(labels.ravel(), minlength=15)[1:].reshape(7, 2).min(1) > 300
    assert occurs.sum() >= 3
    error = found[occurs, 0] - SHIFTS[occurs]
    assert np.ptp(SHIFTS[occurs]) > 0.8 and np.ptp(error) < 0.1
    flags = ["--weights", str(target), "--overwrite"]
    main(["infer", str(scans), "-o", str(out), *flags])
    again = np.asarray(nib.load(out / "sub-1_dseg.nii.gz").dataobj)
    assert np.mean(again != labels) < 0.02


def test_weights_that_find_levels_are_measured_at_them(
    tmp_path, two_blobs, monkeypatch
):
    """As `infer` draws muscles, also where the scan is cropped to the body."""
    architecture = replace(SMALL, classes=22)
    recipe = replace(RECIPE, landmarks={}, normalisation="foreground")
    card = ModelCard("n", "s", "t", "l", "whole", recipe, architecture=architecture)
    weights = Weights(network_variables(1, architecture), card, "0" * 64)
    in_phase, out_phase = (
        np.pad(v, [(10, 9), (12, 3), (0, 0)]) for v in (two_blobs[:2])
    )
    wide = two_blobs._replace(in_phase=in_phase, out_phase=out_phase)
    folder = save_pair(tmp_path, wide)
    reference = np.zeros(in_phase.shape, np.uint8)
    for label in range(1, 15):
        reference[20:40, 15 + label, : label + 1] = label
    save_nifti(folder / "sub-1_dseg.nii.gz", reference, two_blobs.affine)
    (scan,), _ = find_labelled(folder)
    found = cervjax.segment(in_phase, out_phase, affine=wide.affine, weights=weights)
    assert found.levels and 0 < found.labels.max() < 15
    counts, known = (
        np.bincount(v.ravel(), minlength=15)[1:] for v in (found.labels, reference)
    )
    case = logit_bias._case(weights, scan)
    np.testing.assert_allclose(
        logit_bias._volume_ratio(case, np.zeros(7)),
        (counts / known).reshape(7, 2).mean(1),
    )
    monkeypatch.setattr(logit_bias, "_volume_ratio", lambda _, s: 0.9 * np.exp(s))
    debiased = logit_bias.fit_logit_bias(weights, [scan], log=str)
    before, after = (
        w.variables["params"]["head_bias"] for w in (weights, debiased.weights)
    )
    np.testing.assert_array_equal(np.flatnonzero(after != before), np.arange(1, 15))


def test_volumes_that_follow_slowly_are_found_in_few_rounds(
    monkeypatch, random_weights
):
    """Where ratios are nearly right and hardly move, as of a muscle's sure outline."""
    start, follows = np.linspace(0.97, 1.03, 7), np.linspace(0.06, 0.4, 7)
    monkeypatch.setattr(logit_bias, "_case", lambda *_: None)
    monkeypatch.setattr(
        logit_bias, "_volume_ratio", lambda _, s: start * np.exp(follows * s)
    )
    said = []
    scan = SimpleNamespace(scan=SimpleNamespace(name="sub-1"))
    _, shift, ratio = logit_bias.fit_logit_bias(
        load_weights(random_weights), [scan], log=said.append
    )
    np.testing.assert_allclose(ratio, 1, atol=0.005)
    np.testing.assert_allclose(shift, -np.log(start) / follows, atol=0.1)
    assert len(said) <= 1 + 4


def test_a_muscle_can_have_its_own_ratio(monkeypatch, random_weights, tmp_path, capsys):
    follows = 0.3
    monkeypatch.setattr(logit_bias, "_case", lambda *_: None)

    monkeypatch.setattr(
        logit_bias, "_volume_ratio", lambda _, shift: np.exp(follows * shift)
    )
    found = [SimpleNamespace(scan=SimpleNamespace(name="sub-1"))]
    monkeypatch.setattr("cervjax.io.labels.find_labelled", lambda _: (found, []))
    target = tmp_path / "t.safetensors"
    flags = ["--volume-ratio", "0.99", "--muscle-ratio", "LC=0.97", "TR=1.02"]
    assert main(["debias", str(random_weights), "scans", str(target), *flags]) == 0
    before, after = (
        load_weights(w).variables["params"]["head_bias"]
        for w in (random_weights, target)
    )
    wanted = [MUSCLE_RATIOS.get(m.abbreviation, 0.99) for m in MUSCLES]
    np.testing.assert_allclose(
        np.exp(follows * (after - before)[1:]), wanted, atol=0.006
    )
    note = "debiased to 0.99, LC to 0.97, TR to 1.02, on 1 scan(s) of scans"
    assert note in load_weights(target).card.source


@pytest.mark.parametrize("given", ["LC", "LC=", "longus=1", "=1"])
def test_a_ratio_that_is_none(given, capsys):
    with pytest.raises(SystemExit):
        main(["debias", "w", "scans", "t.safetensors", "--muscle-ratio", given])
    assert "as LC=0.97" in capsys.readouterr().err


def test_no_scan(tmp_path, random_weights, capsys):
    (tmp_path / "empty").mkdir()
    where = [str(tmp_path / "empty"), str(tmp_path / "t.safetensors")]
    assert main(["debias", str(random_weights), *where]) == 2
    assert "nothing to learn from" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["debias", str(random_weights)])


def test_the_target_is_looked_at_before_the_work(
    tmp_path, random_weights, capsys, monkeypatch
):
    """It is never replaced without a word."""

    def fit(*args, **kwargs):
        raise AssertionError("hours of work")

    monkeypatch.setattr(logit_bias, "fit_logit_bias", fit)
    target = tmp_path / "t.safetensors"
    target.write_bytes(b"mine")
    argv = ["debias", str(random_weights), str(tmp_path), str(target)]
    assert main(argv) == 2
    assert "is there already" in capsys.readouterr().err
    assert target.read_bytes() == b"mine"
    assert main([*argv[:3], str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err
    found = [SimpleNamespace(scan=SimpleNamespace(name="sub-1"))]
    monkeypatch.setattr("cervjax.io.labels.find_labelled", lambda _: (found, []))
    with pytest.raises(AssertionError, match="hours of work"):
        main([*argv, "--overwrite"])
