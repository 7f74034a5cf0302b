"""Whether muscles lie where they lie in every neck, among each other."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer

from cervjax.anatomy import MUSCLES, NUM_CLASSES

# Which muscle's middle lies further back, or further from the midline, in every neck.
_BEHIND = (
    ("LC", "MFSS"),
    ("LC", "LS"),
    ("SCM", "LS"),
    ("SCM", "SPCap"),
    ("LS", "TR"),
    ("LC", "SSCap"),
)
_LATERAL = (("MFSS", "LS"), ("MFSS", "SCM"), ("LC", "SCM"), ("SSCap", "LS"))
# And which one lies lower, at the levels of Table 1.
_LOWER = (
    ("LS", "SPCap"),
    ("LS", "SSCap"),
    ("TR", "SPCap"),
    ("TR", "SSCap"),
    ("TR", "LC"),
)


_MOST_SHARED = 0.67
"""Of the shorter one's slices: muscles that share more are drawn in full length."""


_LEAST_SEEN_MM = 20


class Place(NamedTuple):
    """Where a muscle is.

    Attributes:
        middle: mean voxel index (x, y, z).
        slices: bool (z,), where it has voxels.
    """

    middle: np.ndarray
    slices: np.ndarray


def places_of(labels: Integer[np.ndarray, "x y z"]) -> dict[str, Place]:
    """The place of each muscle that is there, by its key (``LS_L``)."""
    found = {}
    counts = np.bincount(labels.reshape(-1), minlength=NUM_CLASSES)
    sums = [
        np.stack(
            [
                np.bincount(plane.ravel(), minlength=NUM_CLASSES)
                for plane in np.moveaxis(labels, axis, 0)
            ]
        )
        for axis in range(3)
    ]
    for m in MUSCLES:
        if counts[m.label]:
            per_axis = [np.arange(len(s)) @ s[:, m.label] for s in sums]
            middle = np.array(per_axis) / counts[m.label]
            found[m.key] = Place(middle, sums[2][:, m.label] > 0)
    return found


def share_in_place(
    places: Mapping[str, Place], *, at_levels: bool = False
) -> tuple[float, int]:
    """Share of places that are those of a neck, and of how many.

    Args:
        places: of `places_of`, in RAS.
        at_levels: some muscles lie lower than others, as in masks by Table 1; not
            looked at where two muscles share most of their slices.
    """
    right: list[bool] = []
    for m in MUSCLES[::2]:
        pair = [places.get(f"{m.abbreviation}_{side}") for side in "RL"]
        if pair[0] is not None and pair[1] is not None:
            right.append(pair[0].middle[0] > pair[1].middle[0])  # x grows to the right
    if not places:
        return 0.0, 0
    midline = np.mean([p.middle[0] for p in places.values()])

    def both(pairs: tuple[tuple[str, str], ...], side: str):
        for names in pairs:
            a, b = (places.get(f"{name}_{side}") for name in names)
            if a is not None and b is not None:
                yield a, b

    for side in "RL":
        right += [a.middle[1] > b.middle[1] for a, b in both(_BEHIND, side)]
        right += [
            abs(a.middle[0] - midline) < abs(b.middle[0] - midline)
            for a, b in both(_LATERAL, side)
        ]
        right += [
            a.middle[2] < b.middle[2]
            for a, b in both(_LOWER if at_levels else (), side)
            if not _share_slices(a, b)
        ]
    return (float(np.mean(right)) if right else 0.0), len(right)


def _share_slices(a: Place, b: Place) -> bool:
    shared = np.count_nonzero(a.slices & b.slices)
    shorter = min(np.count_nonzero(a.slices), np.count_nonzero(b.slices))
    return bool(shared > _MOST_SHARED * shorter)


def scm_slope(
    labels: Integer[np.ndarray, "x y z"], spacing_mm: tuple[float, float, float]
) -> float:
    """How far the sternocleidomastoids come forwards per millimetre upwards.

    From the mastoid down to the sternum they come forwards before the deep muscles (LC
    and MFSS): -0.5 to -0.9 in 27 digital necks, -0.9 to -1.5 in three real ones. A
    scan that is stored upside down turns the sign, whatever finds its muscles.

    Returns:
        The mean of both sides; NaN where less than 20 mm of them can be seen.
    """
    deep = [m.label for m in MUSCLES if m.abbreviation in ("LC", "MFSS")]
    slopes = []
    for m in MUSCLES:
        if m.abbreviation != "SCM":
            continue
        height, ahead = [], []
        for z in range(labels.shape[2]):
            own, others = (
                np.nonzero(np.isin(labels[..., z], kinds))[1]
                for kinds in ([m.label], deep)
            )
            if own.size and others.size:
                height.append(z * spacing_mm[2])
                ahead.append((own.mean() - others.mean()) * spacing_mm[1])
        if len(height) > 2 and height[-1] - height[0] >= _LEAST_SEEN_MM:
            slopes.append(np.polyfit(height, ahead, 1)[0])
    return float(np.mean(slopes)) if slopes else float("nan")
