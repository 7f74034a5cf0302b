"""Cubic resampling by one small matrix per axis, for recipes that are not NiftyNet's.

The spline is linear in the voxels and separable, so that what SciPy does to the unit
vectors of an axis is all there is to know. Unlike NiftyNet's way, an axis that loses
voxels is smoothed first, so that noise and thin structures do not alias.
"""

from functools import cache

import numpy as np
from jaxtyping import Float32
from scipy import ndimage


def resample_to(
    volume: Float32[np.ndarray, "x y z"], shape: tuple[int, ...]
) -> Float32[np.ndarray, "x2 y2 z2"]:
    """Resamples corner voxel onto corner voxel; outside is the mirror image.

    Args:
        volume: float32 (x, y, z).
        shape: voxels wanted along x, y, z.
    """
    # Axes that lose most come first: the rest has less to do.
    order = sorted(range(3), key=lambda a: shape[a] / volume.shape[a])
    for axis in order:
        n, count = volume.shape[axis], shape[axis]
        if n == count:
            continue
        moved = np.moveaxis(volume, axis, 0)
        flat = np.ascontiguousarray(moved).reshape(n, -1)
        resampled = axis_matrix(n, count) @ flat
        volume = np.moveaxis(resampled.reshape(count, *moved.shape[1:]), 0, axis)
    return np.ascontiguousarray(volume)


@cache
def axis_matrix(size: int, count: int) -> Float32[np.ndarray, "count size"]:
    """From ``size`` voxels to ``count`` along one axis.

    With ``f = size / count`` above 1, a Gaussian comes first that widens a voxel to f
    voxels: widths at half height add in squares.
    """
    unit = np.eye(size)
    factor = size / count
    if factor > 1:
        sigma = np.sqrt((factor**2 - 1) / (8 * np.log(2)))
        unit = ndimage.gaussian_filter1d(unit, sigma, axis=0, mode="mirror")
    zoom = (count / size, 1)
    resampled = ndimage.zoom(unit, zoom, order=3, mode="mirror")
    return np.asarray(resampled, np.float32)
