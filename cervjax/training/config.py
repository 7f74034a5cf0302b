"""From a config to the parts of a run: network, optimizer, augmentation, windows."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from cervjax.data.augment_intensity import Intensity, distort, distort_some
from cervjax.data.augment_spatial import Warp, warp
from cervjax.data.dataset import TrainSet
from cervjax.data.windows import windows
from cervjax.model.dense_vnet import DenseVNet
from cervjax.model.weights import load_weights
from cervjax.training import parallel
from cervjax.training.losses import LOSSES
from cervjax.training.step import (
    AXIS,
    TrainState,
    create_state,
    make_step,
    tensorflow_adam,
)

_MAY_CHANGE = {  # without making it another run
    "train.num_steps",
    "train.checkpoint_every",
    "train.eval_every",
    "train.patience",
    "train.log_every",
    "eval.train_scans",
    "eval.test_scans",
    "data.cache",
    "data.workers",
    "data.root",
    "data.test_root",
    "data.landmarks",
}


def check(config: ConfigDict) -> None:
    """Cross-checks of a config.

    Raises:
        ValueError: names the value.
    """
    t, d, o = config.train, config.data, config.optimizer
    for name, value in (
        ("train.num_steps", t.num_steps),
        ("train.batch_size", t.batch_size),
        ("train.accumulate", t.accumulate),
        ("train.log_every", t.log_every),
        ("train.checkpoint_every", t.checkpoint_every),
        ("train.eval_every", t.eval_every),
        ("data.samples_per_volume", d.samples_per_volume),
    ):
        if value < 1:
            raise ValueError(f"config.{name} must be at least 1, got {value}")
    if o.schedule == "cosine" and o.warmup_steps >= t.num_steps:
        raise ValueError(
            f"config.optimizer.warmup_steps is {o.warmup_steps}: a cosine schedule "
            f"must warm up in fewer than train.num_steps, {t.num_steps}"
        )
    if not 0 <= config.foreign.share <= 1:
        raise ValueError(
            f"config.foreign.share must lie from 0 to 1, got {config.foreign.share}"
        )
    if len(d.window) != 3 or any(n % 8 or n < 8 for n in d.window):
        raise ValueError(
            f"config.data.window must be three multiples of 8, got {tuple(d.window)}"
        )
    for name, value, choices in (
        ("train.loss", t.loss, tuple(LOSSES)),
        ("optimizer.name", o.name, ("adam", "tensorflow_adam", "sgd")),
        ("optimizer.schedule", o.schedule, ("constant", "cosine")),
        ("model.dtype", config.model.dtype, ("float32", "bfloat16")),
    ):
        if value not in choices:
            raise ValueError(
                f"config.{name} must be one of {', '.join(choices)}, got {value!r}"
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
    return (
        optax.chain(optax.clip_by_global_norm(o.clip_norm), rule)
        if o.clip_norm
        else rule
    )


def make_model(config: ConfigDict) -> DenseVNet:
    """The network of a config."""
    m = config.model
    return DenseVNet(
        keep_prob=m.keep_prob,
        spatial_keep_prob=m.spatial_keep_prob,
        dilations=tuple(m.dilations),
        debias_statistics=m.debias_statistics,
        axis_name=AXIS,
        dtype=jnp.dtype(m.dtype),
        remat=m.remat,
    )


def make_augment(config: ConfigDict):
    """``(key, image, labels)`` to the windows the network sees."""
    a = config.augment
    settings = Warp(**{k: _plain(a[k]) for k in Warp._fields})
    usual, foreign = (
        Intensity(**{k: _plain(part[k]) for k in Intensity._fields})
        for part in (a, config.foreign)
    )

    def augment(key, image, labels):
        one, two = jax.random.split(key)
        image, labels = warp(
            one,
            image,
            labels,
            window=tuple(config.data.window),
            spacing_mm=tuple(config.data.spacing_mm),
            settings=settings,
        )
        if not config.foreign.share:
            return distort(two, image, usual), labels
        return distort_some(two, image, usual, foreign, config.foreign.share), labels

    return augment


def augmentation_seconds(config: ConfigDict, batch: dict[str, Any]) -> float:
    """How long one device takes to augment its share of a batch, the second time."""
    augment = jax.jit(make_augment(config))
    image, labels = (
        jnp.asarray(batch[k][: max(1, len(batch[k]) // jax.local_device_count())])
        for k in ("image", "labels")
    )
    for _ in range(2):
        start = time.perf_counter()
        jax.block_until_ready(augment(jax.random.key(0), image, labels))
    return time.perf_counter() - start


def make_body(config: ConfigDict):
    """The training step of a config, for `parallel.parallel_step`."""
    return make_step(
        make_model(config),
        make_optimizer(config),
        loss=config.train.loss,
        seed=config.seed,
        augment=make_augment(config),
        affine_scale=config.augment.affine_in_network,
        weight_decay=config.optimizer.weight_decay,
        average_decay=config.train.average_decay,
        accumulate=config.train.accumulate,
    )


def initial_state(
    config: ConfigDict, init_from: Path | None, log: Callable[[str], object]
) -> TrainState:
    """The state before the first step: drawn from the seed, or from weights."""
    if init_from is not None:
        weights = load_weights(init_from)
        log(f"starting from {weights.card.name}, sha256 {weights.sha256[:12]}")
        variables = jax.tree.map(jnp.asarray, weights.variables)
    else:
        example = jnp.zeros((1, 8, 8, 8, 2))
        model = make_model(config).clone(axis_name=None, lowering="plain")
        variables = jax.jit(model.init)(jax.random.key(config.seed), example)
    average = config.train.average_decay > 0
    state = create_state(variables, make_optimizer(config), with_average=average)
    return jax.device_put(state, parallel.replicated())


def make_windows(config: ConfigDict, data: TrainSet) -> grain.IterDataset:
    """This host's batches of training windows."""
    d = config.data
    return windows(
        data.train,
        window=tuple(d.window),
        margin=tuple(config.augment.margin),
        batch_size=config.train.batch_size // jax.process_count(),
        samples_per_volume=d.samples_per_volume,
        foreground_share=d.foreground_share,
        seed=config.seed,
        shard=(jax.process_index(), jax.process_count()),
        workers=d.workers,
    )


def check_same(now: dict, then: dict, workdir: Path) -> None:
    """A run is resumed with the config that it was started with."""
    flat_now, flat_then = _flatten(now), _flatten(then)
    for name in sorted(flat_now.keys() | flat_then.keys()):
        a, b = flat_now.get(name, "absent"), flat_then.get(name, "absent")
        if a != b and name not in _MAY_CHANGE:
            raise ValueError(
                f"{workdir} was trained with config.{name} = {b}, now it is {a}; give "
                "the same value, or another --workdir"
            )


def _flatten(tree: dict, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= (
            _flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
        )
    return flat


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, tuple)) else value
