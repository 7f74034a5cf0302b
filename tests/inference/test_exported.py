"""Exported networks: what they take and give, and that nothing of cervjax is needed."""

import ast
import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import jax
import nibabel as nib
import numpy as np
import pytest
from block_neck import block_neck, echoes
from conftest import RECIPE, SMALL, _card, network_variables, save_nifti

from cervjax.cli.main import main
from cervjax.inference.exported import export_network
from cervjax.inference.front import segment
from cervjax.inference.test_time_augmentation import averaged_logits
from cervjax.model.weights import load_weights, save_weights

SCRIPT = Path(__file__).parents[2] / "examples" / "run_exported.py"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A small network that finds levels, too, with the package's kind of recipe."""
    architecture = replace(SMALL, classes=22)
    recipe = replace(RECIPE, normalisation="foreground", padding_mode="zero")
    recipe = replace(recipe, landmarks={}, spacing_mm=(3.1, 2.4, 3.0))
    card = replace(_card("random", recipe), architecture=architecture, tta=2)
    path = tmp_path_factory.mktemp("exported") / "w.safetensors"
    save_weights(path, network_variables(0, architecture), card)
    return path


@pytest.fixture(scope="module")
def model(weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    argv = ["export", str(weights), "-o", str(folder), "--size", "55", "50", "36"]
    assert main(argv) == 0
    return folder


@pytest.mark.slow
def test_the_program_gives_the_networks_logits(weights, model):
    recipe = json.loads((model / "recipe.json").read_text())
    assert recipe["input"]["shape"] == [1, 64, 64, 48, 2]  # as infer would run it
    program = (model / "network.jax_export").read_bytes()
    network = jax.export.deserialize(bytearray(program))
    assert set(network.platforms) == {"cpu", "cuda", "tpu"}
    image = np.random.default_rng(0).normal(size=(1, 64, 64, 48, 2)).astype(np.float32)
    found = np.asarray(network.call(image))
    loaded = load_weights(weights)
    how = {"network": loaded.network, "tta": 2}
    wanted = jax.jit(lambda x: averaged_logits(loaded.variables, x, **how))(image)
    np.testing.assert_allclose(found, np.asarray(wanted)[0], atol=1e-5)
    assert recipe["output"]["shape"] == list(found.shape) == [32, 32, 24, 22]


def test_the_recipe_names_everything(weights, model):
    recipe = json.loads((model / "recipe.json").read_text())
    names = recipe["output"]["classes"]
    assert (names["1"], names["14"], names["15"]) == ("MFSS_R", "LS_L", "body C2")
    assert recipe["weights"]["sha256"] == load_weights(weights).sha256
    assert recipe["input"]["channels"] == ["in_phase", "out_phase"]
    assert any("not for clinical use" in line.lower() for line in recipe["limits"])
    stablehlo = (model / "network.mlirbc").read_bytes()
    assert stablehlo.startswith(b"ML\xefR")  # bytecode of MLIR


@pytest.mark.slow
def test_the_example_draws_what_infer_draws_without_cervjax(
    weights, model, tmp_path, monkeypatch
):
    modules = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(SCRIPT.read_text("utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else [str(node.module)]
        )
    }
    assert modules <= {*sys.stdlib_module_names, "jax", "nibabel", "numpy", "scipy"}
    pair = [
        save_nifti(tmp_path / f"{i}.nii.gz", image[::-1], np.diag([-1.0, 1, 3, 1]))
        for i, image in enumerate(echoes(block_neck()))
    ]
    argv = [SCRIPT, model, *pair, tmp_path / "labels.nii.gz"]
    monkeypatch.setattr(sys, "argv", list(map(str, argv)))
    runpy.run_path(str(SCRIPT), run_name="__main__")
    found = np.asarray(nib.load(tmp_path / "labels.nii.gz").dataobj)
    wanted = segment(*pair, weights=weights, levels_rule="none").labels[::-1]
    assert len(np.unique(wanted)) > 5  # a random network marks many
    assert np.count_nonzero(found != wanted) <= 2  # ties, by the last bit


def test_somebodys_own_files_stay(weights, tmp_path, capsys):
    (tmp_path / "recipe.json").write_bytes(b"mine")
    assert main(["export", str(weights), "-o", str(tmp_path)]) == 2
    assert "recipe.json is there" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["recipe.json"]


def test_networks_that_slide_are_not_exported(random_weights):
    weights = load_weights(random_weights)
    card = replace(weights.card, mode="sliding_window")
    with pytest.raises(ValueError, match="window by window"):
        export_network(weights._replace(card=card), (64, 64, 24))
