"""Vertebral levels of slices, from the bodies that a network found; the paper's rule.

Networks with `LEVEL_CLASSES` mark muscles in their full length and the bodies of C2 to
T1. Bodies look much alike, so slices are named together: upwards the level can only
rise, and of all such sequences the one is taken that most voxels of bodies agree with.
A level reaches from the middle between its body and the next lower one to the middle
between it and the next higher one.
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from cervjax.anatomy import LEVEL_CLASSES, LEVEL_NUMBERS, MUSCLES, NUM_CLASSES

SMALLEST_BODY_ML = 0.25
"""A level with fewer voxels of its body was not found."""
_TYPICAL_BODY_ML = 1.0
DOUBTFUL = 0.5
"""Confidence below which a level is reported."""
_TABLE_1 = {level for m in MUSCLES for level in m.levels}
_ENDS = (0.05, 0.95)  # of a body's voxels along z: robust to single ones


class SliceLevels(NamedTuple):
    """The level of each slice.

    Attributes:
        number: uint8 (z,), 2-7 for C2-C7, 8 for T1, 0 where it is unknown.
        confidence: float32 (z,), 0-1: the share of voxels of bodies at that level that
            were marked as it, less where the body is small.
    """

    number: np.ndarray
    confidence: np.ndarray


class Level(NamedTuple):
    """A vertebral level that was found.

    Attributes:
        level: "C2" to "T1".
        first_slice: its lowest axial slice; 0 is the lowest of the scan, in whatever
            order the file has them, as in ``measurements_slices.csv``.
        last_slice: its highest one, included.
        confidence: 0-1, see `SliceLevels`.
    """

    level: str
    first_slice: int
    last_slice: int
    confidence: float


def slice_levels(classes: np.ndarray, voxel_ml: float) -> SliceLevels:
    """Names slices by the bodies in them.

    Args:
        classes: uint8 (x, y, z), z upwards; bodies by `LEVEL_CLASSES`.
        voxel_ml: volume of a voxel.
    """
    count = classes.shape[2]
    first, num = NUM_CLASSES, len(LEVEL_CLASSES)
    voxels = np.stack(
        [
            np.bincount(plane[plane >= first] - first, minlength=num)
            for plane in np.moveaxis(classes, 2, 0)
        ]
    ).astype(np.float64)
    level = _ordered(voxels)
    found = {}
    for i in range(num):
        own = np.where(level == i, voxels[:, i], 0)
        if own.sum() * voxel_ml >= SMALLEST_BODY_ML:
            share = own.sum() / voxels[level == i].sum()
            size = min(own.sum() * voxel_ml / _TYPICAL_BODY_ML, 1.0)
            found[i] = (*_extent(own), share * size)
    number, confidence = np.zeros(count, np.uint8), np.zeros(count, np.float32)
    for i, (low, high) in _bounds(found).items():
        inside = (np.arange(count) >= low) & (np.arange(count) < high)
        number[inside] = i + 2
        confidence[inside] = found[i][2]
    return SliceLevels(number, confidence)


def at_their_levels(labels: np.ndarray, level: np.ndarray) -> np.ndarray:
    """The paper's rule: each muscle in the slices of its levels in Table 1 only.

    Args:
        labels: uint8 (x, y, z), muscles in their full length, 0-14.
        level: (z,) as in `SliceLevels`.

    Returns:
        uint8 (x, y, z).
    """
    kept = np.zeros((NUM_CLASSES, 9), bool)
    for m in MUSCLES:
        kept[m.label, [LEVEL_NUMBERS[name] for name in m.levels]] = True
    return np.where(kept[labels, level], labels, 0).astype(np.uint8)


def levels_found(levels: SliceLevels) -> tuple[Level, ...]:
    """The levels that have a slice, from C2 down."""
    found = []
    for name, number in LEVEL_NUMBERS.items():
        slices = np.flatnonzero(levels.number == number)
        if slices.size:
            confidence = float(levels.confidence[slices].max())
            found.append(Level(name, int(slices[0]), int(slices[-1]), confidence))
    return tuple(found)


def levels_line(found: Collection[Level]) -> str:
    """Which levels were found and which not: "levels C3-C7 found; C2, T1 not"."""
    names = {level.level for level in found}
    if not names:
        return "no vertebral level found"
    text = f"levels {_spans(names)} found"
    missing = LEVEL_NUMBERS.keys() - names
    return f"{text}; {_spans(missing)} not" if missing else text


def _spans(names: Collection[str]) -> str:
    """Levels by name, three and more neighbours by the first and the last."""
    runs: list[list[str]] = []
    before = None
    for name in LEVEL_NUMBERS:
        if name in names and before in names:
            runs[-1].append(name)
        elif name in names:
            runs.append([name])
        before = name
    return ", ".join(f"{r[0]}-{r[-1]}" if len(r) > 2 else ", ".join(r) for r in runs)


def levels_warnings(levels: SliceLevels) -> list[str]:
    """What a reader should know: levels of Table 1 that were not found, or hardly."""
    doubtful = []
    for name, number in LEVEL_NUMBERS.items():
        own = levels.confidence[levels.number == number]
        if name in _TABLE_1 and (not own.size or own.max() < DOUBTFUL):
            doubtful.append(name)
    if not doubtful:
        return []
    return [
        f"the vertebral level(s) {', '.join(doubtful)} were not found, or not surely: "
        "muscles may be cut at wrong slices; compare with the images"
    ]


def _ordered(voxels: np.ndarray) -> np.ndarray:
    """(z,) index of the level of each slice, never rising upwards from T1 to C2."""
    gain = voxels[:, ::-1]  # from T1 up, as slices go
    total, num = gain.copy(), gain.shape[1]
    came_from = np.zeros(gain.shape, int)
    for k in range(1, len(gain)):
        best = np.maximum.accumulate(total[k - 1])
        came_from[k] = [int(np.argmax(total[k - 1][: i + 1])) for i in range(num)]
        total[k] += best
    path = np.zeros(len(gain), int)
    path[-1] = int(np.argmax(total[-1]))
    for k in range(len(gain) - 1, 0, -1):
        path[k - 1] = came_from[k, path[k]]
    return num - 1 - path


def _extent(voxels: np.ndarray) -> tuple[float, float]:
    """Lower and upper end of a body, in slices, from its voxels per slice."""
    edges = np.arange(len(voxels) + 1) - 0.5
    share = np.r_[0, np.cumsum(voxels)] / voxels.sum()
    low, high = np.interp(_ENDS, share, edges)
    reach = (high - low) * _ENDS[0] / (_ENDS[1] - _ENDS[0])
    return float(low - reach), float(high + reach)


def _bounds(
    found: dict[int, tuple[float, float, float]],
) -> dict[int, tuple[float, float]]:
    """Lower and upper end of each level that was found, in slices.

    Where the next level was not found, half a disc is added to the body's end.
    """
    half_disc = 0.15  # of a body's height
    bounds = {}
    for i, (low, high, _) in found.items():
        beyond = half_disc * (high - low)
        lower = (low + found[i + 1][1]) / 2 if i + 1 in found else low - beyond
        upper = (high + found[i - 1][0]) / 2 if i - 1 in found else high + beyond
        bounds[i] = (lower, upper)
    return bounds
