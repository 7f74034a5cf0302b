"""How far a scan is from what a network knows: is it a neck, did it find its way?

From what was found alone, so that it holds for any contrast: a neck has 14 muscles,
vertebral bodies in order, and every muscle on its side of the spine and in its place
among the others. Where that fails the numbers are of something else.
"""

from typing import Literal, NamedTuple

import numpy as np

from cervjax.anatomy import MUSCLES, NUM_CLASSES
from cervjax.inference.levels import DOUBTFUL, LEVEL_NUMBERS, SliceLevels
from cervjax.measurement.places import places_of, share_in_place

Familiarity = Literal["known", "doubtful", "stranger"]

SMALLEST_MUSCLE_ML = 0.5
"""A muscle with less was not found."""
LEAST_MUSCLES = 9
"""With fewer of the 14 it is no neck that the network knows."""
LEAST_ORDER = 0.8
"""Share of places that must be right."""
LEAST_CONFIDENCE = 0.6
"""Mean over the voxels of muscles, below which the contrast is not well known."""
_TABLE_1 = sorted({level for m in MUSCLES for level in m.levels})


class Verdict(NamedTuple):
    """Whether the numbers of a scan may be used.

    Attributes:
        familiarity: "known", "doubtful" (look at the picture) or "stranger" (no neck,
            or nothing that the network knows).
        reasons: what speaks against it, in words; empty if known.
    """

    familiarity: Familiarity
    reasons: tuple[str, ...]


def judge(
    labels: np.ndarray,
    confidence: np.ndarray,
    levels: SliceLevels,
    spacing_mm: tuple[float, ...],
) -> Verdict:
    """Judges what a network found in a scan.

    Args:
        labels: uint8 (x, y, z) in RAS, muscles in their full length.
        confidence: float32 (x, y, z).
        levels: of the slices.
        spacing_mm: of the voxels.
    """
    counts = np.bincount(labels.reshape(-1), minlength=NUM_CLASSES)
    volume_ml = counts * float(np.prod(spacing_mm)) / 1000
    found = [m for m in MUSCLES if volume_ml[m.label] >= SMALLEST_MUSCLE_ML]
    named = [
        name
        for name in _TABLE_1
        if np.any(levels.confidence[levels.number == LEVEL_NUMBERS[name]] >= DOUBTFUL)
    ]
    strange, doubtful = [], []
    if len(found) < LEAST_MUSCLES:
        strange.append(f"{len(found)} of 14 muscles found")
    elif len(found) < len(MUSCLES):
        absent = [m.key for m in MUSCLES if m not in found]
        doubtful.append(f"not found: {', '.join(absent)}")
    if not named:
        strange.append("no vertebral level found")
    elif len(named) < len(_TABLE_1):
        unknown = [name for name in _TABLE_1 if name not in named]
        doubtful.append(f"levels not surely found: {', '.join(unknown)}")
    keys = {m.key for m in found}
    places = {key: at for key, at in places_of(labels).items() if key in keys}
    order, _ = share_in_place(places)
    if order < LEAST_ORDER:
        strange.append(f"{100 * order:.0f} % of muscles' places are those of a neck")
    muscle = labels > 0
    sure = float(confidence[muscle].mean()) if muscle.any() else 0.0
    if sure < LEAST_CONFIDENCE:
        doubtful.append(f"the network is unsure (mean confidence {sure:.2f})")
    if strange:
        return Verdict("stranger", tuple(strange + doubtful))
    return Verdict("doubtful" if doubtful else "known", tuple(doubtful))


def verdict_warnings(verdict: Verdict) -> list[str]:
    """What a reader of the numbers should know; nothing if the scan is known."""
    reasons = "; ".join(verdict.reasons)
    if verdict.familiarity == "stranger":
        return [
            f"not a neck that these weights know ({reasons}): do not use the numbers"
        ]
    if verdict.familiarity == "doubtful":
        return [f"doubtful ({reasons}): compare with the picture before using numbers"]
    return []
