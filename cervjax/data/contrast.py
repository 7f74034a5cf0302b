"""How necks look in scans, drawn on the device: contrast and artefacts at random.

A step of training sees a neck that nobody has scanned before: its tissue map is moved,
then every tissue's signal is drawn anew, either as a two-point Dixon pair by the
physics of water and fat, or, in the manner of SynthSeg (Billot et al. 2023), wholly at
random and the same in both channels, so that the network learns shapes and not one
scanner's grey. Pure functions on arrays.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cervjax.anatomy import MUSCLES
from cervjax.data.augment_intensity import smooth_field
from cervjax.data.augment_spatial import PerAxis
from cervjax.phantom.signal import Sequence, fat_weights, water_weights
from cervjax.phantom.tissues import TISSUES, column

_NAMES = list(TISSUES)
_MUSCLES = np.array(
    [n in ("muscle", "tongue") or n in {str(m.label) for m in MUSCLES} for n in _NAMES]
)
_MARROW = np.array([n.startswith("marrow") for n in _NAMES])
SUB = 2
"""Points of a voxel along z that are averaged."""
DIMMEST = 0.02
"""Grey of muscle, at least, of white, by which an image is scaled."""
DARKEST = -3.0
"""Log gain below which a muscle cannot be seen."""


class Contrast(NamedTuple):
    """How scans are drawn; static.

    Attributes:
        dixon: share of true Dixon pairs; the others have one contrast in both channels.
        unordered: share of the others whose tissues are drawn wholly at random, not in
            the order that they have in most sequences.
        alike: share of the others whose watery tissues differ little, so that fat
            alone stands out, as in T1-weighted images.
        shift_mm: +-, of the window's middle along x, y, z. Wide, or the network learns
            where in a window things are, and not what they look like.
        slope: standard deviation of the coils' log gain from front to back.
        loss: probability that the coils see nothing beyond some line.
        texture: highest standard deviation of the smooth log gain within tissues.
        snr: lowest and highest signal of muscle over noise.
        clip: probability that bright voxels are cut off.
        blank_air: probability that the air holds no noise.
    """

    dixon: float = 0.4
    unordered: float = 0.45
    alike: float = 0.35
    shift_mm: PerAxis = (50.0, 45.0, 32.0)
    slope: float = 0.7
    loss: float = 0.25
    texture: float = 0.12
    snr: tuple[float, float] = (6.0, 120.0)
    clip: float = 0.3
    blank_air: float = 0.35


def of_tissues(key: Array, fine: Array, log_gain: Array, contrast: Contrast) -> Array:
    """Magnitudes of a digital neck.

    Args:
        key: draws the contrast.
        fine: uint16 codes (x, y, z * SUB) of `make_tissue_map`.
        log_gain: (x, y, z).
        contrast: static.

    Returns:
        (x, y, z, 2).
    """
    keys = jax.random.split(key, 13)
    is_dixon = jax.random.bernoulli(keys[0], contrast.dixon)
    water_table, fat_level, muscle = _tables(keys[1], is_dixon, contrast)
    tissue, share = fine >> 8, (fine & 255).astype(jnp.float32) / 255
    table = jnp.concatenate([water_table, jnp.zeros(256 - len(_NAMES))])
    density = (
        jnp.zeros(256)
        .at[: len(_NAMES)]
        .set(jnp.asarray(column("proton_density"), jnp.float32))
    )
    water = _partial(keys[2], table[tissue] * (1 - share))
    fat = _partial(keys[2], density[tissue] * share * fat_level)
    gain = jnp.exp(log_gain)
    loss = jax.random.uniform(keys[4], minval=0.75, maxval=1.0)
    together = (water + fat) * gain
    apart = jnp.abs(water - loss * fat) * gain
    line = fat / (water + fat + 1e-4)
    depth = jax.random.uniform(keys[5], maxval=0.8)
    depth = depth * jax.random.bernoulli(keys[6], 0.4)
    single = together * (1 - depth * 4 * line * (1 - line))
    pair = jnp.stack(
        [
            jnp.where(is_dixon, together, single),
            jnp.where(is_dixon, apart, single),
        ],
        -1,
    )
    low, high = contrast.snr
    snr = low * (high / low) ** jax.random.uniform(keys[7])
    noise = muscle / snr * jax.random.normal(keys[8], (2, *pair.shape))
    # One contrast twice is one image: its noise is the same in both channels.
    noise = jnp.where(is_dixon, noise, noise[..., :1])
    pair = jnp.sqrt((pair + noise[0]) ** 2 + noise[1] ** 2)
    # Some scanners blank the air; some images have a floor above zero.
    is_air = (density[tissue].reshape(*water.shape, SUB).max(-1) == 0)[..., None]
    blank = jax.random.bernoulli(keys[11], contrast.blank_air)
    pair = jnp.where(blank & is_air, 0.0, pair)
    floor = muscle * jnp.maximum(
        jax.random.uniform(keys[12], minval=-0.6, maxval=0.4), 0
    )
    return _clipped(keys[9], keys[10], pair + floor, contrast)


def of_image(key: Array, fine: Array, log_gain: Array, contrast: Contrast) -> Array:
    """Magnitudes of a real image, its greys changed, the same in both channels.

    Args:
        key: draws the changes.
        fine: uint16 codes (x, y, z * SUB) of `make_image_map`.
        log_gain: (x, y, z).
        contrast: static.

    Returns:
        (x, y, z, 2).
    """
    keys = jax.random.split(key, 9)
    grey = _partial(keys[0], (fine & 255).astype(jnp.float32) / 255)
    muscle = jnp.asarray(_MUSCLES)[jnp.minimum(fine[..., ::SUB] >> 8, len(_NAMES) - 1)]
    of_muscle = (grey * muscle).sum() / jnp.maximum(muscle.sum(), 1)
    of_muscle = jnp.maximum(of_muscle, DIMMEST)  # a window may hold no muscle
    # Knots lie closer where muscle and what parts muscles are; some curves fall.
    knots = of_muscle * jnp.array([0, 0.5, 0.8, 1, 1.25, 1.6, 2.4, 8])
    heights = jnp.array([0, 0.5, 0.8, 1, 1.25, 1.6, 2.4, 3.4])
    bent = jax.random.uniform(keys[1], maxval=0.4) * jax.random.normal(keys[2], (8,))
    heights = jnp.maximum(heights + bent * jnp.minimum(heights, 1.2), 0)
    changed = jax.random.bernoulli(keys[3], 0.6)
    value = jnp.where(changed, jnp.interp(grey, knots, heights), grey / of_muscle)
    value = value * jnp.exp(log_gain)
    low, high = contrast.snr  # the image has noise of its own
    snr = 2 * low * (high / low) ** jax.random.uniform(keys[5])
    noise = jax.random.normal(keys[6], (2, *grey.shape)) / snr
    value = jnp.sqrt((value + noise[0]) ** 2 + noise[1] ** 2)
    value = _clipped(keys[7], keys[8], value, contrast)
    return jnp.stack([value, value], -1)


def _clipped(level: Array, chance: Array, value: Array, contrast: Contrast) -> Array:
    """Some scanners cut off what is bright."""
    top = value.mean() * jax.random.uniform(level, minval=1.8, maxval=4.5)
    is_cut = jax.random.bernoulli(chance, contrast.clip)
    return jnp.where(is_cut, jnp.minimum(value, top), value)


def _tables(
    key: Array, is_dixon: Array, contrast: Contrast
) -> tuple[Array, Array, Array]:
    """Signal of water per tissue, of pure fat, and of muscle."""
    keys = jax.random.split(key, 11)
    count = len(_NAMES)
    physical = jnp.asarray(water_weights(Sequence())[:, 0] * column("proton_density"))
    physical = physical / physical[_NAMES.index("muscle")]
    of_fat = float(np.abs(fat_weights(Sequence())[0]))
    of_fat /= float(water_weights(Sequence())[_NAMES.index("muscle"), 0])
    spread = jnp.where(is_dixon, 0.15, 0.45)
    ordered = physical * jnp.exp(spread * jax.random.normal(keys[0], (count,)))
    random = jax.random.uniform(keys[1], (count,), minval=0.05, maxval=2.0)
    free = jax.random.bernoulli(keys[2], contrast.unordered) & ~is_dixon
    table = jnp.where(free, random, ordered)
    own = jnp.exp(0.07 * jax.random.normal(keys[3], (count,)))
    for alike in (_MUSCLES, _MARROW):
        first = int(np.flatnonzero(alike)[0])
        table = jnp.where(jnp.asarray(alike), table[first] * own, table)
    muscle = table[_NAMES.index("muscle")]
    less = jax.random.uniform(keys[9], minval=0.3, maxval=0.9)
    alike = jax.random.bernoulli(keys[10], contrast.alike) & ~is_dixon
    table = jnp.where(alike, muscle + (1 - less) * (table - muscle), table)
    table = table.at[0].set(0.0)
    bright = of_fat * jnp.exp(0.3 * jax.random.normal(keys[4]))
    dark = jax.random.uniform(keys[5], minval=0.02, maxval=0.4)
    suppressed = jax.random.bernoulli(keys[6], 0.25)
    single = jnp.where(suppressed, dark, bright * 0.8) * muscle
    any_level = jax.random.uniform(keys[7], minval=0.02, maxval=2.2)
    single = jnp.where(free, any_level, single)
    return table, jnp.where(is_dixon, bright, single), muscle


def _partial(key: Array, fine: Array) -> Array:
    """Averages the points of a voxel, and blurs in the plane by a random amount."""
    points = fine.reshape(*fine.shape[:2], -1, SUB)
    value = points.mean(-1)
    side = jax.random.uniform(key, (2,), minval=0.05, maxval=0.27)
    for axis in (0, 1):
        pad = [(1, 1) if a == axis else (0, 0) for a in range(3)]
        wide = jnp.pad(value, pad, mode="edge")
        n = value.shape[axis]
        before, after = (
            jax.lax.slice_in_dim(wide, k, k + n, axis=axis) for k in (0, 2)
        )
        value = (1 - 2 * side[axis]) * value + side[axis] * (before + after)
    return value


def log_gain(
    key: Array, shape: tuple[int, ...], spacing_mm: PerAxis, contrast: Contrast
) -> Array:
    """Coils' shading, slow texture, and where signal is lost.

    Args:
        key: draws.
        shape: (x, y, z) of the scan, static.
        spacing_mm: of its voxels.
        contrast: static.

    Returns:
        (x, y, z).
    """
    keys = jax.random.split(key, 5)
    slope = contrast.slope * jax.random.normal(keys[0])
    run = jnp.linspace(-1, 1, shape[1])[None, :, None]
    amount = jax.random.uniform(keys[1], maxval=contrast.texture)
    coarse = tuple(max(n // 4, 1) for n in shape)
    texture = jax.image.resize(jax.random.normal(keys[2], coarse), shape, "linear")
    field = smooth_field(jax.random.normal(keys[3], (1, 4, 4, 4)), shape)[0]
    gain = slope * run + amount * texture + 0.25 * field
    if not contrast.loss:
        return gain
    return gain - _loss(keys[4], shape, spacing_mm, contrast.loss)


def _loss(
    key: Array, shape: tuple[int, ...], spacing_mm: PerAxis, probability: float
) -> Array:
    """Of log gain beyond a line, at the side of the neck more often than behind it."""
    keys = jax.random.split(key, 4)
    x, y = (
        s * (jnp.arange(n) - (n - 1) / 2)
        for s, n in zip(spacing_mm[:2], shape[:2], strict=True)
    )
    angle = jnp.pi * jax.random.bernoulli(keys[0]) + 0.5 * jax.random.normal(keys[1])
    away = x[:, None] * jnp.cos(angle) + y[None] * jnp.sin(angle)
    begins = jax.random.uniform(keys[2], minval=5.0, maxval=50.0)
    per_mm = jax.random.uniform(keys[3], minval=0.08, maxval=0.3)
    loss = jax.nn.softplus(0.3 * (away - begins)) / 0.3 * per_mm
    is_lost = jax.random.bernoulli(jax.random.fold_in(key, 1), probability)
    return jnp.where(is_lost, loss, 0.0)[..., None]
