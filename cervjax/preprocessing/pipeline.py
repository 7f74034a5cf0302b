"""From raw in-phase and out-of-phase volumes to the network's input.

NiftyNet 0.6.0's steps, accidents included (each is named and has a switch): cubic
resampling, padding, foreground mask, histogram standardisation, whitening. All arrays
are in RAS.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Real

from cervjax.preprocessing.foreground import body_box, signal_voids, whiten_foreground
from cervjax.preprocessing.histogram import (
    CHANNELS,
    DILATIONS,
    Landmarks,
    foreground,
    percentiles,
    standardise,
)
from cervjax.preprocessing.resampling import SpacingMm, resample, resampled_shape
from cervjax.preprocessing.separable import resample_to

Normalisation = Literal["histogram", "foreground"]
PaddingMode = Literal["minimum", "zero"]


@dataclass(frozen=True)
class Recipe:
    """All constants of the preprocessing; part of a model, kept in its card.

    Attributes:
        landmarks: per channel, the 13 standard intensities, 0-100.
        spacing_mm: grid of the network.
        padding: voxels added on both sides of each axis.
        padding_mode: "minimum" (NiftyNet: each line's own minimum) or "zero"
            (as the paper has it).
        cutoff: fractions of the histogram taken as its two ends.
        keep_last_plane: SciPy's zoom loses the last plane of some size pairs, and
            NiftyNet with it; True keeps the plane.
        skip_fitting_grid: leaves the spline out where the number of voxels stays: going
            from corner to corner, it then reads every voxel at its own place, and adds
            rounding noise, which may count as foreground in air that was exactly zero.
            NiftyNet leaves it out only where the spacings are equal to the last bit.
        normalisation: "histogram" (NiftyNet: landmarks, then whitening) or
            "foreground" (the scan is cropped to the body, then whitened over what is
            not air, see `cervjax.preprocessing.foreground`).
    """

    landmarks: Landmarks = field(default_factory=dict)
    spacing_mm: SpacingMm = (0.7, 0.7, 3.0)
    padding: tuple[int, int, int] = (90, 60, 8)
    padding_mode: PaddingMode = "minimum"
    cutoff: tuple[float, float] = (0.001, 1.0)
    keep_last_plane: bool = False
    skip_fitting_grid: bool = False
    normalisation: Normalisation = "histogram"


class Prepared(NamedTuple):
    """The network's input and where it came from.

    Attributes:
        image: float32 (x, y, z, 2), padded, standardised, whitened.
        resampled_shape: voxels before padding.
        box: the part of the scan that was taken, by its voxels; None is all of it.
        voids: bool, of that part's shape: see `signal_voids`; None is nowhere.
    """

    image: Float32[np.ndarray, "x y z 2"]
    resampled_shape: tuple[int, int, int]
    box: tuple[slice, slice, slice] | None = None
    voids: Bool[np.ndarray, "i j k"] | None = None


def prepare(
    in_phase: Float32[np.ndarray, "x y z"],
    out_phase: Float32[np.ndarray, "x y z"],
    spacing_mm: SpacingMm,
    recipe: Recipe,
) -> Prepared:
    """Resamples, pads, standardises and whitens a pair of volumes.

    Args:
        in_phase: float32 (x, y, z), any intensity unit.
        out_phase: the same shape.
        spacing_mm: their voxel size.
        recipe: the constants the weights were trained with.

    Raises:
        ValueError: no voxel is brighter than zero in both channels.
    """
    box = voids = None
    if recipe.normalisation == "foreground":
        box = body_box(in_phase, spacing_mm)
        voids = signal_voids(in_phase, spacing_mm)[box]
        in_phase, out_phase = in_phase[box], out_phase[box]
    with ThreadPoolExecutor(len(CHANNELS)) as pool:  # SciPy and NumPy free the lock
        volumes = list(
            pool.map(
                lambda v: to_network_grid(v, spacing_mm, recipe), (in_phase, out_phase)
            )
        )
        if recipe.normalisation == "foreground":
            return _whitened(volumes, recipe, pool)._replace(box=box, voids=voids)
        mask = _padded_foreground(volumes, recipe, pool)
        if not mask.any():
            raise ValueError("no foreground: no voxel is above zero in both channels")
        channels = pool.map(
            lambda name, v: whiten(_standardised(name, v, mask, recipe), mask),
            CHANNELS,
            volumes,
        )
        return Prepared(np.stack(list(channels), -1), volumes[0].shape)


def to_network_grid(
    volume: Float32[np.ndarray, "x y z"],
    spacing_mm: SpacingMm,
    recipe: Recipe,
    *,
    flush_denormals: bool = True,
) -> Float32[np.ndarray, "x2 y2 z2"]:
    """Resamples an image onto the recipe's grid.

    Args:
        volume: float32 (x, y, z).
        spacing_mm: its voxel size.
        recipe: the grid, and which of NiftyNet's accidents to repeat.
        flush_denormals: see `resample`; False to learn landmarks.

    Returns:
        float32 (x, y, z), not yet padded.
    """
    target_mm = recipe.spacing_mm
    shape = resampled_shape(volume.shape, spacing_mm, target_mm)
    if recipe.normalisation == "foreground":
        return resample_to(volume, shape)
    fits = shape == volume.shape
    return resample(
        volume,
        target_mm if recipe.skip_fitting_grid and fits else spacing_mm,
        target_mm,
        keep_last_plane=recipe.keep_last_plane,
        flush_denormals=flush_denormals,
    )


def pad(
    volume: Real[np.ndarray, "x y z"],
    padding: tuple[int, int, int],
    mode: PaddingMode,
    zero: float = 0.0,
) -> Real[np.ndarray, "x2 y2 z2"]:
    """Pads both ends of each axis, x first.

    "minimum" extends every line by that line's own minimum (not the volume's), lines
    along y and z including what was padded before them. "zero" pads with ``zero``.

    Args:
        volume: (x, y, z).
        padding: voxels along x, y, z.
        mode: what to pad with.
        zero: the value of the padding where the mode is "zero".

    Returns:
        (x + 2 padding, ...), the same dtype.
    """
    widths = [(n, n) for n in padding]
    if mode == "minimum":
        return np.pad(volume, widths, mode="minimum")
    return np.pad(volume, widths, constant_values=zero)


def unpad(
    volume: Real[np.ndarray, "x y z"], padding: tuple[int, int, int]
) -> Real[np.ndarray, "x2 y2 z2"]:
    """Undoes `pad`: a view of (x, y, z) without the padding."""
    return volume[
        tuple(slice(n, size - n) for n, size in zip(padding, volume.shape, strict=True))
    ]


def whiten(
    volume: Float[np.ndarray, "x y z"], mask: Bool[np.ndarray, "x y z"]
) -> Float[np.ndarray, "x y z"]:
    """Zero mean and unit variance over the mask, applied to every voxel.

    Args:
        volume: float32 (x, y, z).
        mask: bool (x, y, z), not empty.

    Returns:
        float32 (x, y, z).
    """
    values = volume[mask]
    deviation = np.float32(max(values.std(dtype=np.float64), 1e-5))
    return (volume - values.mean()) / deviation


def _whitened(
    volumes: Sequence[np.ndarray], recipe: Recipe, pool: ThreadPoolExecutor
) -> Prepared:
    """Both channels whitened over their own foreground, padded with air."""
    if not all(np.ptp(v) > 0 for v in volumes):
        raise ValueError("no foreground: a channel is the same everywhere")

    def one(volume: np.ndarray) -> np.ndarray:
        white = whiten_foreground(volume)
        return pad(white, recipe.padding, "zero", float(white.min()))

    return Prepared(np.stack(list(pool.map(one, volumes)), -1), volumes[0].shape)


def _standardised(
    channel: str, volume: np.ndarray, mask: np.ndarray, recipe: Recipe
) -> np.ndarray:
    """A channel, padded, its foreground's histogram on the landmarks.

    Intensities are mapped before padding: the map never falls, so each line's minimum
    stays its minimum, and there is a third of the voxels to map.
    """
    landmarks = np.asarray(recipe.landmarks[channel], np.float32)
    values = pad(volume, recipe.padding, recipe.padding_mode)[mask]
    source = percentiles(values, recipe.cutoff)
    zero = np.zeros((1, 1, 1), np.float32)
    outside = float(standardise(zero, source, landmarks).item())
    volume = standardise(volume, source, landmarks)
    return pad(volume, recipe.padding, recipe.padding_mode, outside)


def _padded_foreground(
    channels: Sequence[np.ndarray], recipe: Recipe, pool: ThreadPoolExecutor
) -> np.ndarray:
    """The foreground that the padded channels share; one that is all zero is left out.

    Padding is the same along its axis, and the mask with it, but for the planes that
    the dilation reaches: one more plane than those stands for the rest.
    """
    x, y, z = (min(n, DILATIONS + 1) for n in recipe.padding)
    thin = x, y, z
    padded = pool.map(lambda v: pad(v, thin, recipe.padding_mode), channels)
    seen = [v for v in padded if np.any(v)]
    masks = list(pool.map(foreground, seen))
    mask = np.logical_and.reduce(masks) if masks else np.zeros((1, 1, 1), bool)
    rest = [(n - t, n - t) for n, t in zip(recipe.padding, thin, strict=True)]
    return np.pad(mask, rest, mode="edge")
