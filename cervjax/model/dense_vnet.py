"""The dense V-Net of Gibson et al. 2018, as NiftyNet 0.6.0 builds it (Flax linen).

Parameter for parameter the network of Weber et al. 2021: 893,321 trainable numbers in
97 tensors. Tensors are ``(batch, x, y, z, channel)``; channel 0 is in-phase, 1 is
out-of-phase. "Functional" means linen: parameters and statistics are plain dicts that
go into ``apply`` and come out of it. `flax.linen` is used here and in `layers` only.
"""

from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from cervjax.anatomy import NUM_CLASSES
from cervjax.model.affine import invert_affine, resample_affine
from cervjax.model.constant_margin import ConstantMargin, Layer
from cervjax.model.convolution import Lowering, convolve
from cervjax.model.layers import (
    BatchNorm,
    DenseBlock,
    Unit,
    average_pool,
    he_truncated_normal,
)
from cervjax.model.region import Region, cut, grow, moved, needed
from cervjax.model.upsampled_convolution import convolve_upsampled
from cervjax.model.upsampling import upsample

SIZE_MULTIPLE = 8
"""Every spatial size of the input must be a multiple of this."""

STEM_KERNEL = 5
INPUT_CHANNELS = 2
"""In-phase and out-of-phase."""

Remat = Literal["nothing", "units", "blocks"]


@dataclass(frozen=True)
class Architecture:
    """The numbers that make one dense V-Net; the defaults are Gibson et al.'s.

    Three dense blocks work at a half, a quarter and an eighth of the resolution.

    Attributes:
        units: convolutions of each block.
        growth: features that each convolution of a block adds.
        skips: features that each block hands to the head.
        stem: features of the first convolution.
        downs: features that the first two blocks hand to the next.
        classes: classes, background included.
    """

    units: tuple[int, int, int] = (5, 10, 10)
    growth: tuple[int, int, int] = (4, 8, 16)
    skips: tuple[int, int, int] = (12, 24, 24)
    stem: int = 24
    downs: tuple[int, int] = (24, 24)
    classes: int = NUM_CLASSES

    def __post_init__(self):
        """Raises ValueError unless all numbers are there and positive."""
        for field in fields(self):
            value = getattr(self, field.name)
            many = len(field.default) if isinstance(field.default, tuple) else 1
            numbers = value if isinstance(value, tuple) else (value,)
            whole = all(isinstance(n, int) and n > 0 for n in numbers)
            if not whole or len(numbers) != many:
                raise ValueError(
                    f"architecture: {field.name} must be {many} whole numbers "
                    f"above 0, got {value!r}"
                )

    @property
    def block_inputs(self) -> tuple[int, ...]:
        """Features that enter each block; the first gets the pooled image, too."""
        return (INPUT_CHANNELS + self.stem, *self.downs)

    @property
    def head_inputs(self) -> int:
        """Features that enter the last convolution: pooled image and all skips."""
        return INPUT_CHANNELS + sum(self.skips)


PUBLISHED = Architecture()
"""The network of Weber et al. 2021."""


class DenseVNet(nn.Module):
    """Dense V-Net; the defaults are the published network.

    Attributes:
        architecture: numbers of layers and features.
        keep_prob: element dropout after every unit but a block's last (training).
        spatial_keep_prob: dropout of whole channels, one draw for the batch; the paper
            names it, its software leaves it off.
        dilations: rate of each block; the paper names dilation, its software uses 1.
        debias_statistics: NiftyNet's moving statistics, see `BatchNorm`.
        axis_name: mapped axis over which batch statistics are taken.
        dtype: of the activations; bfloat16 is for accelerators.
        remat: what the backward pass of training computes again instead of keeping it:
            "nothing", the inside of all "units", or whole dense "blocks".
        lowering: of the convolutions, see `convolve`.
    """

    architecture: Architecture = PUBLISHED
    keep_prob: float = 1.0
    spatial_keep_prob: float = 1.0
    dilations: tuple[int, int, int] = (1, 1, 1)
    debias_statistics: bool = True
    axis_name: str | None = None
    dtype: Any = jnp.float32
    remat: Remat = "nothing"
    lowering: Lowering = "auto"

    def setup(self):
        """Declares the layers."""
        if self.remat not in get_args(Remat):
            raise ValueError(
                f"remat must be one of {get_args(Remat)}, got {self.remat!r}"
            )

        def norm(features: int, name: str | None = None) -> BatchNorm:
            return BatchNorm(
                features, self.debias_statistics, self.axis_name, name=name
            )

        def unit(*args: Any, **kwargs: Any) -> Unit:
            again = nn.remat(Unit, static_argnums=(2,))
            module = again if self.remat == "units" else Unit
            return module(*args, **kwargs, norm=norm, lowering=self.lowering)

        def block(i: int, down_features: int | None) -> DenseBlock:
            again = nn.remat(DenseBlock, static_argnums=(2, 3))
            module: Any = again if self.remat == "blocks" else DenseBlock
            return module(
                in_features=a.block_inputs[i],
                features=a.growth[i],
                num_units=a.units[i],
                skip_features=a.skips[i],
                down_features=down_features,
                unit=unit,
                keep_probs=(self.keep_prob, self.spatial_keep_prob),
                dilation=self.dilations[i],
            )

        a = self.architecture
        self.pool_norm = norm(INPUT_CHANNELS)
        self.stem = unit(INPUT_CHANNELS, a.stem, STEM_KERNEL, stride=2, relu=False)
        self.block0 = block(0, a.downs[0])
        self.block1 = block(1, a.downs[1])
        self.block2 = block(2, None)
        shape = (3, 3, 3, a.head_inputs, a.classes)
        self.head_kernel = self.param("head_kernel", he_truncated_normal, shape)
        self.head_bias = self.param("head_bias", nn.initializers.zeros, (a.classes,))

    def __call__(
        self,
        x: Float[Array, "b x y z 2"],
        *,
        train: bool = False,
        affine: Float[Array, "b 4 4"] | None = None,
    ) -> Float[Array, "b x y z classes"]:
        """Class logits of a batch of volumes.

        Args:
            x: (b, x, y, z, 2), whitened; sizes multiples of 8.
            train: batch statistics instead of the moving ones.
            affine: (b, 4, 4) NiftyNet's in-network augmentation in relative
                coordinates: the input is resampled by it, the logits by its inverse.

        Returns:
            (b, x, y, z, classes) float32.
        """
        if affine is not None:
            x = resample_affine(x, affine)
        logits = self.half_resolution(x, train=train)
        if affine is not None:
            logits = resample_affine(logits, invert_affine(affine))
        return upsample(logits, 2)

    def half_resolution(
        self,
        x: Float[Array, "b x y z 2"],
        *,
        train: bool = False,
        region: Region | None = None,
        flat: tuple[int, ...] = (0, 0, 0),
    ) -> Float[Array, "b _ _ _ classes"]:
        """Logits before the last upsampling, (b, x/2, y/2, z/2, classes).

        Args:
            x: as in `__call__`.
            train: as in `__call__`; not with the next two.
            region: at half resolution, the part that is wanted (None: all). It is equal
                to what it is in the whole; what it does not depend on is not computed.
            flat: voxels at both ends of each axis along which ``x`` does not change,
                and which ``region`` leaves out. Most of what the first block makes of
                them is then computed once.

        Raises:
            ValueError: the shape does not fit, or the region reaches into flat ends.
        """
        odd = any(n % SIZE_MULTIPLE for n in x.shape[1:4])
        if x.ndim != 5 or x.shape[-1] != INPUT_CHANNELS or odd:
            raise ValueError(
                "the network takes (batch, x, y, z, 2) with sizes divisible by "
                f"{SIZE_MULTIPLE}, got {x.shape}"
            )
        x = x.astype(self.dtype)
        sizes = [tuple(n // d for n in x.shape[1:4]) for d in (2, 4, 8)]
        region = region or tuple((0, n) for n in sizes[0])
        around = grow(region, sizes[0])  # what the last convolution reads
        margin = self._first_block_margin()
        spared = margin.spared(flat)
        margin.check(around, sizes[0], spared)
        spans = zip(spared, x.shape[1:4], strict=True)
        x = cut(x, tuple((s, n - s) for s, n in spans))
        here = moved(around, [s // 2 for s in spared])
        pooled = self.pool_norm(average_pool(x), train=train)
        stem = self.stem([x], train)
        skip, x = self.block0([pooled, stem], train, here)
        x = margin.restored(x, spared)
        # What the head reads at a quarter of the resolution.
        quarter = needed(around, 2, sizes[1])
        skip1, x = self.block1([x], train, quarter)
        eighth = needed(quarter, 2, sizes[2])
        skip2, _ = self.block2([x], train, eighth)
        skip2 = cut(upsample(skip2, 2), moved(quarter, [2 * f for f, _ in eighth]))
        logits = self._head([cut(pooled, here), skip], [skip1, skip2], around, quarter)
        logits = cut(logits, moved(region, [first for first, _ in around]))
        return logits.astype(jnp.float32) + self.head_bias.reshape(1, 1, 1, 1, -1)

    def _head(
        self, fine: list[Array], coarse: list[Array], around: Region, quarter: Region
    ) -> Array:
        """Logits of ``around``, without their bias, of features that reach as far.

        ``coarse`` features are those of ``quarter``, at half the resolution.
        """
        kernel = self.head_kernel.astype(self.dtype)
        channels = sum(part.shape[-1] for part in fine)
        logits = convolve(fine, kernel[..., :channels, :], lowering=self.lowering)
        rest = convolve_upsampled(
            jnp.concatenate(coarse, -1),
            kernel[..., channels:, :],
            lowering=self.lowering,
        )
        return logits + cut(rest, moved(around, [2 * first for first, _ in quarter]))

    def _first_block_margin(self) -> ConstantMargin:
        """Of the way through stem, units and downsampling."""
        unit = Layer(1 + 2 * self.dilations[0])  # a kernel of 3, spread
        units = [unit] * self.architecture.units[0]
        return ConstantMargin.of([Layer(STEM_KERNEL, 2), *units, Layer(3, 2)])
