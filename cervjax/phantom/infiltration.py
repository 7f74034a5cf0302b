"""Where the fat lies inside muscles and loose tissue.

Infiltration follows the fasciae, is densest in the deep corner next to the vertebra,
and runs through the belly in streaks and patches along the fibres (Elliott et al.'s
descriptions of the multifidus); it is never white noise.
"""

from typing import NamedTuple

import numpy as np

from cervjax.anatomy import MUSCLES
from cervjax.phantom.body import Body
from cervjax.phantom.noise import TILE, smooth_tile, tiled
from cervjax.phantom.subject import Subject
from cervjax.phantom.tissues import TISSUES, column

NUM_MUSCLES = len(MUSCLES)
HIGHEST_FRACTION = 0.92
"""Of fat, anywhere in a muscle."""
_SPINE_Y_MM = -14.0


class Texture(NamedTuple):
    """How fat is spread in the muscles.

    Attributes:
        voxels: flat indices of all voxels of the 14 muscles in the body's grid.
        label: ``(n,)`` 1-14.
        relative: ``(n,)`` fat relative to the muscle's mean.
    """

    voxels: np.ndarray
    label: np.ndarray
    relative: np.ndarray


def muscle_texture(body: Body, subject: Subject) -> Texture:
    """Draws the distribution of fat within the muscles, mean 1 in each of them."""
    rng = np.random.default_rng([*subject.seed, 20])
    marbling = smooth_tile(rng, (7.0, 2.2, 2.2))
    fine = smooth_tile(rng, (9.0, 1.1, 1.1))
    patches = smooth_tile(rng, (9.0, 9.0, 9.0))
    muscle = (body.tissue >= 1) & (body.tissue <= NUM_MUSCLES)
    rows = [np.flatnonzero(muscle.any(axis)) for axis in ((1, 2), (0, 2), (0, 1))]
    box = tuple(slice(r[0], r[-1] + 1) for r in rows)
    inner = np.where(muscle[box], body.tissue[box], 0)
    at = np.nonzero(inner)
    label = inner[at]
    depth_mm = _depth(inner)[at] * body.step_mm[1]
    z, y, x = (i + s.start for i, s in zip(at, box, strict=True))
    strength = np.random.default_rng([*subject.seed, 21]).uniform(0.6, 1.4, (4, 15))
    strength[:, 2::2] = 0.7 * strength[:, 1:-1:2] + 0.3 * strength[:, 2::2]
    fascia, deep, streak, patch = strength[:, label]
    wrap = tuple(i % n for i, n in zip((z, y, x), TILE, strict=True))
    lines = np.exp(-((marbling[wrap] / 0.28) ** 2))
    threads = np.exp(-((fine[wrap] / 0.25) ** 2))
    cloud = 1 / (1 + np.exp(-2.2 * (patches[wrap] - 0.3)))
    relative = (
        0.30
        + 0.55 * fascia * np.exp(-depth_mm / 0.9)
        + 1.3 * deep * np.exp(-_corner_distance(body, z, y, x, label) / 7)
        + 2.4 * streak * (0.6 * lines + 0.4 * threads) * (0.25 + cloud)
        + 0.8 * patch * cloud
    )
    total = np.bincount(label, relative, 15) / np.maximum(np.bincount(label), 1)
    relative = (relative / total[label]).astype(np.float32)
    flat = np.asarray(np.ravel_multi_index((z, y, x), body.tissue.shape))
    return Texture(flat, label, relative)


def fat_fraction(body: Body, subject: Subject) -> np.ndarray:
    """Fat fraction of every tissue but the 14 muscles, 0-255 for 0-1, on its grid."""
    rng = np.random.default_rng([*subject.seed, 22])
    lobules = np.exp(-((smooth_tile(rng, (5.0, 4.5, 4.5)) / 0.16) ** 2))  # thin septa
    noise = smooth_tile(rng, (3.0, 3.2, 3.2)) + 0.7 * smooth_tile(rng, (2.0, 1.2, 1.2))
    noise = noise - 2.5 * (lobules - lobules.mean())
    own = rng.normal(0, [0.04, 0.05])
    mean, spread = column("fat_fraction"), column("texture")
    names = list(TISSUES)
    mean[names.index("marrow")] += own[0] + 0.004 * (subject.age_years - 34)
    mean[names.index("deep fat")] += own[1]
    mean, spread = (np.asarray(255 * v, np.float32) for v in (mean, spread))
    out = np.empty(body.tissue.shape, np.uint8)
    ny, nx = body.tissue.shape[1:]
    for k, plane in enumerate(body.tissue):
        value = mean[plane] + spread[plane] * tiled(noise, k, ny, nx)
        out[k] = np.clip(value, 0, 255 * 0.99) + 0.5
    return out


def with_muscle_fat(
    fraction: np.ndarray, texture: Texture, mean_fraction: np.ndarray
) -> np.ndarray:
    """The fat fraction with muscles filled in.

    Args:
        fraction: of `fat_fraction`; not changed.
        texture: of `muscle_texture`.
        mean_fraction: ``(15,)`` mean fat fraction of each label, before the cap of
            `HIGHEST_FRACTION`.
    """
    out = fraction.copy()
    value = mean_fraction[texture.label].astype(np.float32) * texture.relative
    filled = 255 * np.minimum(value, HIGHEST_FRACTION)
    # Rounded up or down by position, so that the mean of small fractions is kept.
    golden = np.uint64(11400714819323198485)
    dither = (texture.voxels.astype(np.uint64) * golden >> np.uint64(40)) % 256
    out.reshape(-1)[texture.voxels] = (
        filled + (dither + np.float32(0.5)) / 256
    ).astype(np.uint8)
    return out


def _depth(label: np.ndarray) -> np.ndarray:
    """Steps from each voxel of a muscle to its border in the plane, at most 6."""
    depth = np.zeros(label.shape, np.uint8)
    inside = label > 0
    while True:
        depth += inside
        if depth.max() >= 6:
            return depth
        kept = inside.copy()
        for axis in (1, 2):
            for step in (1, -1):
                near = np.roll(label, step, axis)
                kept &= (near == label) & np.roll(inside, step, axis)
        inside = kept


def _corner_distance(
    body: Body, z: np.ndarray, y: np.ndarray, x: np.ndarray, label: np.ndarray
) -> np.ndarray:
    """Distance in mm within the plane to the muscle's point next to the vertebra."""
    nz = body.tissue.shape[0]
    y_mm = body.first_mm[1] + body.step_mm[1] * y
    x_mm = body.first_mm[2] + body.step_mm[2] * x
    group = label.astype(np.intp) * nz + z
    order = np.lexsort((np.hypot(x_mm, y_mm - _SPINE_Y_MM), group))
    first = order[np.r_[True, np.diff(group[order]) > 0]]
    corner = np.zeros((15 * nz, 2))
    corner[group[first]] = np.stack([x_mm[first], y_mm[first]], 1)
    return np.hypot(x_mm - corner[group, 0], y_mm - corner[group, 1])
