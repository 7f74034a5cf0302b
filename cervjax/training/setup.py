"""From a config to the parts of a run: network, optimizer, augmentation, windows."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import optax
from absl import flags
from ml_collections import ConfigDict

from cervjax.anatomy import NUM_CLASSES
from cervjax.data.augment_intensity import Intensity, distort, distort_some
from cervjax.data.augment_spatial import Warp, warp
from cervjax.data.contrast import Contrast
from cervjax.data.dataset import TrainSet
from cervjax.data.scanner import Scanner
from cervjax.data.tissue_maps import map_batches
from cervjax.data.windows import Cut, windows
from cervjax.model.card import ModelCard
from cervjax.model.dense_vnet import DenseVNet
from cervjax.model.weights import SHIPPED, load_weights
from cervjax.training import parallel
from cervjax.training.config import (
    ConfigError,
    architecture,
    masks_at_levels,
    normalisation,
    unknown_muscles,
)
from cervjax.training.step import (
    AXIS,
    Augment,
    StepSettings,
    TrainState,
    create_state,
    make_step,
    tensorflow_adam,
)


def make_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """The optimizer of a config; the L2 term is part of the loss."""
    o = config.optimizer
    rate: optax.ScalarOrSchedule = o.learning_rate
    if o.schedule == "cosine":
        rate = optax.warmup_cosine_decay_schedule(
            o.learning_rate / 20,
            o.learning_rate,
            o.warmup_steps,
            config.train.num_steps,
            o.learning_rate / 100,
        )
    elif o.warmup_steps:
        rate = optax.linear_schedule(
            o.learning_rate / 20, o.learning_rate, o.warmup_steps
        )
    rule = {
        "adam": partial(optax.adam, eps=o.epsilon),
        "tensorflow_adam": partial(tensorflow_adam, eps=o.epsilon),
        "sgd": optax.sgd,
    }[o.name](rate)
    if not o.clip_norm:
        return rule
    return optax.chain(optax.clip_by_global_norm(o.clip_norm), rule)


def make_model(config: ConfigDict) -> DenseVNet:
    """The network of a config."""
    m = config.model
    return DenseVNet(
        architecture(config),
        keep_prob=m.keep_prob,
        spatial_keep_prob=m.spatial_keep_prob,
        dilations=tuple(m.dilations),
        debias_statistics=m.debias_statistics,
        axis_name=AXIS,
        dtype=jnp.dtype(m.dtype),
        remat=m.remat,
    )


def make_augment(config: ConfigDict) -> Augment:
    """``(key, batch)`` to the windows the network sees."""
    if "tissue_maps" in config:
        scanner = make_scanner(config)
        if not config.tissue_maps.get("images"):
            return lambda key, batch: scanner(key, batch["codes"])
        return lambda key, batch: scanner(key, batch["codes"], batch["is_image"])
    a, other = config.augment, config.domain_randomisation
    settings = Warp(**{k: _plain(a[k]) for k in Warp._fields})
    usual, random = (
        Intensity(**{k: _plain(part[k]) for k in Intensity._fields})
        for part in (a, other)
    )

    def augment(key, batch):
        one, two = jax.random.split(key)
        image, labels = warp(
            one,
            batch["image"],
            batch["labels"],
            window=tuple(config.data.window),
            spacing_mm=tuple(config.data.spacing_mm),
            settings=settings,
        )
        if not other.share:
            return distort(two, image, usual), labels
        return distort_some(two, image, usual, random, other.share), labels

    return augment


def make_scanner(config: ConfigDict) -> Scanner:
    """What scans the tissue maps of a config."""
    a = config.augment
    return Scanner(
        window=tuple(config.data.window),
        spacing_mm=tuple(config.data.spacing_mm),
        warp=Warp(**{k: _plain(a[k]) for k in Warp._fields}),
        contrast=Contrast(**{k: _plain(v) for k, v in config.contrast.items()}),
        intensity=Intensity(**{k: _plain(a[k]) for k in Intensity._fields}),
    )


def make_body(config: ConfigDict) -> Callable[..., Any]:
    """The training step of a config, for `parallel.parallel_step`."""
    settings = StepSettings(
        loss=config.train.loss,
        seed=config.seed,
        affine_scale=config.augment.affine_in_network,
        unknown=unknown_muscles(config),
        at_levels=masks_at_levels(config),
        fixed_statistics=config.train.get("fixed_statistics", False),
        weight_decay=config.optimizer.weight_decay,
        average_decay=config.train.average_decay,
        accumulate=config.train.accumulate,
    )
    model, optimizer = make_model(config), make_optimizer(config)
    return make_step(model, optimizer, settings, make_augment(config))


def initial_state(
    config: ConfigDict, init_from: Path | None, log: Callable[[str], object]
) -> TrainState:
    """The state before the first step: drawn from the seed, or from weights.

    Raises:
        WeightsError: the weights cannot be used.
        ConfigError: they do not fit, see `check_start`.
    """
    check_start(config, init_from)
    if init_from is not None:
        weights = load_weights(init_from)
        log(f"starting from {weights.card.name}, sha256 {weights.sha256[:12]}")
        variables = jax.tree.map(jnp.asarray, weights.variables)
    else:
        variables = jax.jit(partial(_draw, config))()
    return jax.device_put(_create(config, variables), parallel.replicated())


def check_start(config: ConfigDict, init_from: Path | None) -> ModelCard | None:
    """The card of the weights to start from, if there are any and they fit.

    Raises:
        WeightsError: they cannot be used.
        ConfigError: they are of another network, or know other images; or there are
            none, and the network cannot learn from nothing.
    """
    if init_from is None:
        if unknown_muscles(config) is not None:
            raise ConfigError(
                f"config.model.classes is {architecture(config).classes}: masks of "
                "muscles cannot teach the vertebral bodies; start from weights that "
                f"find them, such as --init-from shipped, or give {NUM_CLASSES}"
            )
        return None
    card = load_weights(init_from).card
    theirs, ours = asdict(card.architecture), asdict(architecture(config))
    differ = [name for name in ours if ours[name] != theirs[name]]
    if differ:
        advice = "give the same numbers"
        if init_from == SHIPPED:
            advice = "the package's config finetune has those of its weights"
        has, wants = (
            ", ".join(f"{name}={sizes[name]}" for name in differ)
            for sizes in (theirs, ours)
        )
        raise ConfigError(f"{init_from} has {has}, config.model {wants}; {advice}")
    if card.recipe.normalisation != normalisation(config):
        raise ConfigError(
            f"{init_from} knows images of the normalisation "
            f"{card.recipe.normalisation!r}, not {normalisation(config)!r}; set "
            "config.data.normalisation, or take another config, such as finetune"
        )
    return card


def like_state(config: ConfigDict) -> TrainState:
    """Shapes, types and devices of the state, for a checkpoint to be read."""
    shapes = jax.eval_shape(lambda: _create(config, _draw(config)))
    place = parallel.replicated()
    return jax.tree.map(
        lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=place), shapes
    )


def _draw(config: ConfigDict) -> dict[str, Any]:
    model = make_model(config).clone(axis_name=None, lowering="plain")
    variables: Any = model.init(jax.random.key(config.seed), jnp.zeros((1, 8, 8, 8, 2)))
    return variables


def _create(config: ConfigDict, variables: dict[str, Any]) -> TrainState:
    average = config.train.average_decay > 0
    return create_state(variables, make_optimizer(config), with_average=average)


def make_windows(config: ConfigDict, data: TrainSet) -> grain.IterDataset:
    """This host's batches of training windows."""
    d = config.data
    shard = (jax.process_index(), jax.process_count())
    batch_size = config.train.batch_size // jax.process_count()
    if "tissue_maps" in config:
        return map_batches(
            data.maps, batch_size=batch_size, seed=config.seed, shard=shard
        )
    if d.workers and not flags.FLAGS.is_parsed():
        flags.FLAGS(["cervjax"])  # which grain hands to its processes
    return windows(
        data.train,
        Cut(tuple(d.window), tuple(config.augment.margin), d.foreground_share),
        batch_size=batch_size,
        samples_per_volume=d.samples_per_volume,
        seed=config.seed,
        shard=shard,
        workers=d.workers,
    )


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, tuple)) else value
