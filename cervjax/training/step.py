"""The training step: a pure function of state and batch, for one device of several.

The body is written for a named axis and runs unchanged under `jax.pmap` and
`jax.shard_map` (see `parallel`). Batch norm, gradients, loss and metrics are those of
the whole batch over all devices. Randomness is a function of seed, step and device, so
no key is part of the state.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from cervjax.model.affine import invert_affine, random_corner_affine, resample_affine
from cervjax.model.dense_vnet import DenseVNet
from cervjax.training.losses import (
    LOSSES,
    Overlap,
    overlap_upsampled,
    with_undrawn,
)

AXIS = "data"
"""Name of the mapped axis: the devices that share a batch."""

Batch = dict[str, Array]
Augment = Callable[[Array, Batch], tuple[Array, Array]]


class TrainState(NamedTuple):
    """All arrays that training carries from step to step.

    Attributes:
        step: int32, steps done.
        params: the network's parameters.
        batch_stats: its moving statistics.
        opt_state: of the optimizer.
        average: moving average of parameters and statistics, or nothing.
    """

    step: Array
    params: Any
    batch_stats: Any
    opt_state: Any
    average: Any

    @property
    def variables(self) -> dict[str, Any]:
        """What is evaluated and exported: the average where there is one."""
        if self.average is not None:
            return self.average
        return {"params": self.params, "batch_stats": self.batch_stats}


def create_state(
    variables: dict[str, Any],
    optimizer: optax.GradientTransformation,
    *,
    with_average: bool,
) -> TrainState:
    """The state before the first step.

    Args:
        variables: ``params`` and ``batch_stats``, of `DenseVNet.init` or a file.
        optimizer: the one `make_step` will use.
        with_average: whether to keep a moving average.
    """
    params, stats = variables["params"], variables["batch_stats"]
    average = {"params": params, "batch_stats": stats} if with_average else None
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=stats,
        opt_state=optimizer.init(params),
        average=jax.tree.map(jnp.copy, average),  # the state is donated leaf by leaf
    )


def tensorflow_adam(
    learning_rate: optax.ScalarOrSchedule, b1=0.9, b2=0.999, eps=1e-8
) -> optax.GradientTransformation:
    """Adam as TensorFlow 1 has it: epsilon outside the bias correction.

    ``lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps)``; optax and the paper of Adam
    correct ``v`` first, so that their epsilon counts more in the first steps.
    """

    def init(params):
        zeros = partial(jax.tree.map, jnp.zeros_like)
        return optax.ScaleByAdamState(
            jnp.zeros((), jnp.int32), zeros(params), zeros(params)
        )

    def update(grads, state, params=None):
        del params
        count = state.count + 1
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, grads)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, grads)
        t = count.astype(jnp.float32)
        factor = jnp.sqrt(1 - b2**t) / (1 - b1**t)
        updates = jax.tree.map(lambda m, v: factor * m / (jnp.sqrt(v) + eps), mu, nu)
        return updates, optax.ScaleByAdamState(count, mu, nu)

    scale = optax.GradientTransformation(init, update)
    return optax.chain(scale, optax.scale_by_learning_rate(learning_rate))


@dataclass(frozen=True)
class StepSettings:
    """What a training step does, beside network and optimizer.

    Attributes:
        loss: a name of `losses.LOSSES`.
        seed: of all randomness.
        affine_scale: NiftyNet's random affine inside the network; 0.1 is its default, 0
            leaves it out.
        unknown: where the network finds more than the labels have: muscles that they
            lack besides bodies, see `losses`; None where labels have all classes.
        at_levels: muscles are unknown, too, in slices in which they were not drawn.
        fixed_statistics: batch norm keeps the moving statistics that it starts from, so
            that the network is trained exactly as it will be run.
        weight_decay: L2 of convolution kernels, half its square is added to the loss.
        average_decay: of the moving average of parameters; 0 for none.
        accumulate: splits each device's batch, for its memory, and adds up gradients;
            batch norm then sees the parts.

    Raises:
        ValueError: there is no such loss.
    """

    loss: str
    seed: int
    affine_scale: float = 0.0
    unknown: tuple[int, ...] | None = None
    at_levels: bool = False
    fixed_statistics: bool = False
    weight_decay: float = 0.0
    average_decay: float = 0.0
    accumulate: int = 1

    def __post_init__(self):
        """Checks the name of the loss."""
        if self.loss not in LOSSES:
            raise ValueError(
                f"loss must be one of {', '.join(LOSSES)}, got {self.loss!r}"
            )


def make_step(
    model: DenseVNet,
    optimizer: optax.GradientTransformation,
    settings: StepSettings,
    augment: Augment | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]:
    """Makes the body of a training step, to be mapped over devices.

    Args:
        model: with ``axis_name=AXIS``, so that batch norm sees all devices.
        optimizer: of optax.
        settings: static.
        augment: ``(key, batch)`` to the image and labels that the network sees.

    Returns:
        ``(state, {"image": (b, x, y, z, 2), "labels": (b, x, y, z)})`` (or whatever
        ``augment`` takes) to the next state and metrics: ``loss``, ``gradient_norm``
        and ``soft_dice`` (classes).
    """
    gradients = _make_gradients(model, settings)

    def body(state: TrainState, batch: Batch):
        key = jax.random.fold_in(jax.random.key(settings.seed), state.step)
        key = jax.random.fold_in(key, lax.axis_index(AXIS))
        augment_key, key = jax.random.split(key)
        if augment is not None:
            image, labels = augment(augment_key, batch)
        else:
            image, labels = batch["image"], batch["labels"]
        # Each device differentiates with respect to its own copy; pmean joins them.
        params = jax.tree.map(lambda p: lax.pcast(p, AXIS, to="varying"), state.params)
        inputs = params, state.batch_stats, image, labels, key
        if settings.accumulate == 1:
            grads, value, stats, sums = gradients(*inputs)
        else:
            grads, value, stats, sums = _accumulated(
                gradients, settings.accumulate, *inputs
            )
        grads, value, sums = lax.pmean((grads, value, sums), AXIS)
        if settings.accumulate > 1:  # the parts' last statistics differ between devices
            stats = lax.pmean(stats, AXIS)
        if settings.weight_decay:
            l2 = jax.value_and_grad(_l2)
            decay, decay_grads = l2(state.params, settings.weight_decay)
            value, grads = value + decay, jax.tree.map(jnp.add, grads, decay_grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        new = TrainState(
            state.step + 1,
            optax.apply_updates(state.params, updates),
            stats,
            opt_state,
            state.average,
        )
        if settings.average_decay:
            new = new._replace(average=_averaged(new, settings.average_decay))
        metrics = {
            "loss": value,
            "gradient_norm": optax.tree.norm(grads),
            "soft_dice": 2 * sums.shared / (sums.squared + sums.reference + 1e-5),
        }
        return new, metrics

    return body


def _make_gradients(model: DenseVNet, settings: StepSettings) -> Callable[..., Any]:
    """From parameters, statistics, windows and key to gradients, loss and sums."""

    def loss_of(params, stats, image, labels, key):
        affine_key, dropout_key = jax.random.split(key)
        affine = None
        if settings.affine_scale:
            affine = random_corner_affine(affine_key, len(image), settings.affine_scale)
            image = resample_affine(image, affine)
        half, updated = model.apply(
            {"params": params, "batch_stats": stats},
            image,
            train=not settings.fixed_statistics,
            method="half_resolution",
            mutable=["batch_stats"],
            rngs={"dropout": dropout_key},
        )
        if affine is not None:
            half = resample_affine(half, invert_affine(affine))
        if settings.at_levels:
            labels = with_undrawn(labels)
        sums = overlap_upsampled(half, labels, settings.unknown)
        value = LOSSES[settings.loss](sums).mean()
        return value, (
            updated.get("batch_stats", stats),
            Overlap(*map(_over_batch, sums)),
        )

    def gradients(params, stats, image, labels, key):
        grad = jax.value_and_grad(loss_of, has_aux=True)
        (value, (stats, sums)), grads = grad(params, stats, image, labels, key)
        return grads, value, stats, sums

    return gradients


def _over_batch(sums: Array) -> Array:
    return sums.mean(0)


def _accumulated(gradients, parts, params, stats, image, labels, key):
    """Means of gradients, loss and sums over parts of the batch, one after another."""
    if len(image) % parts:
        raise ValueError(
            f"a device's batch of {len(image)} cannot be split into {parts} parts"
        )
    split = [v.reshape(parts, -1, *v.shape[1:]) for v in (image, labels)]
    keys = jax.random.split(key, parts)

    def one(carry, part):
        stats, total = carry
        grads, value, stats, sums = gradients(params, stats, *part)
        return (stats, jax.tree.map(jnp.add, total, (grads, value, sums))), None

    first = gradients(params, stats, split[0][0], split[1][0], keys[0])
    carry = (first[2], (first[0], first[1], first[3]))
    rest = (split[0][1:], split[1][1:], keys[1:])
    (stats, total), _ = lax.scan(one, carry, rest)
    grads, value, sums = jax.tree.map(lambda v: v / parts, total)
    return grads, value, stats, sums


def _l2(params: Any, weight: float) -> Array:
    """Half the sum of squares of all kernels, times the weight."""
    flat = jax.tree_util.tree_leaves_with_path(params)
    kernels = [v for path, v in flat if "kernel" in jax.tree_util.keystr(path)]
    total: Any = sum(jnp.sum(jnp.square(k)) for k in kernels)
    return 0.5 * weight * total


def _averaged(state: TrainState, decay: float) -> Any:
    """Moving average, quicker at first: decay at most (1 + step) / (10 + step)."""
    step = state.step.astype(jnp.float32)
    rate = jnp.minimum(decay, (1 + step) / (10 + step))
    now = {"params": state.params, "batch_stats": state.batch_stats}
    return jax.tree.map(
        lambda a, b: a + (1 - rate).astype(a.dtype) * (b - a), state.average, now
    )
