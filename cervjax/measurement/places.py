"""Whether muscles lie where they lie in every neck, among each other."""

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


def middles(labels: Integer[np.ndarray, "x y z"]) -> dict[str, np.ndarray]:
    """Mean voxel index of each muscle that is there, by its key (``LS_L``)."""
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
            found[m.key] = np.array(per_axis) / counts[m.label]
    return found


def share_in_place(
    middle: dict[str, np.ndarray], *, at_levels: bool = False
) -> tuple[float, int]:
    """Share of places that are those of a neck, and of how many.

    Args:
        middle: of `middles`, in RAS.
        at_levels: muscles are drawn at the levels of Table 1, so that some lie lower.
    """
    right = []
    for m in MUSCLES[::2]:
        pair = [middle.get(f"{m.abbreviation}_{side}") for side in "RL"]
        if pair[0] is not None and pair[1] is not None:
            right.append(pair[0][0] > pair[1][0])  # x grows to the right
    if not middle:
        return 0.0, 0
    midline = np.mean([p[0] for p in middle.values()])
    for side in "RL":
        for one, other in _BEHIND:
            a, b = middle.get(f"{one}_{side}"), middle.get(f"{other}_{side}")
            if a is not None and b is not None:
                right.append(a[1] > b[1])
        for one, other in _LATERAL:
            a, b = middle.get(f"{one}_{side}"), middle.get(f"{other}_{side}")
            if a is not None and b is not None:
                right.append(abs(a[0] - midline) < abs(b[0] - midline))
        for one, other in _LOWER if at_levels else ():
            a, b = middle.get(f"{one}_{side}"), middle.get(f"{other}_{side}")
            if a is not None and b is not None:
                right.append(a[2] < b[2])
    return (float(np.mean(right)) if right else 0.0), len(right)
