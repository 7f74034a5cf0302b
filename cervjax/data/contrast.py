"""Scans of digital necks on the device: position, contrast and artefacts at random.

A step of training sees a neck that nobody has scanned before: its tissue map is moved,
then every tissue's signal is drawn anew, either as a two-point Dixon pair by the
physics of water and fat, or, in the manner of SynthSeg (Billot et al. 2023), wholly at
random and the same in both channels, so that the network learns shapes and not one
scanner's grey. Pure functions on arrays.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cervjax.anatomy import CLASS_PERMUTATION, LEVEL_CLASSES, MUSCLES
from cervjax.data.augment_intensity import Intensity, distort, smooth_field
from cervjax.data.augment_spatial import PerAxis, Size, Warp, nearest, random_index
from cervjax.phantom.signal import Sequence, fat_weights, water_weights
from cervjax.phantom.tissue_map import MAP_SPACING_MM
from cervjax.phantom.tissues import TISSUES, column
from cervjax.preprocessing.foreground import BRIGHTEST, FOREGROUND_SHARE

_NAMES = list(TISSUES)
_MUSCLES = np.array(
    [n in ("muscle", "tongue") or n in {str(m.label) for m in MUSCLES} for n in _NAMES]
)
_MARROW = np.array([n.startswith("marrow") for n in _NAMES])
_SUB = 2  # points of a voxel along z that are averaged


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
    texture: float = 0.12
    snr: tuple[float, float] = (6.0, 120.0)
    clip: float = 0.3
    blank_air: float = 0.35


@dataclass(frozen=True)
class Scanner:
    """Scans tissue maps, each once; all settings are static.

    Attributes:
        window: voxels of a scan along x, y, z.
        spacing_mm: of its voxels.
        warp: how necks are moved and deformed.
        contrast: how signals are drawn.
        intensity: changes after that.
    """

    window: Size
    spacing_mm: PerAxis
    warp: Warp
    contrast: Contrast
    intensity: Intensity

    def __call__(self, key: Array, codes: Array) -> tuple[Array, Array]:
        """Scans.

        Args:
            key: one for the batch.
            codes: uint16 (b, X, Y, Z) of `make_tissue_map`.

        Returns:
            Image float32 (b, x, y, z, 2), whitened over its foreground, and classes
            uint8 (b, x, y, z): 1-14 the muscles in their full length, 15-21 the bodies
            of C2 to T1.
        """
        keys = jax.random.split(key, len(codes))
        return jax.lax.map(lambda sample: self._one(*sample), (keys, codes))

    def _one(self, key: Array, codes: Array) -> tuple[Array, Array]:
        place, look, change = jax.random.split(key, 3)
        index, mirrored = _index(place, codes.shape, self)
        fine = _outside_is_air(nearest(codes, index), index, codes.shape)
        middle = (index[..., 0::_SUB] + index[..., 1::_SUB]) / _SUB
        seen = _outside_is_air(nearest(codes, middle), middle, codes.shape)
        classes = jnp.asarray(_class_table())[seen >> 8]
        other = jnp.asarray(CLASS_PERMUTATION, jnp.uint8)[classes]
        classes = jnp.where(mirrored, other, classes)
        pair = _signal(look, fine, self.contrast)
        pair = distort(change, pair[None], self.intensity)[0]
        return whiten_foreground(pair), classes


def whiten_foreground(image: Array) -> Array:
    """Mean 0 and standard deviation 1 over each channel's foreground.

    The same as `cervjax.preprocessing.foreground.whiten_foreground`.

    Args:
        image: (x, y, z, c).
    """
    voxels = {"axis": (0, 1, 2), "keepdims": True}
    height = image - image.min(**voxels)
    level = height.mean(**voxels)
    for _ in range(2):
        mask = height > FOREGROUND_SHARE * level
        count = jnp.maximum(mask.sum(**voxels), 1)
        level = jnp.where(mask, height, 0).sum(**voxels) / count
    height = jnp.minimum(height, BRIGHTEST * level)
    away = height - jnp.where(mask, height, 0).sum(**voxels) / count
    square = jnp.where(mask, away**2, 0).sum(**voxels) / count
    return away / jnp.maximum(jnp.sqrt(square), 1e-5)


def _class_table() -> np.ndarray:
    """The network's class of each tissue."""
    table = np.zeros(256, np.uint8)
    for code, name in enumerate(_NAMES):
        if name in {str(m.label) for m in MUSCLES}:
            table[code] = int(name)
        elif name.startswith("marrow "):
            table[code] = LEVEL_CLASSES[name.removeprefix("marrow ")]
    return table


def _index(key: Array, shape: tuple[int, ...], scanner: Scanner) -> tuple[Array, Array]:
    """Where in the map each point of the window is; `_SUB` points a voxel along z."""
    moves, shifts = jax.random.split(key)
    x, y, z = scanner.window
    fine = (x, y, _SUB * z)
    step = np.array(scanner.spacing_mm) / (1, 1, _SUB)
    index, mirrored = random_index(moves, fine, tuple(step.tolist()), scanner.warp)
    shift = jax.random.uniform(shifts, (3,), minval=-1)
    shift = shift * jnp.array(scanner.contrast.shift_mm)
    middle = (np.array(fine) - 1) / 2
    ratio = step / MAP_SPACING_MM
    base = (np.array(shape) - 1) / 2
    axes = (3, 1, 1, 1)
    index = (index - middle.reshape(axes)) * ratio.reshape(axes)
    middle_of_map = base + shift / np.array(MAP_SPACING_MM)
    return index + middle_of_map.reshape(axes), mirrored


def _outside_is_air(codes: Array, index: Array, shape: tuple[int, ...]) -> Array:
    """Beside, before and behind the map is air; above and below it goes on."""
    inside = [
        (index[axis] > -0.5) & (index[axis] < shape[axis] - 0.5) for axis in (0, 1)
    ]
    return jnp.where(inside[0] & inside[1], codes, 0)


def _signal(key: Array, fine: Array, contrast: Contrast) -> Array:
    """Magnitudes (x, y, z, 2) of points (x, y, z * _SUB)."""
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
    gain = jnp.exp(_log_gain(keys[3], water.shape, contrast))
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
    is_air = (density[tissue].reshape(*water.shape, _SUB).max(-1) == 0)[..., None]
    blank = jax.random.bernoulli(keys[11], contrast.blank_air)
    pair = jnp.where(blank & is_air, 0.0, pair)
    floor = muscle * jnp.maximum(
        jax.random.uniform(keys[12], minval=-0.6, maxval=0.4), 0
    )
    pair = pair + floor
    top = pair.mean() * jax.random.uniform(keys[9], minval=1.8, maxval=4.5)
    clipped = jax.random.bernoulli(keys[10], contrast.clip)
    return jnp.where(clipped, jnp.minimum(pair, top), pair)


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
    points = fine.reshape(*fine.shape[:2], -1, _SUB)
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


def _log_gain(key: Array, shape: tuple[int, ...], contrast: Contrast) -> Array:
    """Coils' shading and slow texture, (x, y, z)."""
    keys = jax.random.split(key, 4)
    slope = contrast.slope * jax.random.normal(keys[0])
    run = jnp.linspace(-1, 1, shape[1])[None, :, None]
    amount = jax.random.uniform(keys[1], maxval=contrast.texture)
    coarse = tuple(max(n // 4, 1) for n in shape)
    texture = jax.image.resize(jax.random.normal(keys[2], coarse), shape, "linear")
    field = smooth_field(jax.random.normal(keys[3], (1, 4, 4, 4)), shape)[0]
    return slope * run + amount * texture + 0.25 * field
