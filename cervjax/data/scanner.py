"""Scans of maps on the device: a window lies anywhere, the neck is moved and deformed.

What the voxels then look like is `cervjax.data.contrast`'s. Pure functions on arrays.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cervjax.anatomy import CLASS_PERMUTATION, LEVEL_CLASSES, MUSCLES
from cervjax.data.augment_intensity import Intensity, distort
from cervjax.data.augment_spatial import PerAxis, Size, Warp, nearest, random_index
from cervjax.data.contrast import DARKEST, SUB, Contrast, log_gain, of_image, of_tissues
from cervjax.phantom.tissue_map import MAP_SPACING_MM
from cervjax.phantom.tissues import TISSUES
from cervjax.preprocessing.foreground import BRIGHTEST, FOREGROUND_SHARE

_NAMES = list(TISSUES)


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

    def __call__(
        self, key: Array, codes: Array, is_image: Array | None = None
    ) -> tuple[Array, Array]:
        """Scans.

        Args:
            key: one for the batch.
            codes: uint16 (b, X, Y, Z) of `make_tissue_map` or `make_image_map`.
            is_image: bool (b,) which ones are of the latter; none by default.

        Returns:
            Image float32 (b, x, y, z, 2), whitened over its foreground, and classes
            uint8 (b, x, y, z): 1-14 the muscles in their full length, 15-21 the bodies
            of C2 to T1.
        """
        keys = jax.random.split(key, len(codes))
        if is_image is None:
            return jax.lax.map(lambda s: self._one(s[0], s[1], None), (keys, codes))
        return jax.lax.map(lambda s: self._one(*s), (keys, codes, is_image))

    def _one(
        self, key: Array, codes: Array, is_image: Array | None
    ) -> tuple[Array, Array]:
        place, look, change, coils = jax.random.split(key, 4)
        index, mirrored = _index(place, codes.shape, self)
        fine = _outside_is_air(nearest(codes, index), index, codes.shape)
        middle = (index[..., 0::SUB] + index[..., 1::SUB]) / SUB
        seen = _outside_is_air(nearest(codes, middle), middle, codes.shape)
        classes = jnp.asarray(_class_table())[seen >> 8]
        other = jnp.asarray(CLASS_PERMUTATION, jnp.uint8)[classes]
        classes = jnp.where(mirrored, other, classes)
        gain = log_gain(coils, self.window, self.spacing_mm, self.contrast)
        classes = jnp.where(gain < DARKEST, 0, classes)  # nobody outlines noise
        if is_image is None:
            pair = of_tissues(look, fine, gain, self.contrast)
        else:
            ways = [partial(f, contrast=self.contrast) for f in (of_image, of_tissues)]
            pair = jax.lax.cond(is_image, *ways, look, fine, gain)
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
    """Where in the map each point of the window is; `SUB` points a voxel along z."""
    moves, shifts = jax.random.split(key)
    x, y, z = scanner.window
    fine = (x, y, SUB * z)
    step = np.array(scanner.spacing_mm) / (1, 1, SUB)
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
