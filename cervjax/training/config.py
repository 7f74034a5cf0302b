"""The config of a run: read by name or file, compared with that of before.

A config is a `ConfigDict` of the form of ``configs/dixon.py``.
"""

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from cervjax.anatomy import NUM_CLASSES
from cervjax.model.card import LevelsRule
from cervjax.model.dense_vnet import Architecture

CONFIGS = (
    Path(__file__).parent / "configs",  # in an installed package
    Path(__file__).parents[2] / "configs",  # in a checkout
)
"""Folders that a config's name is looked for in."""

_MAY_CHANGE = {  # without making it another run
    "train.num_steps",  # unless the learning rate depends on it
    "train.checkpoint_every",
    "train.eval_every",
    "train.patience",
    "train.log_every",
    "eval.train_scans",
    "eval.validation_scans",
    "data.cache",
    "data.workers",
    "data.root",  # but not what is in it, see `loop`
    "data.validation_root",
    "data.landmarks",  # those of the checkpoint are used
}
_USUAL = {
    "data.folds": 0,
    "data.fold": 0,
    "data.ignore_label": -1,
    "data.masks": "as_drawn",
    "data.normalisation": "histogram",
    "train.export": "best",
}
"""Optional values where a config does not name them."""
_DEPEND_ON_LENGTH = ("cosine",)
"""Schedules whose learning rate at a step depends on ``train.num_steps``."""


class ConfigError(ValueError):
    """A config or a value in it that cannot be used."""


def load_config(source: str | Path, overrides: Sequence[str] = ()) -> ConfigDict:
    """Reads a config and changes values in it.

    Args:
        source: a Python file with ``get_config()``, or the name of one of the package's
            configs, such as "dixon_cpu".
        overrides: such as ``--config.train.num_steps=2000``.

    Returns:
        The config, locked: no key can be added.

    Raises:
        ConfigError: there is no such config; a key does not exist, or its value has
            another type.
    """
    file = _config_file(str(source))
    spec: Any = importlib.util.spec_from_file_location("config", file)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config()
    except (SyntaxError, AttributeError) as error:
        raise ConfigError(f"{file}: not a config ({error})") from error
    values = flags.FlagValues()
    argv = ["train", *overrides]
    before = dict(_flat(config.to_dict()))
    try:
        holder = config_flags.DEFINE_config_dict(
            "config", config, flag_values=values, lock_config=True, sys_argv=argv
        )
        rest = values(argv)[1:]
    except (RecursionError, MemoryError) as error:
        raise ConfigError("a value of the config is nested too deep") from error
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(_first_line(error)) from error
    if rest:
        raise ConfigError(
            f"not understood: {' '.join(rest)}; values of the config are given as "
            "--config.train.num_steps=2000"
        )
    for name, value in _flat(holder.value.to_dict()):
        _check_numbers(name, value, before[name])
    return holder.value


def _first_line(error: Any) -> str:
    """The message of absl, without quotes and line breaks."""
    while isinstance(error, BaseException) and error.args:
        error = error.args[0]
    return " ".join(str(error).split())


def _check_numbers(name: str, value: Any, before: Any) -> None:
    """The flags do not look at what is in a tuple."""
    if not (isinstance(before, tuple) and before and _are_numbers(before)):
        return
    if not (isinstance(value, tuple) and len(value) == len(before)) or not (
        _are_numbers(value)
    ):
        raise ConfigError(
            f"config.{name} must be {len(before)} numbers, such as {before}, "
            f"got {value!r}"
        )


def _are_numbers(values: tuple[Any, ...]) -> bool:
    return all(isinstance(v, (int, float)) for v in values)


def config_names() -> list[str]:
    """Names of the package's configs."""
    return sorted({p.stem for folder in CONFIGS for p in folder.glob("[!_]*.py")})


def _config_file(source: str) -> Path:
    places = [Path(source), *(folder / f"{source}.py" for folder in CONFIGS)]
    for place in places:
        if place.is_file():
            return place
    raise ConfigError(
        f"{source}: no such config; give a Python file, or one of "
        f"{', '.join(config_names())}"
    )


def architecture(config: ConfigDict) -> Architecture:
    """The sizes of the network.

    Raises:
        ConfigError: they are none.
    """
    m = config.model
    try:
        return Architecture(
            units=tuple(m.units),
            growth=tuple(m.growth),
            skips=tuple(m.skips),
            stem=m.stem,
            downs=tuple(m.downs),
            classes=m.get("classes", NUM_CLASSES),
        )
    except ValueError as error:
        raise ConfigError(f"config.model: {error}") from error


def normalisation(config: ConfigDict) -> str:
    """How images are normalised: see `preprocessing.pipeline.Recipe`."""
    if "tissue_maps" in config:
        return "foreground"
    return config.data.get("normalisation", "histogram")


def unknown_muscles(config: ConfigDict) -> tuple[int, ...] | None:
    """Muscles that no mask shows, of a network that finds more than masks have.

    None where the labels have all of its classes: see `losses.overlap_upsampled`.
    """
    if "tissue_maps" in config or architecture(config).classes == NUM_CLASSES:
        return None
    return tuple(config.data.allow_absent)


def masks_at_levels(config: ConfigDict) -> bool:
    """Whether masks show muscles at levels only where the network finds all of them."""
    return unknown_muscles(config) is not None and config.data.get("masks") == "table1"


def levels_rule(config: ConfigDict) -> LevelsRule:
    """What makes the network's muscles alike to the masks it was trained on."""
    as_drawn = unknown_muscles(config) is not None and not masks_at_levels(config)
    return "none" if as_drawn else "paper"


def check_same(now: dict[str, Any], then: dict[str, Any], workdir: Path) -> None:
    """Requires that a run is resumed with the config that it was started with.

    Args:
        now: the config, as JSON has it.
        then: that of the checkpoint.
        workdir: for the message.

    Raises:
        ConfigError: names the first value that differs and may not.
    """
    a, b = dict(_flat(now)), dict(_flat(then))
    may_change = set(_MAY_CHANGE)
    if a.get("optimizer.schedule") in _DEPEND_ON_LENGTH:
        may_change.remove("train.num_steps")
    for name in sorted(a.keys() | b.keys()):
        new, old = (v.get(name, _USUAL.get(name, "absent")) for v in (a, b))
        if new != old and name not in may_change:
            raise ConfigError(
                f"{workdir} was trained with config.{name} = {old}, now it is {new}; "
                "give the same value, or another --workdir"
            )


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
