"""Boxes of a volume: what a part of a result depends on, and cutting it out."""

from collections.abc import Sequence

from jax import Array

Region = tuple[tuple[int, int], ...]
"""First voxel and the one after the last, per axis."""


def needed(region: Region, factor: int, sizes: tuple[int, ...]) -> Region:
    """The coarse voxels that ``region`` of an upsampled volume depends on.

    Upsampling just these, a repeated edge then stands for a voxel that exists only
    outside ``region``.

    Args:
        region: at the fine resolution.
        factor: of the upsampling.
        sizes: of the whole coarse volume.
    """
    return tuple(
        (first // factor, min((stop - 1) // factor + 2, size))
        for (first, stop), size in zip(region, sizes, strict=True)
    )


def cut(x: Array, region: Region) -> Array:
    """That part of (b, x, y, z, c)."""
    return x[:, *(slice(*span) for span in region)]


def grow(region: Region, sizes: Sequence[int]) -> Region:
    """One voxel more on every side, within the volume."""
    return tuple(
        (max(first - 1, 0), min(stop + 1, n))
        for (first, stop), n in zip(region, sizes, strict=True)
    )


def moved(region: Region, origin: Sequence[int]) -> Region:
    """The same region counted from ``origin``."""
    return tuple(
        (first - o, stop - o) for (first, stop), o in zip(region, origin, strict=True)
    )
