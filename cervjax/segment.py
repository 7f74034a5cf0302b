"""From a preprocessed volume to a label map: whole-volume and windowed.

Either way the network runs in one compiled function per input shape, and full
resolution class probabilities are never held: labels and the largest probability
leave the device, slab by slab.
"""

import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from cervjax.labelling import labels_at, places_between, upsampled_labels
from cervjax.model import SIZE_MULTIPLE
from cervjax.passes import Passes, half_region, logits_of_passes

BUCKET = (16, 16, 8)
"""Whole volumes are extended to multiples of this, so that scans share functions."""
WHOLE_BYTES_PER_VOXEL = {1: 120, 2: 145, 4: 180}
"""Device memory of whole mode for as many passes; `tests/test_segment.py` holds it to
the compiler's."""


class Segmentation(NamedTuple):
    """A label map and how sure the network was.

    Attributes:
        labels: uint8 (x, y, z).
        confidence: float32 (x, y, z), the largest class probability.
    """

    labels: np.ndarray
    confidence: np.ndarray


def segment_whole(
    variables: Mapping[str, Any],
    image: np.ndarray,
    margin: tuple[int, int, int] = (0, 0, 0),
    *,
    passes: Passes = 1,
    shape: tuple[int, ...] | None = None,
) -> Segmentation:
    """The whole volume in one pass, independent of any tile size.

    The volume is extended at its far ends to the next bucket by repeating its last
    planes, and the result cropped. For a scan on another grid logits are interpolated
    at its voxels, rather than labels carried over from the next voxel.

    Args:
        variables: the network's.
        image: float32 (x, y, z, 2), padded and whitened.
        margin: voxels at both ends of each axis that are input but need no label.
        passes: how often the network is asked, see `passes`.
        shape: of the scan, where it is not the image's without the margin.

    Returns:
        Labels and confidence without the margin, of ``shape``.
    """
    inner = _inner(image.shape[:3], margin)
    if shape not in (None, inner):
        logits = whole_logits(variables, image, margin, passes=passes)
        return labels_of_logits(logits, image.shape[:3], margin, shape)
    bucket = _extend(image, bucket_shape(image.shape[:3]))
    flat = margin if _is_flat(image, margin) else (0, 0, 0)
    result = _predict(variables, bucket[None], margin, flat, passes)
    return Segmentation(*(np.asarray(a)[0][_first(inner)] for a in result))


def _is_flat(image: np.ndarray, margin: tuple[int, int, int]) -> bool:
    """Whether the margins are what padding makes of them: constant along their axis."""
    for axis, m in enumerate(margin):
        lines = np.moveaxis(image, axis, 0)
        if m and not (
            np.array_equal(lines[1:m], lines[: m - 1])
            and np.array_equal(lines[-m:-1], lines[len(lines) - m + 1 :])
        ):
            return False
    return True


def segment_windows(
    variables: Mapping[str, Any],
    image: np.ndarray,
    *,
    window: tuple[int, int, int] = (360, 240, 32),
    border: tuple[int, int, int] = (8, 8, 8),
    predict_border: bool = False,
    batch_size: int = 1,
    passes: Passes = 1,
) -> Segmentation:
    """NiftyNet's grid of windows: borders cut, later windows overwrite earlier ones.

    The outermost ``border`` voxels of the volume are never predicted (0) unless
    ``predict_border``. A volume smaller than the window, at which NiftyNet stops, is
    extended by repeating its last planes.

    Args:
        variables: the network's.
        image: float32 (x, y, z, 2), padded and whitened.
        window: size in voxels, multiples of 8.
        border: voxels cut from each side of every window.
        predict_border: keep a window's border where it is the volume's own.
        batch_size: windows in one pass.
        passes: how often the network is asked of a window, see `passes`.

    Raises:
        ValueError: a window size is no multiple of 8, or the border eats the window.
    """
    check_windows(window, border)
    shape = image.shape[:3]
    image = _extend(image, tuple(map(max, shape, window)))
    labels = np.zeros(image.shape[:3], np.uint8)
    confidence = np.zeros(image.shape[:3], np.float32)
    starts = list(window_starts(image.shape[:3], window, border))
    for at in range(0, len(starts), batch_size):
        group = starts[at : at + batch_size]
        # A last, smaller group repeats a window instead of compiling a new function.
        filled = group + group[-1:] * (min(batch_size, len(starts)) - len(group))
        batch = np.stack([image[_box(start, window)] for start in filled])
        found = [np.asarray(a) for a in _predict(variables, batch, passes=passes)]
        for i, start in enumerate(group):
            cut = [
                _kept(s, w, b, n, predict_border)
                for s, w, b, n in zip(start, window, border, labels.shape, strict=True)
            ]
            inner = tuple(slice(lo, hi) for lo, hi in cut)
            outer = tuple(
                slice(s + lo, s + hi) for s, (lo, hi) in zip(start, cut, strict=True)
            )
            labels[outer] = found[0][i][inner]
            confidence[outer] = found[1][i][inner]
    return Segmentation(labels[_first(shape)], confidence[_first(shape)])


def bucket_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that a volume is extended to in whole mode."""
    return tuple(-(-n // b) * b for n, b in zip(shape, BUCKET, strict=True))


def whole_memory_bytes(shape: tuple[int, ...], passes: Passes = 1) -> float:
    """About what whole mode takes for a padded volume, beyond the volume itself."""
    return float(np.prod(bucket_shape(shape))) * WHOLE_BYTES_PER_VOXEL[passes]


def check_windows(window: tuple[int, ...], border: tuple[int, ...]) -> None:
    """Raises ValueError for a window that the network or the aggregator cannot use."""
    if any(n <= 0 or n % SIZE_MULTIPLE for n in window):
        raise ValueError(
            f"window sizes must be multiples of {SIZE_MULTIPLE}, got {window}"
        )
    if any(b < 0 or 2 * b >= n for b, n in zip(border, window, strict=True)):
        raise ValueError(f"border {border} leaves nothing of the window {window}")


def window_starts(
    shape: tuple[int, ...], window: tuple[int, ...], border: tuple[int, ...]
) -> Iterator[tuple[int, int, int]]:
    """First voxels of NiftyNet's windows, in its order: z fastest, then x, then y.

    Per axis the windows step by window - 2 border and end flush with the volume; where
    two would do, a third in the middle is run last.
    """
    xs, ys, zs = (
        _axis_starts(n, w, b) for n, w, b in zip(shape, window, border, strict=True)
    )
    return ((x, y, z) for y, x, z in itertools.product(ys, xs, zs))


def _axis_starts(size: int, window: int, border: int) -> list[int]:
    step = max(window - 2 * border, 1)
    starts = sorted({*range(0, size - window + 1, step), size - window})
    if len(starts) == 2:
        starts.append(round(sum(starts) / 2))
    return starts


def _kept(
    start: int, window: int, border: int, size: int, all_edges: bool
) -> tuple[int, int]:
    low = 0 if all_edges and start == 0 else border
    high = window if all_edges and start + window == size else window - border
    return low, high


def whole_logits(
    variables: Mapping[str, Any],
    image: np.ndarray,
    margin: tuple[int, int, int] = (0, 0, 0),
    *,
    passes: Passes = 1,
) -> np.ndarray:
    """The logits behind `segment_whole`, for `labels_of_logits`."""
    bucket = _extend(image, bucket_shape(image.shape[:3]))
    flat = margin if _is_flat(image, margin) else (0, 0, 0)
    return np.asarray(_margin_logits(variables, bucket[None], margin, flat, passes))


def labels_of_logits(
    logits: np.ndarray,
    size: tuple[int, ...],
    margin: tuple[int, int, int] = (0, 0, 0),
    shape: tuple[int, ...] | None = None,
) -> Segmentation:
    """What `segment_whole` makes of `whole_logits` of an image of that size."""
    inner, bucket = _inner(size, margin), bucket_shape(size)
    if shape in (None, inner):
        found = _margin_labels(logits, bucket, margin)
        return Segmentation(*(np.asarray(a)[0][_first(inner)] for a in found))
    steps = (2, 2, 2 if _has_pairs(logits, bucket, margin) else 1)
    region = half_region(bucket, margin)
    places = tuple(
        places_between(n, count, start=m - 2 * low, step=step)
        for n, count, m, (low, _), step in zip(
            inner, shape, margin, region, steps, strict=True
        )
    )
    return Segmentation(*(np.asarray(a) for a in labels_at(logits[0], places)))


@functools.partial(jax.jit, static_argnames=("margin", "flat", "passes"))
def _predict(
    variables: Mapping[str, Any],
    batch: Array,
    margin: tuple[int, int, int] = (0, 0, 0),
    flat: tuple[int, int, int] = (0, 0, 0),
    passes: Passes = 1,
) -> tuple[Array, Array]:
    """Labels and confidence of a batch, without the margin at the ends of each axis."""
    logits = _margin_logits(variables, batch, margin, flat, passes)
    return _margin_labels(logits, batch.shape[1:4], margin)


@functools.partial(jax.jit, static_argnames=("margin", "flat", "passes"))
def _margin_logits(
    variables: Mapping[str, Any],
    batch: Array,
    margin: tuple[int, int, int],
    flat: tuple[int, int, int],
    passes: Passes,
) -> Array:
    """Logits of what the labels without the margin depend on."""
    region = half_region(batch.shape[1:4], margin)
    return logits_of_passes(variables, batch, region, flat, passes)


@functools.partial(jax.jit, static_argnames=("sizes", "margin"))
def _margin_labels(
    logits: Array, sizes: tuple[int, ...], margin: tuple[int, int, int]
) -> tuple[Array, Array]:
    region = half_region(sizes, margin)
    cut = tuple(
        slice(m - 2 * low, n - m - 2 * low)
        for m, n, (low, _) in zip(margin, sizes, region, strict=True)
    )
    pairs = _has_pairs(logits, sizes, margin)
    labels, confidence = upsampled_labels(logits, 2 if pairs else 1)
    return labels[:, *cut], confidence[:, *cut]


def _has_pairs(logits, sizes: tuple[int, ...], margin: tuple[int, int, int]) -> bool:
    """Whether a plane of logits stands for two slices, as without four passes."""
    first, stop = half_region(sizes, margin)[2]
    return logits.shape[3] == stop - first


def _inner(size: tuple[int, ...], margin: tuple[int, int, int]) -> tuple[int, ...]:
    return tuple(n - 2 * m for n, m in zip(size, margin, strict=True))


def _extend(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    widths = [(0, n - m) for n, m in zip(shape, image.shape[:3], strict=True)]
    return np.pad(image, [*widths, (0, 0)], mode="edge")


def _first(shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(0, n) for n in shape)


def _box(start: tuple[int, ...], window: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(s, s + w) for s, w in zip(start, window, strict=True))
