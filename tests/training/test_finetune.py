"""Training on from weights that find vertebral bodies, with masks that do not."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from conftest import RECIPE, SMALL, network_variables
from train_tiny import Lines, tiny_config, write_cohort

from cervjax.inference.types import Settings
from cervjax.model.card import ModelCard
from cervjax.model.weights import SHIPPED, load_weights, save_weights, weights_path
from cervjax.training import loop, setup
from cervjax.training import run as running
from cervjax.training.config import (
    ConfigError,
    architecture,
    levels_rule,
    load_config,
    unknown_muscles,
)
from cervjax.training.setup import initial_state

pytestmark = pytest.mark.xdist_group("fitting")
RATE = 1e-3


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Weights of a small network with bodies, as the package's are."""
    path = tmp_path_factory.mktemp("weights") / "start.safetensors"
    recipe = replace(RECIPE, landmarks={}, normalisation="foreground")
    architecture = replace(SMALL, classes=22)
    card = ModelCard("a", "b", "c", "d", "whole", recipe, architecture=architecture)
    save_weights(path, network_variables(3, architecture), card)
    return path


@pytest.fixture
def config(tmp_path):
    config = tiny_config(write_cohort(tmp_path / "own"))
    with config.unlocked():
        config.model.classes = 22
        config.data.normalisation = "foreground"
        config.train.fixed_statistics = True
    config.augment.update(elastic_probability=0.0, gamma=0.0)
    config.optimizer.update(learning_rate=RATE, warmup_steps=0)
    config.train.update(num_steps=1, eval_every=1, average_decay=0.0)
    return config


@pytest.mark.slow
def test_a_run_from_weights_with_bodies(config, start, tmp_path, monkeypatch):
    """One short step of Adam away, and muscles are left as masks have them."""
    monkeypatch.setattr(running, "draw_curve", lambda *args: None)
    monkeypatch.setattr(running, "save_picture", lambda *args: None)
    lines = Lines()
    assert loop.train(config, tmp_path / "run", start, log=lines) == loop.OK
    assert not [line for line in lines if "histogram" in line]
    before, after = load_weights(start), load_weights(tmp_path / "run")
    assert after.card.architecture == before.card.architecture
    assert after.card.recipe.normalisation == "foreground"
    assert after.card.recipe.keep_last_plane and not after.card.recipe.landmarks
    assert after.card.levels_rule == "none" == Settings.of_card(after.card).levels_rule
    for part, largest in (("params", 1.01 * RATE), ("batch_stats", 0.0)):
        change = jax.tree.map(
            lambda a, b: np.abs(a - b).max(),
            before.variables[part],
            after.variables[part],
        )
        assert max(jax.tree.leaves(change)) <= largest, part
    moved = (
        after.variables["params"]["head_bias"] - before.variables["params"]["head_bias"]
    )
    assert moved.any()


def test_bodies_are_not_learnt_from_nothing(config):
    with pytest.raises(
        ConfigError, match="classes is 22: .*--init-from shipped, or gi"
    ):
        initial_state(config, None, Lines())


def test_images_must_be_prepared_as_the_weights_know_them(config, start):
    config.data.normalisation = "histogram"
    with pytest.raises(
        ConfigError, match="normalisation 'foreground', not 'histogram'"
    ):
        initial_state(config, start, Lines())


def test_the_packages_weights_have_a_name_and_a_config():
    """Its network, grid, padding and normalisation are theirs."""
    assert weights_path("shipped") == SHIPPED
    assert weights_path("other/w.safetensors") != SHIPPED
    config, card = load_config("finetune"), load_weights(SHIPPED).card
    assert architecture(config) == card.architecture
    recipe = card.recipe
    for name in ("spacing_mm", "padding", "padding_mode", "skip_fitting_grid"):
        assert getattr(config.data, name) == getattr(recipe, name), name
    assert config.data.normalisation == recipe.normalisation
    with pytest.raises(ConfigError, match="the package's config finetune has those"):
        initial_state(load_config("dixon_cpu"), SHIPPED, Lines())


@pytest.mark.parametrize(
    ("name", "masks", "rule", "at_levels"),
    [
        ("finetune", "table1", "paper", True),
        ("finetune", "as_drawn", "none", False),
        ("shipped_1_coarse", None, "paper", False),
        ("dixon_cpu", None, "paper", False),
    ],
)
def test_the_rule_of_levels_is_that_of_the_masks(
    name, masks, rule, at_levels, monkeypatch
):
    config = load_config(name)
    if masks:
        config.data.masks = masks
    assert levels_rule(config) == rule
    monkeypatch.setattr(setup, "make_step", lambda *args: args)
    monkeypatch.setattr(setup, "make_augment", lambda config: None)
    assert setup.make_body(config)[2].at_levels == at_levels


def test_muscles_that_nobody_drew_are_unknown_where_the_network_knows_them():
    config = load_config("finetune", ["--config.data.allow_absent=(11, 12)"])
    assert unknown_muscles(config) == (11, 12)
    assert unknown_muscles(load_config("dixon_cpu")) is None
    assert unknown_muscles(load_config("shipped_1_coarse")) is None
