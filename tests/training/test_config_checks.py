"""Configs that cannot be are refused in one line, before any work."""

import pytest
from train_tiny import tiny_config

from cervjax.data.contrast import Contrast
from cervjax.training.config import ConfigError, load_config
from cervjax.training.config_checks import check
from cervjax.training.setup import make_scanner


@pytest.fixture
def of_maps():
    return load_config("shipped_1_coarse")


def changed(config, change):
    """With values at dotted names; None takes a name away."""
    with config.unlocked():
        for name, value in change.items():
            *sections, key = name.split(".")
            part = config
            for section in sections:
                part = part[section]
            if value is None:
                del part[key]
                continue
            with part.ignore_type():
                part[key] = value
    return config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"contrast.dixon": 1.2}, "contrast.dixon must be from 0 to 1, got 1.2"),
        ({"contrast.alike": 7}, "contrast.alike must be from 0 to 1, got 7"),
        ({"contrast.unordered": -0.1}, "contrast.unordered must be from 0 to 1"),
        ({"contrast.clip": "often"}, "contrast.clip must be from 0 to 1, got 'often'"),
        ({"contrast.blank_air": float("nan")}, "blank_air must be from 0 to 1"),
        ({"contrast.slope": -1.0}, "contrast.slope must be 0 or more, got -1.0"),
        ({"contrast.texture": -0.1}, "contrast.texture must be 0 or more"),
        ({"contrast.shift_mm": (1.0, 2.0)}, "contrast.shift_mm must be 3 numbers"),
        ({"contrast.shift_mm": 5.0}, "contrast.shift_mm must be 3 numbers, got 5.0"),
        ({"contrast.shift_mm": (1.0, -2.0, 0.0)}, "shift_mm must be 0 or more"),
        ({"contrast.snr": (120.0, 6.0)}, "snr must be the lowest and the highest"),
        ({"contrast.snr": (0.0, 6.0)}, "snr must be the lowest and the highest"),
        ({"contrast.snr": (6.0,)}, "contrast.snr must be 2 numbers"),
        ({"contrast.snrs": (6.0, 9.0)}, "contrast.snrs is unknown; there are .*snr"),
        ({"tissue_maps.count": 0}, "tissue_maps.count must be at least 1"),
        ({"tissue_maps.count": 1.5}, "count must be at least 1, a whole number"),
        ({"tissue_maps.validation": -1}, "validation must be at least 0"),
        ({"tissue_maps.seed": -1}, "tissue_maps.seed must be at least 0"),
        ({"tissue_maps.number": 4}, "tissue_maps.number is unknown; there are anat"),
        ({"tissue_maps.seed": None}, "tissue_maps.seed is missing"),
        ({"tissue_maps.anatomies": ("nobody",)}, "'nobody' is unknown; .* standard"),
        ({"tissue_maps.anatomies": "standard"}, "anatomies must be a tuple of names"),
        ({"tissue_maps.without": "man_41"}, "without must be a tuple of names"),
        ({"tissue_maps.without": ("man41",)}, "without: 'man41' is unknown; give one"),
        ({"tissue_maps.validation": 0}, "nothing to evaluate on"),
        (
            {"tissue_maps.validation": 0, "eval.train_scans": 2},
            "nothing to evaluate on",
        ),
        ({"model.classes": 15}, "classes must be 22, .* got 15"),
        ({"model.clases": 22}, "model.clases is unknown; there are classes"),
        ({"train.fixed_statistic": True}, "train.fixed_statistic is unknown"),
        (
            {"train.fixed_statistics": True, "model.keep_prob": 0.5},
            "without dropout: set model.keep_prob",
        ),
        ({"augment.gama": 0.2}, "augment.gama is unknown"),
        ({"augment.gamma": None}, "augment.gamma is missing"),
        ({"augment.margin": (1, 1, 1)}, "augment.margin is unknown"),
        ({"contrasts": 1}, "config.contrasts is unknown; there are augment, contrast,"),
        ({"contrast": None}, "config.contrast is missing"),
        ({"contrast": 3}, "config.contrast must be a section, got 3"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_wrong_values_and_names_of_tissue_maps(of_maps, change, message):
    check(of_maps)
    with pytest.raises(ConfigError, match=message) as caught:
        check(changed(of_maps, change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"contrast": {"dixon": 1.0}}, "config.contrast is unknown"),
        ({"tissue_map": {"count": 1}}, "config.tissue_map is unknown"),
        ({"model.classes": 21}, "classes must be 22, .*also 15, .* got 21"),
        ({"data.normalisation": "none"}, "normalisation must be one of histogram, f"),
        ({"data.masks": "full"}, "data.masks must be one of as_drawn, table1, got"),
        ({"data.masks": "table1"}, "'table1' needs a network that finds .* bodies"),
        ({"train.export": "first"}, "train.export must be one of best, last, got"),
        ({"data.allow_absent": (15,)}, "allow_absent must be labels .* 1-14, got 15"),
        ({"data.folds": 3}, "folds is 3 and data.num_validation is 1: .* once only"),
        (
            {"data.folds": 3, "data.num_validation": 0, "data.validation_root": "v"},
            "folds is 3 and data.validation_root is v",
        ),
        ({"data.folds": 1}, r"folds must be 0 \(no folds\) or at least 2, got 1"),
        ({"data.fold": 1}, "fold must be 0 where data.folds is 0, got 1"),
        ({"data.folds": 3, "data.fold": 3}, "fold must be from 0 to 2, got 3"),
        (
            {"data.folds": 3, "data.num_validation": 0, "data.root": ""},
            "divides the people of data.root, and that is empty",
        ),
        ({"data.root": "", "data.phantom": None}, "data.root is empty, .*give your"),
        ({"data.phantom.severity": "hard"}, "data.phantom.severity is unknown"),
        ({"domain_randomisation.shares": 1.0}, "randomisation.shares is unknown"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_wrong_values_and_names_of_scans(tmp_path, change, message):
    config = tiny_config(tmp_path)
    check(config)
    with pytest.raises(ConfigError, match=message) as caught:
        check(changed(config, change))
    assert "\n" not in str(caught.value)


def test_a_fold_is_a_validation_set():
    config = load_config("finetune", ["--config.data.root=own"])
    config.eval.train_scans = 0
    check(config)
    config.data.folds = 0
    with pytest.raises(ConfigError, match="nothing to evaluate on"):
        check(config)


def test_contrast_is_passed_on_by_name(of_maps):
    values = {
        "dixon": 0.11,
        "unordered": 0.22,
        "alike": 0.77,
        "shift_mm": (1.0, 2.0, 3.0),
        "slope": 0.33,
        "loss": 0.99,
        "texture": 0.44,
        "snr": (5.0, 50.0),
        "clip": 0.55,
        "blank_air": 0.66,
    }
    assert set(values) == set(Contrast._fields)
    changed(of_maps, {f"contrast.{name}": value for name, value in values.items()})
    check(of_maps)
    assert make_scanner(of_maps).contrast == Contrast(**values)


def test_a_file_of_outlines_may_be_an_anatomy(of_maps, tmp_path):
    file = tmp_path / "mine.json"
    file.write_text("{}")
    check(changed(of_maps, {"tissue_maps.anatomies": ("man_41", str(file))}))
