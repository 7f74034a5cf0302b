"""Layers of a dense V-Net (Flax linen): normalisation, units, dense blocks, pooling.

Tensors are ``(batch, x, y, z, channel)``.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from cervjax.model.convolution import Lowering, convolve
from cervjax.model.region import Region, cut, grow, moved

BATCH_NORM_EPSILON = 1e-5
BATCH_NORM_DECAY = 0.9


def he_truncated_normal(key: Array, shape: Sequence[int], dtype: Any = None) -> Array:
    """NiftyNet's initialiser: cut at 2 sd and not rescaled, sd sqrt(2 / fan-in)."""
    fan_in = shape[0] * shape[1] * shape[2] * shape[3]
    draw = jax.random.truncated_normal(key, -2.0, 2.0, tuple(shape), dtype or float)
    return draw * jnp.sqrt(2.0 / fan_in).astype(draw.dtype)


class BatchNorm(nn.Module):
    """Batch normalisation with TensorFlow 1's moving statistics.

    With ``debias`` (NiftyNet) the statistics are zero-debiased moving averages: their
    start value vanishes at the first step. Without, they start at 0 and 1.
    ``axis_name`` takes the batch statistics over all devices of that mapped axis.
    """

    features: int
    debias: bool = True
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """Normalises ``x`` (..., features); updates the statistics when training."""
        shape = (self.features,)
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        stats = {
            name: self.variable("batch_stats", name, start, shape)
            for name, start in (
                ("mean", jnp.zeros),
                ("var", jnp.ones),
                ("mean_biased", jnp.zeros),
                ("var_biased", jnp.zeros),
            )
        }
        steps = self.variable("batch_stats", "steps", jnp.zeros, ())
        mean, var = stats["mean"].value, stats["var"].value
        if train:
            mean, var = self._batch_moments(x.astype(jnp.float32))
            if not self.is_initializing():
                steps.value = steps.value + 1
                self._update(stats, steps.value, {"mean": mean, "var": var})
        factor = scale * lax.rsqrt(var + BATCH_NORM_EPSILON)
        # All ranks are spelled out: rank promotion is an error in the tests.
        ones = (1,) * (x.ndim - 1)
        factor, offset = (
            factor.reshape(*ones, -1),
            (bias - mean * factor).reshape(*ones, -1),
        )
        return (x * factor + offset).astype(x.dtype)

    def _batch_moments(self, x: Array) -> tuple[Array, Array]:
        def over_devices(value: Array) -> Array:
            return lax.pmean(value, self.axis_name) if self.axis_name else value

        # A few neighbouring voxels side by side: rows too short for vectors are slow.
        width = math.gcd(math.prod(x.shape[:-1]), 32)
        rows = x.reshape(-1, width, self.features)
        mean = over_devices(rows.mean(0).mean(0))
        centred = rows - mean.reshape(1, 1, -1)
        return mean, over_devices(jnp.square(centred).mean(0).mean(0))

    def _update(self, stats: dict, steps: Array, moments: dict[str, Array]) -> None:
        rate = 1 - BATCH_NORM_DECAY
        for name, moment in moments.items():
            biased, moving = stats[f"{name}_biased"], stats[name]
            biased.value = biased.value - rate * (biased.value - moment)
            if self.debias:
                moving.value = biased.value / (1 - BATCH_NORM_DECAY**steps)
            else:
                moving.value = moving.value - rate * (moving.value - moment)


class Unit(nn.Module):
    """Convolution without bias, batch norm, ReLU, dropout."""

    in_features: int
    features: int
    kernel_size: int = 3
    stride: int = 1
    dilation: int = 1
    relu: bool = True
    keep_prob: float = 1.0
    spatial_keep_prob: float = 1.0
    norm: Callable[..., BatchNorm] = BatchNorm
    lowering: Lowering = "auto"

    @nn.compact
    def __call__(self, parts: Sequence[Array], train: bool) -> Array:
        """Parts (b, x, y, z, some of in_features) to (b, x, y, z, features).

        The result is smaller by the stride.
        """
        shape = (self.kernel_size,) * 3 + (self.in_features, self.features)
        kernel = self.param("kernel", he_truncated_normal, shape)
        y = convolve(
            parts,
            kernel.astype(parts[0].dtype),
            stride=self.stride,
            dilation=self.dilation,
            lowering=self.lowering,
        )
        y = self.norm(self.features, name="norm")(y, train=train)
        y = nn.relu(y) if self.relu else y
        # NiftyNet drops at inference too whenever keep_prob < 1. Measurements should
        # not be random, so here dropout belongs to training.
        if train:
            y = self._drop(y, self.keep_prob, y.shape)
            y = self._drop(y, self.spatial_keep_prob, (1, 1, 1, 1, self.features))
        self.sow("intermediates", "activation", y)
        return y

    def _drop(self, y: Array, keep: float, shape: tuple[int, ...]) -> Array:
        if keep == 1:
            return y
        kept = jax.random.bernoulli(self.make_rng("dropout"), keep, shape)
        return jnp.where(kept, y / keep, 0).astype(y.dtype)


class DenseBlock(nn.Module):
    """Units on the concatenation of all before them, a skip and a downsampler.

    The stack includes the block's input; the last unit has no dropout.
    """

    in_features: int
    features: int
    num_units: int
    skip_features: int
    down_features: int | None
    unit: Callable[..., Unit] = Unit
    keep_probs: tuple[float, float] = (1.0, 1.0)
    dilation: int = 1

    def setup(self):
        """Declares units, skip and downsampler."""
        element, spatial = self.keep_probs
        self.units = [
            self.unit(
                self.in_features + i * self.features,
                self.features,
                dilation=self.dilation,
                keep_prob=element if i < self.num_units - 1 else 1.0,
                spatial_keep_prob=spatial if i < self.num_units - 1 else 1.0,
            )
            for i in range(self.num_units)
        ]
        stack = self.in_features + self.num_units * self.features
        self.skip = self.unit(stack, self.skip_features)
        if self.down_features:
            self.down = self.unit(stack, self.down_features, stride=2)

    def __call__(
        self, parts: Sequence[Array], train: bool, region: Region | None = None
    ) -> tuple[Array, Any]:
        """Returns the skip connection and the input of the next block, if any.

        The skip connection is given for ``region`` only (None: all).
        """
        parts = [*parts]
        for unit in self.units:
            parts.append(unit(parts, train))
        down = self.down(parts, train) if self.down_features else None
        return _within(region, lambda *read: self.skip(read, train), *parts), down


def average_pool(x: Float[Array, "b x y z c"]) -> Float[Array, "b _ _ _ c"]:
    """Means of 3x3x3 voxels at stride 2, over the voxels inside the volume.

    Separable; sizes are even, so a window starts on each even voxel and only the last
    one reaches outside.
    """
    for axis in (1, 2, 3):
        even = lax.slice_in_dim(x, 0, None, 2, axis)
        odd = lax.slice_in_dim(x, 1, None, 2, axis)
        after = lax.slice_in_dim(even, 1, None, axis=axis)
        outside = jnp.zeros_like(lax.slice_in_dim(even, 0, 1, axis=axis))
        total = even + odd + jnp.concatenate([after, outside], axis)
        size = total.shape[axis]
        inside = jnp.full(size, 3, x.dtype).at[-1].set(2)
        x = total / inside.reshape((1,) * axis + (-1,) + (1,) * (4 - axis))
    return x


def _within(region: Region | None, layer: Callable[..., Array], *parts: Array) -> Array:
    """What a layer of 3x3x3 taps gives in ``region``, from no more than it reads."""
    if region is None:
        return layer(*parts)
    read = grow(region, parts[0].shape[1:4])
    y = layer(*(cut(part, read) for part in parts))
    return cut(y, moved(region, [first for first, _ in read]))
