"""Whole slices at a muscle's ends.

Muscles are drawn on whole slices, from the first to the last of their levels (Table 1
of the paper). A network that is unsure of the last slice draws half of it, and shreds
of the next. Here a slice at an end is taken whole or not at all: all of it is taken
away, or the voxels that come next in the network's own order are added until the
section is as large as its neighbours let expect.
"""

import functools

import jax.numpy as jnp
import numpy as np
from jax import Array

from cervjax.anatomy import MUSCLES, NUM_CLASSES
from cervjax.labelling import Places, logits_of_slice

LEAST_SHARE = 1 / 3
"""Of its neighbours' area, from which a slice belongs to the muscle."""
FURTHEST = 6.0
"""How far a voxel's logit may lie below the largest to be added."""
SHRED = 0.1
"""Share of a muscle's voxels below which a piece apart is no part of it."""


def whole_ends(
    labels: np.ndarray,
    logits: np.ndarray | Array,
    places: tuple[Places, Places, Places],
) -> np.ndarray:
    """Labels with the slices at each muscle's ends whole.

    Args:
        labels: uint8 (x, y, z) of `labelling.labels_at`; z is along the neck.
        logits: (x, y, z, c), as there.
        places: of the labels' voxels, as there.

    Returns:
        uint8 (x, y, z). No muscle takes a voxel from another. One of fewer slices than
        four planes of logits stays as it is.
    """
    labels, logits = labels.copy(), jnp.asarray(logits)
    plane = _slices_of_a_plane(places[2])
    sizes = np.stack([
        np.bincount(labels[..., k].ravel(), minlength=NUM_CLASSES)
        for k in range(labels.shape[2])
    ]).astype(float)  # fmt: skip

    @functools.lru_cache(4 * plane)  # both sides of a muscle
    def logits_in(k: int) -> np.ndarray:
        x, y, z = places
        return np.asarray(logits_of_slice(logits, (x, y, Places(*(a[k] for a in z)))))

    for muscle in MUSCLES:
        area = sizes[:, muscle.label]
        extent = _extent(area, plane)
        if extent is None:
            continue
        apart = labels == muscle.label
        apart[..., extent[0] : extent[1] + 1] = False
        labels[apart] = 0
        for end, inwards in zip(extent, (1, -1), strict=True):
            near, far = (int(area[end + inwards * plane * i]) for i in (1, 2))
            for away in range(1, plane + 1):
                k = end + inwards * (plane - away)
                wanted = round(near + (near - far) / 2 * away / plane)
                around = _around(labels[..., k + inwards] == muscle.label)
                box = labels[..., k][around], logits_in(k)[:, *around]
                _complete(*box, muscle.label, wanted)
    return labels


def _slices_of_a_plane(along_z: Places) -> int:
    """How many of the scan's slices there are to a plane of logits, at least one."""
    at = along_z.before + along_z.beyond
    between = (at[-1] - at[0]) / max(len(at) - 1, 1)
    return max(1, round(1 / between)) if between > 0 else 1


def _extent(area: np.ndarray, plane: int) -> tuple[int, int] | None:
    """First and last slice of a muscle, by its area in each; None: leave it alone."""
    change = np.diff(np.r_[0, area > 0, 0].astype(int))
    starts, stops = np.flatnonzero(change > 0), np.flatnonzero(change < 0)
    held = np.array([area[a:b].sum() for a, b in zip(starts, stops, strict=True)])
    large = np.flatnonzero(held >= SHRED * area.sum())
    if not area.any() or not len(large):
        return None
    first, last = int(starts[large[0]]), int(stops[large[-1]]) - 1
    if last - first < 4 * plane - 1:
        return None

    def belongs(k: int, inwards: int) -> bool:
        inner = [area[k + inwards * plane * i] for i in (1, 2)]
        return area[k] >= LEAST_SHARE * np.mean(inner)

    middle = (first + last) / 2
    while first + plane < middle and not belongs(first, 1):
        first += 1
    while last - plane > middle and not belongs(last, -1):
        last -= 1
    return first, last


def _around(section: np.ndarray) -> tuple[slice, slice]:
    """The box of a section, a quarter wider on every side."""
    box = []
    for axis in (0, 1):
        at = np.flatnonzero(section.any(1 - axis))
        low, high = (at[0], at[-1] + 1) if len(at) else (0, 0)
        wider = -(-(high - low) // 4)
        box.append(slice(max(low - wider, 0), high + wider))
    return box[0], box[1]


def _complete(plane: np.ndarray, logits: np.ndarray, label: int, wanted: int) -> None:
    """Adds background voxels to a muscle's section, the likeliest first.

    Args:
        plane: uint8 (x, y), around the muscle; changed in place.
        logits: (c, x, y); where all are equal nothing was predicted.
        label: the muscle's.
        wanted: voxels of the section afterwards, if there are so many.
    """
    missing = wanted - np.count_nonzero(plane == label)
    if missing <= 0:
        return
    top = logits.max(0)
    below = top - logits[label]
    free = (plane == 0) & (below < FURTHEST) & (top > logits.min(0))
    at = np.flatnonzero(free)
    nearest = at[np.argsort(below.ravel()[at], kind="stable")[:missing]]
    plane[np.unravel_index(nearest, plane.shape)] = label  # a view of the labels
