"""Resampling as NiftyNet does it: corner voxel onto corner voxel, without smoothing.

All arrays are ``(x, y, z)`` in RAS. SciPy's zoom loses the last plane of some pairs of
sizes, and NiftyNet with it; ``keep_last_plane`` keeps it.
"""

import numpy as np
from jaxtyping import Float, Real
from scipy import ndimage

_FLOAT32_TINY = np.finfo(np.float32).tiny

SpacingMm = tuple[float, float, float]
"""Voxel size along x, y and z."""


def resample(
    volume: Float[np.ndarray, "x y z"],
    spacing_mm: SpacingMm,
    target_mm: SpacingMm,
    *,
    keep_last_plane: bool = False,
    flush_denormals: bool = True,
) -> Float[np.ndarray, "x2 y2 z2"]:
    """Cubic spline resampling of an image.

    Skipped only where the two spacings are equal to the last bit: a header's float32
    0.7 is not 0.7, so such a scan passes through the spline on its own grid, and its
    exact zeros become noise around 1e-13. How far that noise counts as foreground
    depends on whether denormal numbers are zero, as they are in TensorFlow's threads.

    Args:
        volume: (x, y, z), any intensity unit.
        spacing_mm: its voxel size.
        target_mm: voxel size wanted.
        keep_last_plane: keep a plane that rounding puts a hair outside.
        flush_denormals: set numbers below float32's smallest normal one to zero.

    Returns:
        The same dtype, of the shape that `resampled_shape` gives.

    Reference: NiftyNet 0.6.0, ``misc_io.do_resampling``.
    """
    if tuple(spacing_mm) != tuple(target_mm):
        factors = [a / b for a, b in zip(spacing_mm, target_mm, strict=True)]
        mode = _edge(keep_last_plane)
        volume = np.asarray(ndimage.zoom(volume, factors, order=3, mode=mode))
    if flush_denormals:
        volume = np.where(np.abs(volume) < _FLOAT32_TINY, np.float32(0), volume)
    return volume


def resampled_shape(
    shape: tuple[int, ...], spacing_mm: SpacingMm, target_mm: SpacingMm
) -> tuple[int, ...]:
    """The shape that `resample` gives: sizes rounded half to even."""
    return tuple(
        round(n * (a / b)) for n, a, b in zip(shape, spacing_mm, target_mm, strict=True)
    )


def resample_labels(
    labels: Real[np.ndarray, "x y z"],
    shape: tuple[int, ...],
    *,
    keep_last_plane: bool = False,
) -> Real[np.ndarray, "x2 y2 z2"]:
    """Nearest-neighbour resampling of a label map (or any volume) to a shape.

    Args:
        labels: (x, y, z).
        shape: voxels wanted along x, y, z.
        keep_last_plane: as in `resample`, and as its image was resampled.

    Returns:
        The same dtype, of that shape, with no value that was not there before (but 0
        in a lost last plane).
    """
    if labels.shape == tuple(shape):
        return labels
    factors = [n / m for n, m in zip(shape, labels.shape, strict=True)]
    mode = _edge(keep_last_plane)
    return np.asarray(ndimage.zoom(labels, factors, order=0, mode=mode))


def _edge(keep_last_plane: bool) -> str:
    # The spline is the same in both modes; a last plane that rounding puts a hair
    # outside is filled with zeros by "constant" and kept by "mirror".
    return "mirror" if keep_last_plane else "constant"
