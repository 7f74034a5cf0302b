"""Whole runs on tissue maps that are scanned on the device."""

import functools
import json

import jax
import numpy as np
import pytest
from conftest import SMALL
from tiny_maps import make_tiny_map
from train_tiny import ARCHITECTURE, Lines, Stopped, assert_same, state_of, stop

import cervjax
from cervjax.data import map_set, tissue_maps
from cervjax.model.weights import load_weights
from cervjax.training import loop, setup
from cervjax.training.checkpoint import CheckpointMismatch
from cervjax.training.config import ConfigError, load_config

pytestmark = pytest.mark.xdist_group("fitting")


def config_of(cache, name="shipped_1_coarse"):
    """The package's, for few steps of a small network on tiny necks."""
    config = load_config(name)
    config.tissue_maps.update(count=2, validation=1)
    config.contrast.shift_mm = (2.0, 2.0, 2.0)
    config.data.update(
        cache=str(cache), window=(16, 16, 8), padding=(2, 2, 1), spacing_mm=(1.6,) * 3
    )
    # What takes long to compile, and has tests of its own.
    config.augment.update(low_resolution=(0.0, 0.0, 0.0), gamma=0.0)
    config.augment.elastic_probability = 0.0
    config.optimizer.update(schedule="constant", warmup_steps=0)
    config.train.update(batch_size=2, num_steps=3, log_every=1)
    config.train.update(checkpoint_every=1, eval_every=3)
    config.model.update({k: getattr(SMALL, k) for k in ARCHITECTURE})
    return config


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Tiny necks, one compiled step for runs that are alike, and no pictures."""
    make_body, parallel_step, bodies = loop.make_body, loop.parallel.parallel_step, {}

    def body(config):
        parts = ("contrast", "augment", "model", "optimizer")
        key = json.dumps([config[p].to_json() for p in parts] + [config.train.loss])
        return bodies.setdefault(key, make_body(config))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tissue_maps, "make_tissue_map", make_tiny_map)
        patch.setattr(map_set.os, "cpu_count", lambda: 1)
        patch.setattr(loop, "make_body", body)
        patch.setattr(loop.parallel, "parallel_step", functools.cache(parallel_step))
        patch.setattr("cervjax.training.run.draw_curve", lambda *args: None)
        patch.setattr("cervjax.training.run.save_picture", lambda *args: None)
        yield
    jax.clear_caches()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def config(cache):
    return config_of(cache)


@pytest.fixture(scope="module")
def finished(cache, quick, tmp_path_factory):
    workdir, lines = tmp_path_factory.mktemp("runs") / "run", Lines()
    assert loop.train(config_of(cache), workdir, log=lines) == loop.OK
    return workdir, lines


@pytest.mark.slow
def test_a_run_on_maps_exports_weights_that_find_levels(finished, two_blobs):
    workdir, lines = finished
    assert any(line.startswith("tissue maps: 2 to train on, 1 to") for line in lines)
    assert any("2 training, 1 validation scan(s)" in line for line in lines)
    card = load_weights(workdir).card
    assert card.recipe.normalisation == "foreground" and not card.recipe.landmarks
    assert card.recipe.padding == (2, 2, 1) and card.recipe.spacing_mm == (1.6,) * 3
    assert card.architecture.classes == 22 and card.mode == "whole"
    assert "2 digital necks" in card.trained_on and "man_41" in card.trained_on
    assert "validation Dice" in card.source
    result = cervjax.segment(
        two_blobs.in_phase,
        two_blobs.out_phase,
        affine=two_blobs.affine,
        weights=workdir,
        levels_rule="none",
    )
    assert result.labels.max() <= 14 and result.levels is not None


@pytest.mark.slow
def test_every_step_sees_other_scans_of_the_maps(finished):
    rows = (finished[0] / "metrics.csv").read_text().splitlines()
    losses = [row.split(",")[2] for row in rows[1:] if ",windows," in row]
    assert len(losses) == len(set(losses)) == 3


@pytest.mark.slow
def test_resuming_gives_the_same_bits(config, finished, tmp_path):
    workdir = tmp_path / "run"
    with pytest.raises(Stopped):
        loop.train(config, workdir, log=Lines("step 2/3", stop))
    lines = Lines()
    assert loop.train(config, workdir, log=lines) == loop.OK
    assert "going on after step 1" in lines
    assert_same(state_of(workdir), state_of(finished[0]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("tissue_maps", {"anatomies": ("man_41",)}),
        ("tissue_maps", {"seed": 1}),
        ("contrast", {"clip": 0.9}),
    ],
)
def test_other_necks_or_contrasts_are_another_run(config, finished, section, change):
    config[section].update(change)
    ((name, _),) = change.items()
    with pytest.raises(ConfigError, match=f"was trained with config.{section}.{name} "):
        loop.train(config, finished[0], log=Lines())


@pytest.mark.slow
def test_maps_that_are_made_otherwise_now_are_refused(config, finished, monkeypatch):
    monkeypatch.setattr(tissue_maps, "_FORMAT", -1)
    with pytest.raises(CheckpointMismatch, match=r"2 train scan\(s\).*neck-0000"):
        loop.train(config, finished[0], log=Lines())


@pytest.mark.slow
def test_a_second_stage_starts_from_the_first(config, finished, tmp_path):
    config.train.num_steps = config.train.eval_every = 1
    lines = Lines()
    assert loop.train(config, tmp_path, finished[0], log=lines) == loop.OK
    assert not any("histogram" in line for line in lines)
    first, second = load_weights(finished[0]), load_weights(tmp_path)
    assert second.card.recipe == first.card.recipe
    parts = [jax.tree.leaves(w.variables["params"]) for w in (first, second)]
    change = max(np.abs(a - b).max() for a, b in zip(*parts, strict=True))
    assert 0 < change <= 1.01 * config.optimizer.learning_rate  # of Adam


@pytest.mark.parametrize(
    ("name", "fixed"), [("shipped_1_coarse", False), ("shipped_2_fine", True)]
)
def test_the_second_stage_keeps_its_statistics(cache, monkeypatch, name, fixed):
    """What that does is tested in test_step."""
    monkeypatch.setattr(setup, "make_step", lambda *args: args)
    _, _, settings, augment = setup.make_body(config_of(cache, name))
    assert settings.fixed_statistics == fixed
    codes = np.stack([make_tiny_map(0, i).codes for i in range(2)])
    image, labels = jax.eval_shape(augment, jax.random.key(0), {"codes": codes})
    assert image.shape == (2, 16, 16, 8, 2) and labels.shape == (2, 16, 16, 8)


def test_weights_that_find_no_levels_are_no_start(config, random_weights, tmp_path):
    with pytest.raises(ConfigError, match=r"classes=15.*classes=22"):
        loop.train(config, tmp_path, random_weights, log=Lines())


def test_a_typo_is_refused_before_necks_are_made(config, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "load_map_set", None)
    with config.unlocked():
        config.contrast.dixxon = 0.3
    with pytest.raises(ConfigError, match="config.contrast.dixxon is unknown"):
        loop.train(config, tmp_path / "run", log=Lines())
    assert not (tmp_path / "run").exists()
