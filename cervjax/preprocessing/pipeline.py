"""From raw in-phase and out-of-phase volumes to the network's input.

NiftyNet 0.6.0's semantics, step by step, accidents included (each is named and has a
switch): cubic resampling, padding, foreground mask, histogram standardisation
(Nyul and Udupa 1999, as NiftyNet implements it), whitening. All arrays are in RAS.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from scipy import ndimage

CHANNELS = ("in_phase", "out_phase")
NUM_LANDMARKS = 13

_PERCENTS = (10.0, 20.0, 25.0, 30.0, 40.0, 50.0, 60.0, 70.0, 75.0, 80.0, 90.0)
_USED = np.array([0, 1, 2, 4, 5, 6, 7, 8, 10, 11, 12])  # 25 and 75 % are skipped
_FLOAT32_TINY = np.finfo(np.float32).tiny
_DILATIONS = 2

Foreground = Literal["threshold_plus", "otsu_plus", "none"]
PaddingMode = Literal["minimum", "zero"]


@dataclass(frozen=True)
class Recipe:
    """All constants of the preprocessing; part of a model, kept in its card.

    Attributes:
        landmarks: per channel, the 13 standard intensities, 0-100.
        spacing_mm: grid of the network.
        padding: voxels added on both sides of each axis.
        padding_mode: "minimum" (NiftyNet: each line's own minimum) or "zero"
            (what the paper says).
        cutoff: fractions of the histogram taken as its two ends.
        keep_last_plane: SciPy's zoom loses the last plane of some size pairs, and
            NiftyNet with it; True keeps the plane.
        skip_fitting_grid: leaves the spline out where the number of voxels stays: going
            from corner to corner, it then reads every voxel at its own place, and adds
            rounding noise, which may count as foreground in air that was exactly zero.
            NiftyNet leaves it out only where the spacings are equal to the last bit.
    """

    landmarks: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    spacing_mm: tuple[float, float, float] = (0.7, 0.7, 3.0)
    padding: tuple[int, int, int] = (90, 60, 8)
    padding_mode: PaddingMode = "minimum"
    cutoff: tuple[float, float] = (0.001, 1.0)
    keep_last_plane: bool = False
    skip_fitting_grid: bool = False


class Prepared(NamedTuple):
    """The network's input and where it came from.

    Attributes:
        image: float32 (x, y, z, 2), padded, standardised, whitened.
        resampled_shape: voxels before padding.
    """

    image: np.ndarray
    resampled_shape: tuple[int, int, int]


def prepare(
    in_phase: np.ndarray,
    out_phase: np.ndarray,
    spacing_mm: tuple[float, float, float],
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
    same = resampled_shape(in_phase.shape, spacing_mm, recipe.spacing_mm)
    if recipe.skip_fitting_grid and same == in_phase.shape:
        spacing_mm = recipe.spacing_mm

    def on_grid(volume: np.ndarray) -> np.ndarray:
        keep = recipe.keep_last_plane
        return resample(volume, spacing_mm, recipe.spacing_mm, keep_last_plane=keep)

    def standardised(channel: str, volume: np.ndarray) -> np.ndarray:
        # Intensities are mapped before padding: the map never falls, so each line's
        # minimum stays its minimum, and there is a third of the voxels to map.
        landmarks = np.asarray(recipe.landmarks[channel], np.float32)
        values = pad(volume, recipe.padding, recipe.padding_mode)[mask]
        source = percentiles(values, recipe.cutoff)
        zero = np.zeros((1, 1, 1), np.float32)
        if recipe.padding_mode == "minimum":
            volume = map_histogram(volume, source, landmarks)
            volume = pad(volume, recipe.padding, "minimum")
        else:
            outside = float(map_histogram(zero, source, landmarks)[0, 0, 0])
            volume = map_histogram(volume, source, landmarks)
            volume = pad(volume, recipe.padding, "zero", outside)
        return whiten(volume, mask)

    with ThreadPoolExecutor(len(CHANNELS)) as pool:  # SciPy and NumPy free the lock
        channels = list(pool.map(on_grid, (in_phase, out_phase)))
        mask = _padded_foreground(channels, recipe, pool)
        if not mask.any():
            raise ValueError("no foreground: no voxel is above zero in both channels")
        image = np.stack(list(pool.map(standardised, CHANNELS, channels)), -1)
    return Prepared(image, channels[0].shape)


def resample(
    volume: np.ndarray,
    spacing_mm: tuple[float, float, float],
    target_mm: tuple[float, float, float],
    *,
    keep_last_plane: bool = False,
    flush_denormals: bool = True,
) -> np.ndarray:
    """Cubic spline resampling, corner voxel onto corner voxel, without smoothing.

    Skipped only where the two spacings are equal to the last bit: a header's float32
    0.7 is not 0.7, so such a scan passes through the spline on its own grid, and its
    exact zeros become noise around 1e-13. Flushing denormal numbers to zero, as the
    processor does inside TensorFlow's threads, decides how far that noise counts as
    foreground.
    """
    if tuple(spacing_mm) != tuple(target_mm):
        factors = [a / b for a, b in zip(spacing_mm, target_mm, strict=True)]
        mode = _edge(keep_last_plane)
        volume = np.asarray(ndimage.zoom(volume, factors, order=3, mode=mode))
    if flush_denormals:
        volume = np.where(np.abs(volume) < _FLOAT32_TINY, np.float32(0), volume)
    return volume


def resampled_shape(
    shape: tuple[int, ...],
    spacing_mm: tuple[float, float, float],
    target_mm: tuple[float, float, float],
) -> tuple[int, ...]:
    """The shape that `resample` gives: sizes rounded half to even."""
    return tuple(
        round(n * (a / b)) for n, a, b in zip(shape, spacing_mm, target_mm, strict=True)
    )


def resample_labels(
    labels: np.ndarray, shape: tuple[int, ...], *, keep_last_plane: bool = False
) -> np.ndarray:
    """Nearest-neighbour return of a label map (or any volume) to a scan's shape."""
    if labels.shape == tuple(shape):
        return labels
    factors = [n / m for n, m in zip(shape, labels.shape, strict=True)]
    mode = _edge(keep_last_plane)
    return np.asarray(ndimage.zoom(labels, factors, order=0, mode=mode))


def pad(
    volume: np.ndarray,
    padding: tuple[int, int, int],
    mode: PaddingMode,
    zero: float = 0.0,
) -> np.ndarray:
    """Pads both ends of each axis, x first.

    "minimum" extends every line by that line's own minimum (not the volume's), lines
    along y and z including what was padded before them. "zero" pads with ``zero``.
    """
    widths = [(n, n) for n in padding]
    if mode == "minimum":
        return np.pad(volume, widths, mode="minimum")
    return np.pad(volume, widths, constant_values=zero)


def unpad(volume: np.ndarray, padding: tuple[int, int, int]) -> np.ndarray:
    """Undoes `pad`."""
    return volume[
        tuple(slice(n, size - n) for n, size in zip(padding, volume.shape, strict=True))
    ]


def foreground(volume: np.ndarray, threshold: float = 0.0) -> np.ndarray:
    """Voxels above a threshold, dilated twice (6 neighbours), holes filled."""
    mask = ndimage.binary_dilation(volume > threshold, iterations=_DILATIONS)
    return np.asarray(ndimage.binary_fill_holes(mask))


def shared_foreground(volumes: Iterable[np.ndarray]) -> np.ndarray:
    """The foreground that all channels have in common; an empty channel has no say."""
    return np.logical_and.reduce([foreground(v) for v in volumes if np.any(v)])


def percentiles(values: np.ndarray, cutoff: tuple[float, float]) -> np.ndarray:
    """The 13 percentiles (float64) of the histogram standardisation."""
    low, high = min(cutoff[0], 0.09), max(cutoff[1], 0.91)
    percents = np.array([100 * low, *_PERCENTS, 100 * high])
    ordered = np.sort(values, axis=None)  # vectorised: faster than a selection
    at = percents / 100 * (ordered.size - 1)
    below = np.floor(at).astype(int)
    above = np.minimum(below + 1, ordered.size - 1)
    a, b = ordered[below].astype(np.float64), ordered[above].astype(np.float64)
    return a + (b - a) * (at - below)


def map_histogram(
    volume: np.ndarray, source: np.ndarray, landmarks: np.ndarray
) -> np.ndarray:
    """Maps intensities piecewise linearly so that percentiles meet the landmarks.

    The end segments are extended beyond the landmarks without clipping.

    Args:
        volume: float32, any shape.
        source: (13,) percentiles of the volume.
        landmarks: (13,) standard intensities.
    """
    source, target = source[_USED], np.asarray(landmarks, np.float64)[_USED]
    rise, run = np.diff(target), np.diff(source)
    slopes = np.divide(rise, run, out=np.zeros_like(rise), where=run != 0)
    offsets = target[:-1] - slopes * source[:-1]
    segment = np.zeros(volume.shape, np.uint8)
    for knot in source[1:-1]:
        segment += volume >= knot
    return (slopes[segment] * volume + offsets[segment]).astype(np.float32)


def whiten(volume: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Zero mean and unit variance over the mask, applied to every voxel."""
    values = volume[mask]
    deviation = np.float32(max(values.std(dtype=np.float64), 1e-5))
    return (volume - values.mean()) / deviation


def train_landmarks(
    pairs: Iterable[Sequence[np.ndarray]],
    *,
    cutoff: tuple[float, float] = (0.001, 1.0),
    foreground_type: Foreground = "threshold_plus",
) -> dict[str, tuple[float, ...]]:
    """Learns the standard histogram of a set of scans, as NiftyNet does.

    Percentiles of each unpadded volume within its own foreground, its ends mapped to
    0 and 100, averaged over the volumes. Denormals are kept here
    (``resample(..., flush_denormals=False)``): this ran in NiftyNet's main thread.

    Args:
        pairs: resampled in-phase and out-of-phase volumes, (x, y, z).
        cutoff: fractions of the histogram taken as its ends.
        foreground_type: voxels that count: above zero, above Otsu's threshold, all.

    Returns:
        13 landmarks per channel.

    Raises:
        ValueError: no pair was given, or a volume is constant.
    """
    rows: dict[str, list[np.ndarray]] = {name: [] for name in CHANNELS}
    for pair in pairs:
        for name, volume in zip(CHANNELS, pair, strict=True):
            points = percentiles(_foreground_values(volume, foreground_type), cutoff)
            span = points[-1] - points[0]
            if span <= 0:
                raise ValueError(f"the {name} histogram of a scan has no width")
            rows[name].append(100 * (points - points[0]) / span)
    if not rows[CHANNELS[0]]:
        raise ValueError("landmarks need at least one pair of volumes")
    return {name: tuple(np.mean(r, axis=0).tolist()) for name, r in rows.items()}


def read_landmarks(path: str | Path) -> dict[str, tuple[float, ...]]:
    """Reads NiftyNet's ``standardisation_models.txt``: rows IP and OP, 13 numbers.

    Raises:
        ValueError: a row is missing or malformed, or its label table is not the
            identity on 0-14 (those would not be this package's muscles).
    """
    path = Path(path)
    try:
        rows = {
            words[0]: words[1:]
            for words in map(str.split, path.read_text("utf-8").splitlines())
            if words
        }
        landmarks = {
            channel: tuple(np.array(rows[key], np.float32).tolist())
            for channel, key in zip(CHANNELS, ("IP", "OP"), strict=True)
        }
        labels = [
            np.array(rows.get(f"label_label-{k}", []), float) for k in ("from", "to")
        ]
    except (OSError, UnicodeDecodeError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path}: must hold the rows IP and OP, 13 numbers each, "
            f"as NiftyNet's standardisation_models.txt does ({error!r})"
        ) from error
    for channel, values in landmarks.items():
        if len(values) != NUM_LANDMARKS or not np.all(np.diff(values) >= 0):
            raise ValueError(
                f"{path}: {channel} needs {NUM_LANDMARKS} rising numbers, got {values}"
            )
    if not np.array_equal(labels[0], labels[1]):
        raise ValueError(f"{path}: its label table must be the identity, got {labels}")
    return landmarks


def format_landmarks(landmarks: Mapping[str, tuple[float, ...]]) -> str:
    """The text of a ``standardisation_models.txt`` that NiftyNet reads too."""
    return "".join(
        f"{key} {' '.join(str(np.float32(v)) for v in landmarks[channel])}\n"
        for channel, key in zip(CHANNELS, ("IP", "OP"), strict=True)
    )


def _padded_foreground(
    channels: Sequence[np.ndarray], recipe: Recipe, pool: ThreadPoolExecutor
) -> np.ndarray:
    """`shared_foreground` of the padded channels.

    Padding is the same along its axis, and the mask with it, but for the planes that
    the dilation reaches: one more plane than those stands for the rest.
    """
    x, y, z = (min(n, _DILATIONS + 1) for n in recipe.padding)
    thin = x, y, z
    padded = pool.map(lambda v: pad(v, thin, recipe.padding_mode), channels)
    seen = [v for v in padded if np.any(v)]
    masks = list(pool.map(foreground, seen))
    mask = np.logical_and.reduce(masks) if masks else np.zeros((1, 1, 1), bool)
    rest = [(n - t, n - t) for n, t in zip(recipe.padding, thin, strict=True)]
    return np.pad(mask, rest, mode="edge")


def _edge(keep_last_plane: bool) -> str:
    # The spline is the same in both modes; a last plane that rounding puts a hair
    # outside is filled with zeros by "constant" and kept by "mirror".
    return "mirror" if keep_last_plane else "constant"


def _foreground_values(volume: np.ndarray, kind: Foreground) -> np.ndarray:
    if kind == "none":
        return volume
    threshold = 0.0
    if kind == "otsu_plus":
        from skimage.filters import threshold_otsu

        threshold = threshold_otsu(volume)
    return volume[foreground(volume, threshold)]
