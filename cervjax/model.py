"""The dense V-Net of Gibson et al. 2018, as NiftyNet 0.6.0 builds it (Flax linen).

Parameter for parameter the network of Weber et al. 2021: 893,321 trainable numbers in
97 tensors. Tensors are ``(batch, x, y, z, channel)``; channel 0 is in-phase, 1 is
out-of-phase. "Functional" means linen: parameters and statistics are plain dicts that
go into ``apply`` and come out of it. The only room that knows `flax.linen`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from cervjax.augment import invert_affine, resample_affine
from cervjax.convolution import convolve

BATCH_NORM_EPSILON = 1e-5
BATCH_NORM_DECAY = 0.9
SIZE_MULTIPLE = 8
"""Every spatial size of the input must be a multiple of this."""


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

        axes = tuple(range(x.ndim - 1))
        mean = over_devices(x.mean(axes))
        centred = x - mean.reshape((1,) * (x.ndim - 1) + (-1,))
        return mean, over_devices(jnp.square(centred).mean(axes))

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

    def setup(self):
        """Declares the parameters, so that a dense block can see all its kernels."""
        shape = (self.kernel_size,) * 3 + (self.in_features, self.features)
        self.kernel = self.param("kernel", he_truncated_normal, shape)
        self.batch_norm = self.norm(self.features, name="norm")

    def __call__(self, x: Array, *, train: bool) -> Array:
        """(b, x, y, z, in_features) to (b, x, y, z, features), smaller by stride."""
        kernel = self.kernel.astype(x.dtype)
        y = convolve(x, kernel, stride=self.stride, dilation=self.dilation)
        return self.activate(y, train=train)

    def activate(self, y: Array, *, train: bool) -> Array:
        """What follows the convolution."""
        y = self.batch_norm(y, train=train)
        y = nn.relu(y) if self.relu else y
        # The original drops at inference too whenever keep_prob < 1; a random
        # measurement helps nobody, so here dropout belongs to training.
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

    def __call__(self, x: Array, *, train: bool) -> tuple[Array, Any]:
        """Returns the skip connection and the input of the next block, if any."""
        for unit in self.units:
            x = jnp.concatenate([x, unit(x, train=train)], -1)
        down = self.down(x, train=train) if self.down_features else None
        return self.skip(x, train=train), down


class DenseVNet(nn.Module):
    """Dense V-Net; the defaults are the published network.

    Attributes:
        num_classes: classes, background included.
        keep_prob: element dropout after every unit but a block's last (training).
        spatial_keep_prob: dropout of whole channels, one draw for the batch; the paper
            names it, its software leaves it off.
        dilations: rate of each block; the paper names dilation, its software uses 1.
        debias_statistics: NiftyNet's moving statistics, see `BatchNorm`.
        axis_name: mapped axis over which batch statistics are taken.
        dtype: of the activations; bfloat16 is for accelerators.
    """

    num_classes: int = 15
    keep_prob: float = 1.0
    spatial_keep_prob: float = 1.0
    dilations: tuple[int, int, int] = (1, 1, 1)
    debias_statistics: bool = True
    axis_name: str | None = None
    dtype: Any = jnp.float32

    def setup(self):
        """Declares the layers."""

        def norm(features: int, name: str | None = None) -> BatchNorm:
            return BatchNorm(
                features, self.debias_statistics, self.axis_name, name=name
            )

        def unit(*args: Any, **kwargs: Any) -> Unit:
            return Unit(*args, **kwargs, norm=norm)

        keep = (self.keep_prob, self.spatial_keep_prob)
        self.pool_norm = norm(2)
        self.stem = unit(2, 24, 5, stride=2, relu=False)
        self.block0 = DenseBlock(26, 4, 5, 12, 24, unit, keep, self.dilations[0])
        self.block1 = DenseBlock(24, 8, 10, 24, 24, unit, keep, self.dilations[1])
        self.block2 = DenseBlock(24, 16, 10, 24, None, unit, keep, self.dilations[2])
        shape = (3, 3, 3, 62, self.num_classes)
        self.head_kernel = self.param("head_kernel", he_truncated_normal, shape)
        self.head_bias = self.param(
            "head_bias", nn.initializers.zeros, (self.num_classes,)
        )

    def __call__(
        self, x: Array, *, train: bool = False, affine: Array | None = None
    ) -> Array:
        """Class logits of a batch of volumes.

        Args:
            x: (b, x, y, z, 2), whitened; sizes multiples of 8.
            train: batch statistics instead of the moving ones.
            affine: (b, 4, 4) NiftyNet's in-network augmentation in relative
                coordinates: the input is resampled by it, the logits by its inverse.

        Returns:
            (b, x, y, z, num_classes) float32.
        """
        if affine is not None:
            x = resample_affine(x, affine)
        logits = self.half_resolution(x, train=train)
        if affine is not None:
            logits = resample_affine(logits, invert_affine(affine))
        return upsample(logits, 2)

    def half_resolution(self, x: Array, *, train: bool = False) -> Array:
        """Logits before the last upsampling, (b, x/2, y/2, z/2, num_classes)."""
        if x.ndim != 5 or x.shape[-1] != 2 or any(n % 8 for n in x.shape[1:4]):
            raise ValueError(
                "the network takes (batch, x, y, z, 2) with sizes divisible by "
                f"{SIZE_MULTIPLE}, got {x.shape}"
            )
        x = x.astype(self.dtype)
        pooled = self.pool_norm(average_pool(x), train=train)
        x = jnp.concatenate([pooled, self.stem(x, train=train)], -1)
        skip0, down0 = self.block0(x, train=train)
        skip1, down1 = self.block1(down0, train=train)
        skip2, _ = self.block2(down1, train=train)
        features = [pooled, skip0, upsample(skip1, 2), upsample(skip2, 4)]
        x = jnp.concatenate(features, -1)
        logits = convolve(x, self.head_kernel.astype(self.dtype))
        return logits.astype(jnp.float32) + self.head_bias.reshape(1, 1, 1, 1, -1)


def average_pool(x: Array) -> Array:
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


def upsample(x: Array, factor: int) -> Array:
    """Trilinear upsampling of TensorFlow 1 (no half-pixel centres, edge repeated).

    Output ``i`` reads input ``i / factor``: the first of each group is a copy.
    """
    for axis in (2, 3, 1):
        after = jnp.concatenate(
            [
                lax.slice_in_dim(x, 1, None, axis=axis),
                lax.slice_in_dim(x, x.shape[axis] - 1, None, axis=axis),
            ],
            axis,
        )
        parts = [x + (after - x) * (k / factor) for k in range(factor)]
        shape = (*x.shape[:axis], x.shape[axis] * factor, *x.shape[axis + 1 :])
        x = jnp.stack(parts, axis + 1).reshape(shape)
    return x
