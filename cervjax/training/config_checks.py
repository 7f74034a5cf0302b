"""Cross-checks of a config, before anything is read or prepared."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from cervjax.anatomy import LEVEL_CLASSES, NUM_CLASSES
from cervjax.data.augment_intensity import Intensity
from cervjax.data.augment_spatial import Warp
from cervjax.data.contrast import Contrast
from cervjax.phantom.atlas import anatomy_names
from cervjax.training.config import ConfigError, architecture
from cervjax.training.data_checks import check_data, has_validation
from cervjax.training.losses import LOSSES

_AUGMENT = [*Warp._fields, *Intensity._fields, "affine_in_network"]
_EVERYWHERE = {
    "seed": "",
    "eval": "train_scans validation_scans",
    "model": "units growth skips stem downs keep_prob spatial_keep_prob dilations "
    "debias_statistics dtype remat",
    "optimizer": "name learning_rate schedule warmup_steps epsilon weight_decay "
    "clip_norm",
    "train": "loss batch_size accumulate average_decay num_steps log_every "
    "checkpoint_every eval_every patience",
}
_OF_SCANS = {
    "augment": [*_AUGMENT, "margin"],
    "data": "cache root validation_root num_validation spacing_mm padding "
    "padding_mode skip_fitting_grid window samples_per_volume workers "
    "foreground_share allow_absent",
    "domain_randomisation": [*Intensity._fields, "share"],
}
_OF_NECKS = {
    "data.phantom": "severities seed train_subjects train_sessions validation_subjects",
}
_OF_MAPS = {
    "augment": _AUGMENT,
    "data": "cache root spacing_mm padding window",
    "tissue_maps": "count validation seed anatomies without",
    "contrast": "",
}
_OPTIONAL = {
    "contrast": Contrast._fields,
    "tissue_maps": ["images", "images_share"],
    "model": ["classes"],
    "train": ["fixed_statistics", "export"],
}
_OPTIONAL_OF_SCANS = {
    "data": "phantom landmarks normalisation masks ignore_label folds fold".split(),
}
"""Names by section, in lists or divided by spaces."""

_LEAST = {
    "train.num_steps": 1,
    "train.batch_size": 1,
    "train.accumulate": 1,
    "train.log_every": 1,
    "train.checkpoint_every": 1,
    "train.eval_every": 1,
    "train.patience": 0,
    "eval.train_scans": 0,
    "eval.validation_scans": 0,
}
_LEAST_OF_SCANS = {
    "data.samples_per_volume": 1,
    "data.workers": 0,
    "data.num_validation": 0,
}
_LEAST_OF_NECKS = {"data.phantom.validation_subjects": 0}
_LEAST_OF_MAPS = {
    "tissue_maps.count": 1,
    "tissue_maps.validation": 0,
    "tissue_maps.seed": 0,
}
_CHOICES = {
    "train.loss": tuple(LOSSES),
    "optimizer.name": ("adam", "tensorflow_adam", "sgd"),
    "optimizer.schedule": ("constant", "cosine"),
    "model.dtype": ("float32", "bfloat16"),
    "model.remat": ("nothing", "units", "blocks"),
    "train.export": ("best", "last"),
    "data.masks": ("as_drawn", "table1"),
    "data.normalisation": ("histogram", "foreground"),
}


def check(config: ConfigDict) -> None:
    """Names and values of a config.

    Raises:
        ConfigError: names the first one that cannot be used, in one line.
    """
    of_maps = "tissue_maps" in config
    names, least_values, optional = _OF_MAPS, _LEAST_OF_MAPS, _OPTIONAL
    if not of_maps:
        names, least_values = _OF_SCANS, _LEAST_OF_SCANS
        optional = _OPTIONAL | _OPTIONAL_OF_SCANS
        if "phantom" in config.get("data", ()):
            names, least_values = names | _OF_NECKS, least_values | _LEAST_OF_NECKS
    _check_names(config, _EVERYWHERE | names, optional)
    for name, least in (_LEAST | least_values).items():
        value = _at(config, name)
        if not (isinstance(value, int) and value >= least):
            raise ConfigError(
                f"config.{name} must be at least {least}, a whole number, got {value!r}"
            )
    for name, choices in _CHOICES.items():
        section, key = name.split(".")
        value = config[section].get(key, choices[0])
        if value not in choices:
            raise ConfigError(
                f"config.{name} must be one of {', '.join(choices)}, got {value!r}"
            )
    if of_maps:
        _check_contrast(config)
        _check_anatomies(config)
    else:
        for name in ("data.foreground_share", "domain_randomisation.share"):
            _check_range(f"config.{name}", _at(config, name), 0, 1)
        check_data(config.data)
    _check_together(config)


def _check_together(config: ConfigDict) -> None:
    """Values that depend on each other."""
    t, o, window = config.train, config.optimizer, tuple(config.data.window)
    if o.schedule == "cosine" and o.warmup_steps >= t.num_steps:
        raise ConfigError(
            f"config.optimizer.warmup_steps is {o.warmup_steps}: a cosine schedule "
            f"must warm up in fewer than train.num_steps, {t.num_steps}"
        )
    if len(window) != 3 or any(n % 8 or n < 8 for n in window):
        raise ConfigError(
            f"config.data.window must be three multiples of 8, got {window}"
        )
    found, with_bodies = architecture(config).classes, NUM_CLASSES + len(LEVEL_CLASSES)
    if found != with_bodies and ("tissue_maps" in config or found != NUM_CLASSES):
        raise ConfigError(
            f"config.model.classes must be {with_bodies}, background, muscles and "
            f"vertebral bodies (for scans also {NUM_CLASSES}, without bodies), got "
            f"{found}"
        )
    at_levels = "tissue_maps" not in config and config.data.get("masks") == "table1"
    if at_levels and found == NUM_CLASSES:
        raise ConfigError(
            "config.data.masks 'table1' needs a network that finds vertebral bodies, "
            f"model.classes {with_bodies}; others learn muscles as they are drawn: "
            "give 'as_drawn'"
        )
    kept = config.model.keep_prob, config.model.spatial_keep_prob
    if t.get("fixed_statistics", False) and min(kept) < 1:
        raise ConfigError(
            "config.train.fixed_statistics trains the network as it is run, without "
            "dropout: set model.keep_prob and model.spatial_keep_prob to 1"
        )
    on_train = config.eval.train_scans and "tissue_maps" not in config
    if not (on_train or _has_validation(config)):
        raise ConfigError(
            "nothing to evaluate on, so no weights could be chosen: set "
            "config.eval.train_scans, or config.eval.validation_scans and a validation "
            "set (data.validation_root, data.num_validation, data.folds, or "
            "data.phantom.validation_subjects where data.root is empty; "
            "tissue_maps.validation)"
        )


def _check_names(
    config: ConfigDict,
    needed: Mapping[str, str | Sequence[str]],
    optional: Mapping[str, Sequence[str]],
) -> None:
    """A name that nothing reads is a slip, and must not pass for the one it meant."""
    inner = {name for name in needed if "." in name}
    _compare("config", config, needed.keys() - inner, ())
    for section, names in needed.items():
        if section != "seed":
            there = names.split() if isinstance(names, str) else names
            part = _at(config, section)
            if not isinstance(part, ConfigDict):
                raise ConfigError(f"config.{section} must be a section, got {part!r}")
            _compare(f"config.{section}", part, there, optional.get(section, ()))


def _compare(
    where: str, found: Any, needed: Sequence[str] | set[str], optional: Sequence[str]
) -> None:
    known = {*needed, *optional}
    for name in sorted(set(found) - known):
        raise ConfigError(
            f"{where}.{name} is unknown; there are {', '.join(sorted(known))}"
        )
    for name in sorted(set(needed) - set(found)):
        raise ConfigError(f"{where}.{name} is missing")


def _check_contrast(config: ConfigDict) -> None:
    """Of how tissue maps are scanned."""
    c = Contrast(**config.contrast.to_dict())
    for name in ("dixon", "unordered", "alike", "loss", "clip", "blank_air"):
        _check_range(f"config.contrast.{name}", getattr(c, name), 0, 1)
    for name in ("slope", "texture"):
        _check_range(f"config.contrast.{name}", getattr(c, name), 0)
    for name, count in (("shift_mm", 3), ("snr", 2)):
        value = getattr(c, name)
        if not isinstance(value, list | tuple) or len(value) != count:
            raise ConfigError(
                f"config.contrast.{name} must be {count} numbers, got {value!r}"
            )
        for number in value:
            _check_range(f"config.contrast.{name}", number, 0)
    low, high = c.snr
    if not 0 < low <= high:
        raise ConfigError(
            "config.contrast.snr must be the lowest and the highest ratio, above 0, "
            f"got {tuple(c.snr)}"
        )


def _check_anatomies(config: ConfigDict) -> None:
    """Whose outlines the necks have, and whose not."""
    known = anatomy_names()
    for key, or_file in (("anatomies", "a file, or "), ("without", "")):
        names = config.tissue_maps[key]
        if not isinstance(names, list | tuple):
            raise ConfigError(
                f"config.tissue_maps.{key} must be a tuple of names, got {names!r}"
            )
        for name in names:
            if name not in known and not (or_file and Path(str(name)).is_file()):
                raise ConfigError(
                    f"config.tissue_maps.{key}: {name!r} is unknown; give {or_file}"
                    f"one of {', '.join(known)}"
                )


def _check_range(name: str, value: Any, low: float, high: float = float("inf")) -> None:
    if not isinstance(value, int | float) or not low <= value <= high:
        wanted = f"from {low} to {high}" if high < float("inf") else "0 or more"
        raise ConfigError(f"{name} must be {wanted}, got {value!r}")


def _has_validation(config: ConfigDict) -> bool:
    if "tissue_maps" in config:
        scans = config.tissue_maps.validation > 0
    else:
        scans = has_validation(config.data)
    return scans and config.eval.validation_scans > 0


def _at(config: ConfigDict, name: str) -> Any:
    for key in name.split("."):
        config = config[key]
    return config
