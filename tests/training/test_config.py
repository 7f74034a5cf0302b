"""Configs: those of the package, values that cannot be, and changes from the flags."""

import json

import jax
import numpy as np
import pytest
from train_tiny import tiny_config

from cervjax.training.config import (
    ConfigError,
    check_same,
    config_names,
    load_config,
)
from cervjax.training.config_checks import check
from cervjax.training.setup import make_augment


@pytest.fixture
def config(tmp_path):
    return tiny_config(tmp_path)


@pytest.mark.parametrize("name", config_names())
def test_configs_are_sound(name):
    config = load_config(name)
    if name == "finetune":  # it has no digital necks
        config.data.root = "own"
    check(config)
    assert json.loads(config.to_json())["train"]["num_steps"] > 0


def test_the_stages_of_the_packages_weights_are_there():
    stages = [name for name in config_names() if name.startswith("shipped_")]
    assert [name.split("_")[1] for name in stages] == [*"1234"]


def test_the_papers_config_and_niftynets():
    ours, theirs = load_config("dixon"), load_config("dixon_niftynet")
    assert tuple(ours.data.window) == tuple(theirs.data.window) == (360, 240, 32)
    assert ours.train.num_steps == 100_000 and ours.train.batch_size == 3
    assert ours.optimizer.weight_decay == 1e-5 and not theirs.optimizer.weight_decay
    assert ours.augment.exchange_labels and not theirs.augment.exchange_labels


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train.loss": "dise"}, "train.loss must be one of"),
        ({"data.window": (20, 24, 16)}, "multiples of 8"),
        ({"train.eval_every": 0}, "eval_every must be at least 1"),
        ({"eval.train_scans": -1}, "train_scans must be at least 0"),
        ({"domain_randomisation.share": 1.5}, "share must be from 0 to 1"),
        ({"data.foreground_share": -0.5}, "share must be from 0 to 1"),
        ({"model.units": (1, 0, 1)}, "units must be 3 whole numbers above 0"),
        (
            {"optimizer.schedule": "cosine", "train.num_steps": 2},
            "warm up in fewer",
        ),
        ({"eval.train_scans": 0, "data.num_validation": 0}, "nothing to evaluate on"),
        ({"eval.train_scans": 0, "eval.validation_scans": 0}, "nothing to evaluate"),
        (
            {"data.root": "", "eval.train_scans": 0, "data.phantom.severities": ()}
            | {"data.phantom.validation_subjects": 0},
            "nothing to evaluate on",
        ),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_bad_settings_are_named(config, change, message):
    check(config)
    with config.unlocked():
        config.update_from_flattened_dict(change)
    with pytest.raises(ConfigError, match=message):
        check(config)


def test_values_are_changed_from_flags():
    flags = ["--config.train.num_steps=7", "--config.data.window=(8, 16, 24)"]
    config = load_config("dixon_cpu", [*flags, "--config.augment.mirror=false"])
    assert config.train.num_steps == 7 and config.data.window == (8, 16, 24)
    assert config.augment.mirror is False
    assert load_config("dixon_cpu").train.num_steps == 3600


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.train.num_step=7", 'Did you mean "num_steps"'),
        ("--config.trian.num_steps=7", 'Did you mean "train"'),
        ("--config.train.num_steps=abc", "num_steps=abc: invalid literal"),
        ("--config.train.num_steps=1.5", "num_steps=1.5: invalid literal"),
        ("--config.train=3", "is not a dict"),
        ("--config.train.num_steps", "Missing value"),
        ("--config.data.window=(8, 8)", "data.window must be 3 numbers"),
        ("--config.data.window=('a', 8, 8)", "data.window must be 3 numbers"),
        ("--confg.train.num_steps=1", "Unknown command line flag"),
        ("stray", "not understood: stray"),
    ],
)
def test_a_wrong_flag_is_one_line(flag, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_config("dixon_cpu", [flag])
    assert "\n" not in str(caught.value)


def test_a_config_may_be_a_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config():\n    return ConfigDict({'a': {'b': 1}})\n"
    )
    assert load_config(path, ["--config.a.b=2"]).a.b == 2
    path.write_text("def get_confg():\n    pass\n")
    with pytest.raises(ConfigError, match="mine.py: not a config"):
        load_config(path)
    with pytest.raises(ConfigError, match="no such config; .* dixon, dixon_cpu"):
        load_config("dixxon")


SCHEDULES = {"constant": True, "cosine": False}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_run_may_be_made_longer_unless_its_schedule_says_otherwise(schedule):
    then = {"optimizer": {"schedule": schedule}, "train": {"num_steps": 3600}}
    now = then | {"train": {"num_steps": 36_000}}
    if SCHEDULES[schedule]:
        check_same(now, then, "runs/a")
    else:
        with pytest.raises(ConfigError, match="runs/a .*num_steps = 3600, now"):
            check_same(now, then, "runs/a")


def test_a_value_that_was_not_there_yet_is_the_usual_one():
    """A run from before goes on; with folds it would be another."""
    check_same({"data": {"folds": 0}}, {"data": {}}, "runs/a")
    with pytest.raises(ConfigError, match="data.folds = 0, now it is 5"):
        check_same({"data": {"folds": 5}}, {"data": {}}, "runs/a")


def test_every_schedule_is_known_to_depend_on_the_length_or_not(config):
    """What `check_same` lets change must not change a learning rate."""
    from cervjax.training import config_checks as module

    assert set(module._CHOICES["optimizer.schedule"]) == set(SCHEDULES)


def test_some_windows_are_changed_as_the_config_tells(config):
    randomisation = config.domain_randomisation
    config.augment.update(channel_mix=0.0, elastic_probability=0.0)
    for name in ("bias_field", "noise", "intensity_curve"):
        config.augment[name] = randomisation[name] = 0.0
    randomisation.channel_mix = 1.0
    shape = (3, *(w + 2 * m for w, m in zip((16, 16, 8), (2, 2, 1), strict=True)))
    image = jax.random.normal(jax.random.key(0), (*shape, 2))
    labels = np.zeros(shape, np.uint8)
    for share in (0.0, 1.0):
        randomisation.share, batch = share, {"image": image, "labels": labels}
        got, _ = jax.jit(make_augment(config))(jax.random.key(1), batch)
        assert np.array_equal(got[..., 0], got[..., 1]) == (share == 1.0)
