"""From a preprocessed volume to a label map, in one piece.

The network runs in one compiled function per input shape, and full
resolution class probabilities are never held: labels and the largest probability
leave the device, slab by slab.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax import Array

from cervjax.inference.decode import Places, labels_at, places_between, upsampled_labels
from cervjax.inference.slice_ends import whole_ends
from cervjax.inference.test_time_augmentation import (
    Passes,
    half_region,
    logits_of_passes,
)
from cervjax.inference.types import Segmentation

BUCKET = (16, 16, 8)
"""Whole volumes are extended to multiples of this, so that scans share functions."""
WHOLE_BYTES_PER_VOXEL = {1: 120, 2: 145, 4: 180}
"""Device memory of whole mode for as many passes;
`tests/inference/test_whole_volume.py` holds it to the compiler's."""


def segment_whole(
    variables: Mapping[str, Any],
    image: np.ndarray,
    margin: tuple[int, int, int] = (0, 0, 0),
    *,
    passes: Passes = 1,
    shape: tuple[int, ...] | None = None,
    slices_whole: bool = False,
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
        slices_whole: take slices at a muscle's ends whole or not at all, see `ends`.

    Returns:
        Labels and confidence without the margin, of ``shape``.
    """
    inner = _inner(image.shape[:3], margin)
    if slices_whole or shape not in (None, inner):
        logits = whole_logits(variables, image, margin, passes=passes)
        size = image.shape[:3]
        return labels_of_logits(logits, size, margin, shape, slices_whole)
    bucket = extend(image, bucket_shape(image.shape[:3]))
    flat = margin if _is_flat(image, margin) else (0, 0, 0)
    result = predict(variables, bucket[None], margin, flat, passes)
    return Segmentation(*(np.asarray(a)[0][first(inner)] for a in result))


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


def bucket_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that a volume is extended to in whole mode."""
    return tuple(-(-n // b) * b for n, b in zip(shape, BUCKET, strict=True))


def whole_memory_bytes(shape: tuple[int, ...], passes: Passes = 1) -> float:
    """About what whole mode takes for a padded volume, beyond the volume itself."""
    return float(np.prod(bucket_shape(shape))) * WHOLE_BYTES_PER_VOXEL[passes]


def whole_logits(
    variables: Mapping[str, Any],
    image: np.ndarray,
    margin: tuple[int, int, int] = (0, 0, 0),
    *,
    passes: Passes = 1,
) -> np.ndarray:
    """The logits behind `segment_whole`, for `labels_of_logits`."""
    bucket = extend(image, bucket_shape(image.shape[:3]))
    flat = margin if _is_flat(image, margin) else (0, 0, 0)
    return np.asarray(margin_logits(variables, bucket[None], margin, flat, passes))


def labels_of_logits(
    logits: np.ndarray,
    size: tuple[int, ...],
    margin: tuple[int, int, int] = (0, 0, 0),
    shape: tuple[int, ...] | None = None,
    slices_whole: bool = False,
) -> Segmentation:
    """What `segment_whole` makes of `whole_logits` of an image of that size."""
    inner, bucket = _inner(size, margin), bucket_shape(size)
    if shape in (None, inner) and not slices_whole:
        found = _margin_labels(logits, bucket, margin)
        return Segmentation(*(np.asarray(a)[0][first(inner)] for a in found))
    steps = (2, 2, 2 if _has_pairs(logits, bucket, margin) else 1)
    region = half_region(bucket, margin)
    x, y, z = (
        places_between(n, count, start=m - 2 * low, step=step)
        for n, count, m, (low, _), step in zip(
            inner, shape or inner, margin, region, steps, strict=True
        )
    )
    return segmentation_at(logits[0], (x, y, z), slices_whole)


def segmentation_at(
    logits: np.ndarray, places: tuple[Places, Places, Places], slices_whole: bool
) -> Segmentation:
    """`labelling.labels_at`, and `ends.whole_ends` of it if asked for.

    The confidence of a voxel that is added or taken away there stays as it was.
    """
    labels, confidence = (np.asarray(a) for a in labels_at(logits, places))
    if slices_whole:
        labels = whole_ends(labels, logits, places)
    return Segmentation(labels, confidence)


@functools.partial(jax.jit, static_argnames=("margin", "flat", "passes"))
def predict(
    variables: Mapping[str, Any],
    batch: Array,
    margin: tuple[int, int, int] = (0, 0, 0),
    flat: tuple[int, int, int] = (0, 0, 0),
    passes: Passes = 1,
) -> tuple[Array, Array]:
    """Labels and confidence of a batch, without the margin at the ends of each axis."""
    logits = margin_logits(variables, batch, margin, flat, passes)
    return _margin_labels(logits, batch.shape[1:4], margin)


@functools.partial(jax.jit, static_argnames=("margin", "flat", "passes"))
def margin_logits(
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


def extend(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A volume (x, y, z, c) grown at its far ends by repeating its last planes."""
    widths = [(0, n - m) for n, m in zip(shape, image.shape[:3], strict=True)]
    return np.pad(image, [*widths, (0, 0)], mode="edge")


def first(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """The box of that shape at the near ends."""
    return tuple(slice(0, n) for n in shape)
