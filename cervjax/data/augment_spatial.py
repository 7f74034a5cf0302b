"""Spatial augmentation on the device: pure functions on arrays.

Volumes are ``(b, x, y, z, c)``; x is left-right, y front-back, z along the spine.
Maps pull: they say for a voxel of the result where in the source its value is.
"""

from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from cervjax.anatomy import IGNORED, LEFT_RIGHT_PERMUTATION

Size = tuple[int, int, int]
PerAxis = tuple[float, float, float]


class Warp(NamedTuple):
    """How far samples are moved; all ranges are uniform and symmetric about zero.

    Defaults are the paper's. B-spline and scaling follow NiftyNet, whose layers are
    the order mirror, scale, rotate, deform.

    Attributes:
        mirror: left-right, with probability 1/2.
        exchange_labels: a mirrored muscle is the other side's; NiftyNet does not.
        scale_percent: +-, per axis.
        rotation_deg: +-, about the left-right (x), front-back (y) and long (z) axes.
        elastic_sigma_voxels: standard deviation of the spline's coefficients along x,
            y, z; that of the displacement is a third of it.
        elastic_points: cells of the spline's mesh per axis (``num_ctrl_points``).
        elastic_probability: of deforming at all.
        in_voxels: as NiftyNet: angles in voxel units, which shears where voxels are
            anisotropic, in reverse order (its "x" turns the x-y plane), about
            ``shape / 2``.
    """

    mirror: bool = True
    exchange_labels: bool = True
    scale_percent: PerAxis = (2.5, 2.5, 2.5)
    rotation_deg: PerAxis = (2.5, 2.5, 5.0)
    elastic_sigma_voxels: PerAxis = (10.0, 10.0, 2.33)
    elastic_points: int = 3
    elastic_probability: float = 0.5
    in_voxels: bool = False


def warp(
    key: Array,
    image: Array,
    labels: Array,
    *,
    window: Size,
    spacing_mm: PerAxis,
    settings: Warp,
) -> tuple[Array, Array]:
    """Moves each sample by a random transform of its own, in one resampling.

    The result is cut from the middle of the source, whose margin is what comes into
    view; beyond it, the border is repeated.

    Args:
        key: one for the batch.
        image: float (b, X, Y, Z, c), interpolated linearly.
        labels: integers (b, X, Y, Z), nearest neighbour; 0-14 or `IGNORED`.
        window: size of the result, static.
        spacing_mm: voxel size, static.
        settings: static.

    Returns:
        Image (b, x, y, z, c) and labels (b, x, y, z), of the same types.
    """
    source = image.shape[1:4]
    if labels.shape != image.shape[:4]:
        raise ValueError(f"labels {labels.shape} are not the image's {image.shape[:4]}")
    if any(w > n for w, n in zip(window, source, strict=True)):
        raise ValueError(f"window {window} exceeds the source {source}")
    start = jnp.array([(n - w) // 2 for w, n in zip(window, source, strict=True)])

    def one(key: Array, image: Array, labels: Array) -> tuple[Array, Array]:
        index, mirrored = random_index(key, window, spacing_mm, settings)
        index = index + start.reshape(3, 1, 1, 1)
        moved = nearest(labels, index)
        if settings.mirror and settings.exchange_labels:
            other = jnp.asarray(LEFT_RIGHT_PERMUTATION).astype(labels.dtype)[moved]
            moved = jnp.where(mirrored & (moved != IGNORED), other, moved)
        return resample(image, index), moved

    return jax.vmap(one)(jax.random.split(key, len(image)), image, labels)


def random_index(
    key: Array, window: Size, spacing_mm: PerAxis, settings: Warp
) -> tuple[Array, Array]:
    """Draws one transform.

    Returns:
        Index for `resample` (3, x, y, z), counted from the window's first voxel, and
        whether it mirrors, bool ().
    """
    keys = jax.random.split(key, 5)
    mirrored = jax.random.bernoulli(keys[0]) & settings.mirror
    percent, degrees = (
        jax.random.uniform(k, (3,), minval=-1) * jnp.array(most)
        for k, most in zip(
            keys[1:3], (settings.scale_percent, settings.rotation_deg), strict=True
        )
    )
    angles, centre = jnp.deg2rad(degrees), tuple((n - 1) / 2 for n in window)
    if settings.in_voxels:
        angles, centre = angles[::-1], tuple(n / 2 for n in window)
        spacing_mm = (1.0, 1.0, 1.0)
    matrix = affine_matrix(angles, 1 + percent / 100, spacing_mm)
    displacement = None
    if settings.elastic_probability and any(settings.elastic_sigma_voxels):
        points = settings.elastic_points + 3
        sigma = jnp.array(settings.elastic_sigma_voxels).reshape(3, 1, 1, 1)
        deformed = jax.random.bernoulli(keys[3], settings.elastic_probability)
        coefficients = jax.random.normal(keys[4], (3, points, points, points))
        coefficients = jnp.where(deformed, coefficients * sigma, 0)
        displacement = bspline_displacement(coefficients, window)
    return sample_coordinates(matrix, mirrored, displacement, window, centre), mirrored


def affine_matrix(angles: Array, zoom: Array, spacing_mm: PerAxis) -> Array:
    """Matrix from voxels of the result to voxels of the source, about a centre.

    Contents turn by ``R_x R_z R_y`` in millimetre space, the order of NiftyNet's
    layer, after growing by ``zoom``.

    Args:
        angles: (3,) about x, y and z, radians, right-handed.
        zoom: (3,) above 1 enlarges.
        spacing_mm: voxel size.

    Returns:
        (3, 3).
    """
    (cx, cy, cz), (sx, sy, sz) = jnp.cos(angles), jnp.sin(angles)
    # The transpose, which is the inverse: R_y' R_z' R_x', multiplied out.
    inverse = jnp.stack(
        [
            jnp.stack([cy * cz, cx * cy * sz + sx * sy, sx * cy * sz - cx * sy]),
            jnp.stack([-sz, cx * cz, sx * cz]),
            jnp.stack([sy * cz, cx * sy * sz - sx * cy, sx * sy * sz + cx * cy]),
        ]
    )
    size = np.asarray(spacing_mm, np.float32)
    return inverse * (size[None] / size[:, None]) / zoom[:, None]


def bspline_displacement(coefficients: Array, shape: Size) -> Array:
    """Cubic B-spline displacement, on SimpleITK's grid over a volume.

    A mesh of m cells spans ``-0.625 ... n - 0.375``; one coefficient lies a cell
    before it, one a cell after.

    Args:
        coefficients: (3, p, q, r) displacement along x, y, z in voxels, 3 more than
            cells per axis.
        shape: of the volume.

    Returns:
        (3, x, y, z) in voxels.
    """
    for axis, (count, n) in enumerate(
        zip(coefficients.shape[1:], shape, strict=True), start=1
    ):
        basis = jnp.asarray(_spline_basis(count - 3, n))
        moved = jnp.tensordot(
            coefficients, basis, ([axis], [1]), precision=lax.Precision.HIGHEST
        )
        coefficients = jnp.moveaxis(moved, -1, axis)
    return coefficients


def sample_coordinates(
    matrix: Array,
    mirrored: Array | bool,
    displacement: Array | None,
    shape: Size,
    centre: tuple[float, ...],
) -> Array:
    """Where a volume that is mirrored, then moved, then deformed has its values from.

    Args:
        matrix: (3, 3) of `affine_matrix`.
        mirrored: bool (), x reversed in the window.
        displacement: (3, x, y, z) in voxels, or none.
        shape: of the window.
        centre: voxel that ``matrix`` leaves in place.

    Returns:
        (3, x, y, z): exact whole numbers if nothing but the mirror is on.
    """
    away = [
        (jnp.arange(n) - c).reshape([-1 if a == axis else 1 for a in range(3)])
        for axis, (n, c) in enumerate(zip(shape, centre, strict=True))
    ]
    if displacement is not None:
        away = [a + d for a, d in zip(away, displacement, strict=True)]
    # Products of scalars, not a matrix product, which some devices round.
    x, y, z = (
        row[0] * away[0] + row[1] * away[1] + row[2] * away[2] + c
        for row, c in zip(matrix, centre, strict=True)
    )
    x = jnp.where(mirrored, shape[0] - 1 - x, x)
    return jnp.stack([jnp.broadcast_to(v, shape) for v in (x, y, z)])


def resample(values: Array, index: Array) -> Array:
    """Trilinear values at ``index``; outside, those of the border.

    Args:
        values: float (X, Y, Z, c).
        index: (3, x, y, z).

    Returns:
        (x, y, z, c); exact at whole numbers.
    """
    sizes = values.shape[:3]
    index = jnp.clip(index, 0, jnp.array(sizes).reshape(3, 1, 1, 1) - 1)
    low = [
        jnp.minimum(i.astype(int), max(n - 2, 0))
        for i, n in zip(index, sizes, strict=True)
    ]
    part = [i - k for i, k in zip(index, low, strict=True)]
    strides = [sizes[1] * sizes[2], sizes[2], 1]
    first = sum(k * stride for k, stride in zip(low, strides, strict=True))
    steps = [s if n > 1 else 0 for s, n in zip(strides, sizes, strict=True)]
    rows, total = (
        jnp.asarray(values).reshape(-1, values.shape[3]),
        jnp.zeros((), values.dtype),
    )
    for bits in np.ndindex(2, 2, 2):
        weights = [p if bit else 1 - p for p, bit in zip(part, bits, strict=True)]
        at = first + int(np.dot(bits, steps))
        corner = rows.at[at].get(mode="promise_in_bounds")
        total = total + reduce(jnp.multiply, weights)[..., None] * corner
    return total.astype(values.dtype)


def nearest(values: Array, index: Array) -> Array:
    """Values at the voxel nearest to ``index``; outside, those of the border.

    Args:
        values: (X, Y, Z).
        index: (3, x, y, z); halves go up.
    """
    last = jnp.array(values.shape).reshape(3, 1, 1, 1) - 1
    x, y, z = jnp.clip(jnp.floor(index + 0.5), 0, last).astype(int)
    at = (x * values.shape[1] + y) * values.shape[2] + z
    return jnp.asarray(values).reshape(-1).at[at].get(mode="promise_in_bounds")


def _spline_basis(cells: int, n: int) -> np.ndarray:
    """(n, cells + 3) weights of the coefficients in each voxel of an axis."""
    spacing = (n + 0.25) / cells
    first = -0.625 - spacing
    place = first + spacing * np.arange(cells + 3)
    away = np.abs(np.arange(n)[:, None] - place[None]) / spacing
    inner = 2 / 3 - away**2 + away**3 / 2
    return np.where(away < 1, inner, np.maximum(2 - away, 0) ** 3 / 6).astype("f4")
