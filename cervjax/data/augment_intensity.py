"""Changes of intensity for training: pure functions on arrays.

Images are whitened float32 ``(b, x, y, z, c)``: mean 0 and standard deviation 1 over
the foreground, and air, the lowest value, near -1. What multiplies acts on the height
above each channel's lowest value, so that air stays air; `apply_curve` moves it.
Results are not clipped.
"""

import math
from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

PerAxis = tuple[float, float, float]

_VOXELS = (1, 2, 3)
_DEGREE = 3
_WAVES = 3


class Intensity(NamedTuple):
    """How much images are changed; 0 is off, and costs nothing. Static.

    In the order of application:

    Attributes:
        bias_field: standard deviation of the log gain of a smooth field, shared by the
            channels, which have the same coils.
        low_resolution: a voxel's width along x, y, z is blurred to a factor of
            1 ... 1 + this.
        noise: Gaussian, its standard deviation uniform in 0 ... this.
        gamma: standard deviation of the log exponent, per channel.
        intensity_curve: standard deviation of the waves that are added to the curve of
            output over input intensity, per channel; above about 0.2 tissues may
            exchange their order.
        contrast: standard deviation of the log factor, per channel.
        brightness: standard deviation of what is added, per channel.
        channel_mix: probability that all channels become one of them, drawn at random.
    """

    bias_field: float = 0.0
    low_resolution: PerAxis = (0.0, 0.0, 0.0)
    noise: float = 0.0
    gamma: float = 0.0
    intensity_curve: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    channel_mix: float = 0.0


def distort(key: Array, image: Array, settings: Intensity) -> Array:
    """Changes each sample at random; an option's draw does not depend on the others.

    Args:
        key: one for the batch.
        image: (b, x, y, z, c).
        settings: static.

    Returns:
        Same shape and type.
    """
    steps = {
        "bias_field": random_bias_field,
        "low_resolution": random_low_resolution,
        "noise": random_noise,
        "gamma": random_gamma,
        "intensity_curve": random_intensity_curve,
        "contrast": random_contrast,
        "brightness": random_brightness,
        "channel_mix": random_channel_mix,
    }
    for (name, step), k in zip(
        steps.items(), jax.random.split(key, len(steps)), strict=True
    ):
        amount = getattr(settings, name)
        if np.any(amount):
            image = step(k, image, amount)
    return image


def distort_some(
    key: Array, image: Array, usual: Intensity, other: Intensity, share: float
) -> Array:
    """`distort`, by other settings for a ``share`` of the samples, drawn at random.

    Args:
        key: one for the batch.
        image: (b, x, y, z, c).
        usual: static.
        other: static, such as those of another protocol.
        share: from 0 to 1.

    Returns:
        Same shape and type.
    """
    which, keys = jax.random.split(key)

    def one(sample: tuple[Array, Array, Array]) -> Array:
        is_other, key, image = sample
        changes = (partial(distort, settings=s) for s in (other, usual))
        return lax.cond(is_other, *changes, key, image[None])[0]

    chosen = jax.random.bernoulli(which, share, (len(image),))
    return lax.map(one, (chosen, jax.random.split(keys, len(image)), image))


def random_bias_field(key: Array, image: Array, sd: float) -> Array:
    """`scale` by the exponential of a `smooth_field`."""
    terms = (len(image), _DEGREE + 1, _DEGREE + 1, _DEGREE + 1)
    field = smooth_field(jax.random.normal(key, terms), image.shape[1:4])
    return scale(image, jnp.exp(sd * field)[..., None])


def random_low_resolution(key: Array, image: Array, extra: PerAxis) -> Array:
    """`blur` by factors uniform in 1 ... 1 + ``extra``."""
    share = jax.random.uniform(key, (len(image), 3))
    x, y, z = extra
    factor = 1 + share * np.array(extra, "f4")[None]
    return blur(image, factor, highest=(1 + x, 1 + y, 1 + z))


def random_noise(key: Array, image: Array, highest: float) -> Array:
    """Adds noise of a standard deviation uniform in 0 ... ``highest``."""
    level, values = jax.random.split(key)
    sd = jax.random.uniform(level, (len(image), 1, 1, 1, 1), maxval=highest)
    return image + sd * jax.random.normal(values, image.shape, image.dtype)


def random_gamma(key: Array, image: Array, sd: float) -> Array:
    """`power` with a log-normal exponent."""
    return power(image, jnp.exp(sd * _per_channel(key, image)))


def random_intensity_curve(key: Array, image: Array, sd: float) -> Array:
    """`apply_curve` with normal heights."""
    shape = (_WAVES, len(image), 1, 1, 1, image.shape[4])
    return apply_curve(image, sd * jax.random.normal(key, shape, image.dtype))


def random_contrast(key: Array, image: Array, sd: float) -> Array:
    """`scale` by a log-normal factor."""
    return scale(image, jnp.exp(sd * _per_channel(key, image)))


def random_brightness(key: Array, image: Array, sd: float) -> Array:
    """Adds a normal number."""
    return image + sd * _per_channel(key, image)


def random_channel_mix(key: Array, image: Array, probability: float) -> Array:
    """Replaces, in some samples, all channels by one of them."""
    which, whether = jax.random.split(key)
    shape = (len(image), 1, 1, 1, 1)
    channel = jax.random.randint(which, shape, 0, image.shape[4])
    one = jnp.take_along_axis(image, channel, axis=4)
    return jnp.where(jax.random.bernoulli(whether, probability, shape), one, image)


def smooth_field(coefficients: Array, shape: tuple[int, ...]) -> Array:
    """A polynomial of low total degree, from normalised Legendre polynomials.

    Args:
        coefficients: (b, d + 1, d + 1, d + 1); standard normal ones give a field of
            mean square 1 over draws and voxels. The constant is not used, nor are
            total degrees above d.
        shape: of the volume.

    Returns:
        (b, x, y, z), mean 0 over the voxels of each.
    """
    count = coefficients.shape[1]
    degree = np.indices((count, count, count)).sum(0)
    used = (degree > 0) & (degree < count)
    field = coefficients * jnp.asarray(used / math.sqrt(used.sum()), "f4")[None]
    for axis, n in enumerate(shape, start=1):
        middles = (2 * np.arange(n) + 1) / n - 1
        basis = np.polynomial.legendre.legvander(middles, count - 1)
        basis = jnp.asarray(basis * np.sqrt(2 * np.arange(count) + 1), "f4")
        field = jnp.tensordot(
            field, basis, ([axis], [1]), precision=lax.Precision.HIGHEST
        )
        field = jnp.moveaxis(field, -1, axis)
    return field - field.mean(_VOXELS, keepdims=True)


def scale(image: Array, gain: Array) -> Array:
    """Multiplies heights above each channel's lowest value.

    Args:
        image: (b, x, y, z, c).
        gain: of the same rank.
    """
    low = image.min(_VOXELS, keepdims=True)
    return low + (image - low) * gain


def power(image: Array, exponent: Array) -> Array:
    """Raises what each channel's range makes of 0 ... 1 to a power; the range stays.

    Args:
        image: (b, x, y, z, c).
        exponent: (b, 1, 1, 1, c) or (b, 1, 1, 1, 1), positive.
    """
    low = image.min(_VOXELS, keepdims=True)
    span = image.max(_VOXELS, keepdims=True) - low
    return low + span * ((image - low) / jnp.where(span > 0, span, 1)) ** exponent


def apply_curve(image: Array, heights: Array) -> Array:
    """Adds waves to the curve of output over input intensity of each channel.

    The mean and standard deviation of the channel stay.

    The waves run from the lowest value to 2 standard deviations above the mean.

    Args:
        image: (b, x, y, z, c).
        heights: (k, b, 1, 1, 1, c) of ``sin(pi n v) / n``, n from 1 to k, as shares of
            that range, which is v's 0 ... 1.
    """
    low, mean = image.min(_VOXELS, keepdims=True), image.mean(_VOXELS, keepdims=True)
    sd = image.std(_VOXELS, keepdims=True)
    span = jnp.where(sd > 0, mean + 2 * sd - low, 1)
    phase = np.pi * jnp.clip((image - low) / span, 0, 1)
    waves = (h * jnp.sin(n * phase) / n for n, h in enumerate(heights, start=1))
    changed = image + span * reduce(jnp.add, waves)
    away = changed - changed.mean(_VOXELS, keepdims=True)
    new_sd = away.std(_VOXELS, keepdims=True)
    return mean + away * sd / jnp.where(new_sd > 0, new_sd, 1)


def blur(image: Array, factor: Array, highest: PerAxis) -> Array:
    """Gaussian blur as if voxels were wider; the mean over the volume stays.

    The widths at half height, 1 voxel and the blur's, add in squares to ``factor``.
    Beyond the border is its mirror image.

    Args:
        image: (b, x, y, z, c).
        factor: (b, 3) along x, y, z; 1 ... ``highest``.
        highest: per axis, static, for the sizes of the kernels.
    """
    variance = (factor**2 - 1) / (8 * math.log(2))
    for axis, most in zip(_VOXELS, highest, strict=True):
        radius = math.ceil(3 * math.sqrt((most**2 - 1) / (8 * math.log(2))))
        away = np.arange(-radius, radius + 1)
        twice = jnp.maximum(2 * variance[:, axis - 1, None], 1e-6)
        weights = jax.nn.softmax(-jnp.asarray(away[None] ** 2) / twice)
        pad = [(radius, radius) if a == axis else (0, 0) for a in range(5)]
        padded, n = jnp.pad(image, pad, mode="symmetric"), image.shape[axis]
        parts = [
            weights[:, k].reshape(-1, 1, 1, 1, 1)
            * lax.slice_in_dim(padded, k, k + n, axis=axis)
            for k in range(len(away))
        ]
        image = reduce(jnp.add, parts)
    return image


def _per_channel(key: Array, image: Array) -> Array:
    return jax.random.normal(key, (len(image), 1, 1, 1, image.shape[4]), image.dtype)
