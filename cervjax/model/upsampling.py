"""Trilinear upsampling of TensorFlow 1: no half-pixel centres, the edge repeated.

Output ``i`` reads input ``i / factor``: the first of each group is a copy, and a volume
leans half a group towards its origin. NiftyNet interpolates along y and z first, then
along x; the order is kept, since it decides ties.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float, Shaped

AnyArray = Array | np.ndarray
_PART_FLOATS = 1 << 18


def upsample(
    x: Float[AnyArray, "b x y z c"], factor: int
) -> Float[Array, "b {factor}*x {factor}*y {factor}*z c"]:
    """(b, x, y, z, c) to the same at ``factor`` times the resolution."""
    x = jnp.asarray(x)
    for axis in (2, 3, 1):
        x = upsample_axis(x, factor, axis)
    return x


def upsample_axis(x: Array, factor: int, axis: int) -> Array:
    """Upsamples one axis."""
    step = next_voxel(x, axis) - x
    parts = [x + step * (k / factor) for k in range(factor)]
    shape = (*x.shape[:axis], x.shape[axis] * factor, *x.shape[axis + 1 :])
    return jnp.stack(parts, axis + 1).reshape(shape)


def map_fine_planes(
    function: Callable[[Array], Any],
    logits: Float[AnyArray, "b x y z c"],
    along_z: Literal[1, 2] = 2,
) -> Any:
    """Applies a voxel-wise function to logits at twice their resolution, part by part.

    Two neighbouring planes give two planes of the result, small enough for a cache: the
    upsampled logits never exist as a whole, not in the gradient either.

    Args:
        function: gets logits (c, n), classes first; returns arrays (n,).
        logits: (b, x, y, z, c).
        along_z: 1 where logits have all slices already.

    Returns:
        As ``function``, arrays (b, 2x, 2y, along_z z).
    """
    b, _, ny, nz, c = logits.shape

    def slab(low: Array, high: Array) -> Any:
        values = function(_between(low, high, along_z).reshape(c, -1))
        return jax.tree.map(lambda v: v.reshape(b, 2, 2, along_z, ny, nz), values)

    planes = jnp.asarray(logits).transpose(1, 4, 0, 2, 3)
    return jax.tree.map(_from_parity, _map(slab, planes, next_voxel(planes, 0)))


def sum_fine_planes(
    function: Callable[[Array, Array], Any],
    logits: Float[AnyArray, "b x y z c"],
    fine: Shaped[AnyArray, "b 2*x 2*y 2*z"],
) -> Any:
    """Adds up what a function gives for logits at twice their resolution and ``fine``.

    Args:
        function: gets logits (c, b, n) and of ``fine`` the (b, n) voxels of the same
            places; returns arrays of any shape, the sums over one part.
        logits: (b, x, y, z, c).
        fine: (b, 2x, 2y, 2z).
    """
    b, nx, _, _, c = logits.shape

    def slab(low: Array, high: Array, fine: Array) -> Any:
        return function(_between(low, high).reshape(c, b, -1), fine)

    planes = jnp.asarray(logits).transpose(1, 4, 0, 2, 3)
    fine = _to_parity(jnp.asarray(fine)).reshape(nx, b, -1)
    parts = _map(slab, planes, next_voxel(planes, 0), fine)
    return jax.tree.map(lambda v: v.sum(0), parts)


def _map(slab: Callable[..., Any], *arrays: Array) -> Any:
    """Maps over planes, as many at once as make a part worth sharing among cores."""
    planes = len(arrays[0])
    most = max(1, _PART_FLOATS // (8 * math.prod(arrays[0].shape[1:])))
    count = max(n for n in range(1, planes + 1) if planes % n == 0 and n <= most)
    parts = tuple(v.reshape(-1, count, *v.shape[1:]) for v in arrays)
    found = lax.map(lambda part: jax.vmap(jax.checkpoint(slab))(*part), parts)
    return jax.tree.map(lambda v: v.reshape(planes, *v.shape[2:]), found)


def _between(low: Array, high: Array, along_z: int = 2) -> Array:
    """Two planes (c, b, y, z) to (c, b, 2, 2, along_z, y, z), even voxels first."""
    v = jnp.stack([low, high], 2)
    for axis, factor in ((3, 2), (5, along_z)):  # y, then z
        halfway = [v + (next_voxel(v, axis) - v) * 0.5] * (factor - 1)
        v = jnp.stack([v, *halfway], axis if axis == 3 else 4)
        v = lax.optimization_barrier(v)  # fused, XLA would interpolate time and again
    low, high = v[:, :, 0], v[:, :, 1]
    return lax.optimization_barrier(jnp.stack([low, low + (high - low) * 0.5], 2))


def next_voxel(v: Array, axis: int) -> Array:
    """The neighbour along an axis, the last one its own."""
    n = v.shape[axis]
    last = lax.slice_in_dim(v, n - 1, n, axis=axis)
    return jnp.concatenate([lax.slice_in_dim(v, 1, n, axis=axis), last], axis)


def _to_parity(v: Array) -> Array:
    """(b, 2x, 2y, 2z) to (x, b, 2, 2, 2, y, z)."""
    b, nx, ny, nz = v.shape
    v = v.reshape(b, nx // 2, 2, ny // 2, 2, nz // 2, 2)
    return v.transpose(1, 0, 2, 4, 6, 3, 5)


def _from_parity(v: Array) -> Array:
    """Undoes `_to_parity`."""
    nx, b, _, _, along_z, ny, nz = v.shape
    return v.transpose(1, 0, 2, 5, 3, 6, 4).reshape(b, 2 * nx, 2 * ny, along_z * nz)
