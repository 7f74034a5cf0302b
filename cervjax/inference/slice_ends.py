"""Whole slices at muscles' ends.

Muscles are drawn on whole slices, from the first to the last of their levels (Table 1
of the paper); those of one level end in one slice, left and right. A network that is
unsure of that slice draws half of it, or one side, and shreds of the next. Here a slice
at an end is taken whole or not at all, for all muscles that end there: what lies beyond
is taken away, and voxels that come next in the network's own order are added until a
section is as large as its neighbours let expect.
"""

import functools

import jax.numpy as jnp
import numpy as np
from jax import Array

from cervjax.anatomy import MUSCLES, NUM_CLASSES
from cervjax.inference.decode import Places, logits_of_slice

LEAST_SHARE = 1 / 3
"""Of the neighbours' area, from which a slice belongs to the muscles that end there."""
FURTHEST = 6.0
"""How far a voxel's logit may lie below the largest to be added."""
SHRED = 0.1
"""Share of the muscles below which what lies apart from them is no part of them."""


def snap_slice_ends(
    labels: np.ndarray,
    logits: np.ndarray | Array,
    places: tuple[Places, Places, Places],
) -> np.ndarray:
    """Labels with the slices at the muscles' ends whole.

    Args:
        labels: uint8 (x, y, z) of `decode.labels_at`; z goes up the neck.
        logits: (x, y, z, c), as there.
        places: of the labels' voxels, as there.

    Returns:
        uint8 (x, y, z). No muscle takes a voxel from another. Where muscles take fewer
        slices than four planes of logits, their ends stay as they are.
    """
    labels, logits = labels.copy(), jnp.asarray(logits)
    plane = _slices_of_a_plane(places[2])
    area = np.stack(
        [
            np.bincount(labels[..., k].ravel(), minlength=NUM_CLASSES)
            for k in range(labels.shape[2])
        ]
    ).astype(float)
    ends = _ends(area, plane)
    for label, end, inwards in ends:
        beyond = labels[..., :end] if inwards > 0 else labels[..., end + 1 :]
        beyond[beyond == label] = 0

    @functools.lru_cache(8 * plane)
    def logits_in(k: int) -> np.ndarray:
        x, y, z = places
        return np.asarray(logits_of_slice(logits, (x, y, Places(*(a[k] for a in z)))))

    for label, end, inwards in ends:
        near, far = (int(area[end + inwards * plane * i, label]) for i in (1, 2))
        for away in range(1, plane + 1) if near and far else ():
            k = end + inwards * (plane - away)
            wanted = round(near + (near - far) / 2 * away / plane)
            around = _around(labels[..., k + inwards] == label)
            box = labels[..., k][around], logits_in(k)[:, *around]
            _complete(*box, label, wanted)
    return labels


def _ends(area: np.ndarray, plane: int) -> list[tuple[int, int, int]]:
    """Label, last slice, and the way inwards, of all ends that are to be whole.

    Args:
        area: (slices, c) of each label in each slice.
        plane: slices to a plane of logits.
    """
    typical = [np.median(a[a > 0]) if a.any() else 1.0 for a in area.T]
    found = []
    for inwards, level in ((1, -1), (-1, 0)):  # C6 of C4-C6 is their lower end
        for name in dict.fromkeys(m.levels[level] for m in MUSCLES):
            labels = [m.label for m in MUSCLES if m.levels[level] == name]
            shares = [area[::inwards, n] / typical[n] for n in labels]
            total = np.sum(shares, axis=0)
            end = _first_slice(total, plane)
            if end is not None:
                end = end if inwards > 0 else len(area) - 1 - end
                found += [(label, end, inwards) for label in labels]
    return found


def _slices_of_a_plane(along_z: Places) -> int:
    """How many of the scan's slices there are to a plane of logits, at least one."""
    at = along_z.before + along_z.beyond
    between = (at[-1] - at[0]) / max(len(at) - 1, 1)
    return max(1, round(1 / between)) if between > 0 else 1


def _first_slice(total: np.ndarray, plane: int) -> int | None:
    """Where muscles begin, by their size in each slice; None: leave them alone."""
    change = np.diff(np.r_[0, total > 0, 0].astype(int))
    starts, stops = np.flatnonzero(change > 0), np.flatnonzero(change < 0)
    held = np.array([total[a:b].sum() for a, b in zip(starts, stops, strict=True)])
    large = np.flatnonzero(held >= SHRED * total.sum())
    if not len(large) or stops[large[-1]] - starts[large[0]] < 4 * plane:
        return None
    first = int(starts[large[0]])
    middle = (first + stops[large[-1]] - 1) / 2
    while first + plane < middle:
        inner = [total[first + plane * i] for i in (1, 2)]
        if total[first] >= LEAST_SHARE * np.mean(inner):
            break
        first += 1
    return first


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
