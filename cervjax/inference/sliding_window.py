"""From a preprocessed volume to a label map, window by window.

The grid of windows is NiftyNet's: borders cut, later windows overwrite earlier ones.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from cervjax.anatomy import NUM_CLASSES
from cervjax.inference.decode import places_between
from cervjax.inference.test_time_augmentation import Passes
from cervjax.inference.types import Segmentation, check_window
from cervjax.inference.whole_volume import (
    extend,
    first,
    margin_logits,
    predict,
    segmentation_at,
)

Size = tuple[int, int, int]


def segment_windows(
    variables: Mapping[str, Any],
    image: np.ndarray,
    *,
    window: Size = (360, 240, 32),
    border: Size = (8, 8, 8),
    predict_border: bool = False,
    batch_size: int = 1,
    passes: Passes = 1,
) -> Segmentation:
    """Labels of the volume's own voxels, as NiftyNet puts them together.

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
    check_window(window, border)
    shape = image.shape[:3]
    image = extend(image, tuple(map(max, shape, window)))
    labels = np.zeros(image.shape[:3], np.uint8)
    confidence = np.zeros(image.shape[:3], np.float32)
    starts = list(window_starts(image.shape[:3], window, border))
    ask = partial(predict, variables, passes=passes)
    for start, found in _answers(ask, image, starts, window, batch_size):
        inner, outer = _kept(start, window, border, labels.shape, predict_border)
        labels[outer] = found[0][inner]
        confidence[outer] = found[1][inner]
    return Segmentation(labels[first(shape)], confidence[first(shape)])


def segment_windows_at(
    variables: Mapping[str, Any],
    image: np.ndarray,
    margin: Size,
    shape: tuple[int, ...],
    *,
    window: Size = (360, 240, 32),
    border: Size = (8, 8, 8),
    predict_border: bool = False,
    batch_size: int = 1,
    passes: Passes = 1,
    slices_whole: bool = False,
) -> Segmentation:
    """Labels of a scan's voxels, as `segment_whole` finds them, but in windows.

    The windows' logits are put together, and interpolated at the voxels of the scan.
    Odd borders grow by a voxel, since logits stand for two.

    Args:
        variables: the network's.
        image: as for `segment_windows`.
        margin: voxels at both ends of each axis that need no label.
        shape: of the scan, whose corners lie on those of the image within the margin.
        window: as for `segment_windows`.
        border: likewise.
        predict_border: likewise.
        batch_size: likewise.
        passes: likewise.
        slices_whole: as for `segment_whole`.

    Returns:
        Labels and confidence, of ``shape``; where nothing was predicted, 0 and 1 / 15.

    Raises:
        ValueError: as `segment_windows`.
    """
    check_window(window, border)
    x, y, z = (b + b % 2 for b in border)
    border = (x, y, z)
    check_window(window, border)  # once more: it grew
    size = image.shape[:3]
    image = extend(
        image, tuple(max(n + n % 2, w) for n, w in zip(size, window, strict=True))
    )
    steps = (2, 2, 1 if passes == 4 else 2)
    whole = (n // step for n, step in zip(image.shape[:3], steps, strict=True))
    logits = np.zeros((*whole, NUM_CLASSES), np.float32)
    starts = list(window_starts(image.shape[:3], window, border, even=True))
    nothing = {"margin": (0, 0, 0), "flat": (0, 0, 0)}
    ask = partial(_logits, variables, passes=passes, **nothing)
    for start, (found,) in _answers(ask, image, starts, window, batch_size):
        inner, outer = _kept(start, window, border, image.shape[:3], predict_border)
        inner = tuple(map(_coarse, inner, steps, found.shape[:3]))
        outer = tuple(
            slice(o.start // step, o.start // step + i.stop - i.start)
            for o, i, step in zip(outer, inner, steps, strict=True)
        )
        logits[outer] = found[inner]
    along_x, along_y, along_z = (
        places_between(n - 2 * m, count, start=m, step=step)
        for n, m, count, step in zip(size, margin, shape, steps, strict=True)
    )
    return segmentation_at(logits, (along_x, along_y, along_z), slices_whole)


def window_starts(
    shape: tuple[int, ...],
    window: tuple[int, ...],
    border: tuple[int, ...],
    *,
    even: bool = False,
) -> Iterator[Size]:
    """First voxels of NiftyNet's windows, in its order: z fastest, then x, then y.

    Per axis the windows step by window - 2 border and end flush with the volume; where
    two would do, a third in the middle is run last, ``even`` on an even voxel.
    """
    xs, ys, zs = (
        _axis_starts(n, w, b, even)
        for n, w, b in zip(shape, window, border, strict=True)
    )
    return ((x, y, z) for y, x, z in itertools.product(ys, xs, zs))


def _axis_starts(size: int, window: int, border: int, even: bool) -> list[int]:
    step = max(window - 2 * border, 1)
    starts = sorted({*range(0, size - window + 1, step), size - window})
    if len(starts) == 2:
        middle = round(sum(starts) / 2)
        starts.append(middle - middle % 2 if even else middle)
    return starts


def _answers(
    ask: Callable[[np.ndarray], tuple[jax.Array, ...]],
    image: np.ndarray,
    starts: list[Size],
    window: Size,
    batch_size: int,
) -> Iterator[tuple[Size, list[np.ndarray]]]:
    """Each window's start and what is answered about it."""
    for at in range(0, len(starts), batch_size):
        group = starts[at : at + batch_size]
        # A last, smaller group repeats a window instead of compiling a new function.
        filled = group + group[-1:] * (min(batch_size, len(starts)) - len(group))
        boxes = [
            tuple(slice(s, s + w) for s, w in zip(start, window, strict=True))
            for start in filled
        ]
        found = [np.asarray(a) for a in ask(np.stack([image[box] for box in boxes]))]
        for i, start in enumerate(group):
            yield start, [a[i] for a in found]


def _logits(variables: Mapping[str, Any], batch: np.ndarray, **how: Any) -> tuple:
    return (margin_logits(variables, batch, **how),)


def _coarse(part: slice, step: int, size: int) -> slice:
    """The logits that voxels depend on: theirs, and the next beyond the last."""
    return slice(part.start // step, min(part.stop // step + 1, size))


def _kept(
    start: Size,
    window: Size,
    border: Size,
    shape: tuple[int, ...],
    all_edges: bool,
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The part of a window that is kept: its box in the window and in the volume."""
    cut = [
        (0 if all_edges and s == 0 else b, w if all_edges and s + w == n else w - b)
        for s, w, b, n in zip(start, window, border, shape, strict=True)
    ]
    inner = tuple(slice(low, high) for low, high in cut)
    outer = tuple(
        slice(s + low, s + high) for s, (low, high) in zip(start, cut, strict=True)
    )
    return inner, outer
