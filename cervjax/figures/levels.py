"""Which axial slices show C3, C4, C5 and C6: read from a map, or from the muscles.

Table 1 of Weber et al. 2021 ends each muscle at the border of a vertebral level, so
that a mask drawn by its rule knows the levels:

=====================  ==========================================================
border                 where these muscles end
=====================  ==========================================================
below C6               lowest slices of MFSS, LC, SCM, TR and LS
C6 | C5                highest slice of TR, lowest slices of SPCap and SSCap
C5 | C4                highest slice of LS
C4 | C3                highest slices of MFSS and SCM
above C3               highest slices of LC, SPCap and SSCap
=====================  ==========================================================

Arrays are ``(x, y, z)`` in RAS: slice 0 is the most inferior.
"""

from typing import NamedTuple

import numpy as np

from cervjax.anatomy import MUSCLES
from cervjax.figures.checks import check_labels

LEVELS = ("C3", "C4", "C5", "C6")
"""The paper's levels, from above; Table 1 is made of them."""

LEVEL_NUMBERS = {level: int(level[1]) for level in LEVELS}
"""Their values in a map of levels, as `cervjax phantom` writes it: C3 is 3."""

HEIGHT_LIMITS_MM = (8.0, 30.0)
"""Vertebral body and disc of an adult's C3-C6 are 13-22 mm high; wide of that."""

AGREEMENT_MM = 4.5
"""Half of a border's ends must lie this near to their median: a quarter of a level."""

_SLIVER = 0.1  # of a muscle's usual area: less is a stray voxel, not the muscle
_Ends = dict[str, list[tuple[str, int]]]


class LevelSlice(NamedTuple):
    """Where a level is, or why that is not known.

    Attributes:
        level: ``C3`` to ``C6``.
        index: axial slice through its middle, or None.
        reason: why there is none; empty where there is one.
    """

    level: str
    index: int | None
    reason: str = ""


def slices_of_map(levels: np.ndarray) -> tuple[LevelSlice, ...]:
    """The middle slice of each level in a map of levels.

    A slice belongs to the level that most of its labelled voxels have. Of an even
    number of slices, the lower of the two middle ones is taken.

    Args:
        levels: ``(x, y, z)`` in RAS, 3-6 for C3-C6, other whole numbers elsewhere.

    Returns:
        C3, C4, C5, C6.

    Raises:
        ValueError: the map is not 3-D.
    """
    levels = np.asarray(levels)
    if levels.ndim != 3:
        raise ValueError(
            f"a map of levels must be 3-D (x, y, z), got shape {levels.shape}"
        )
    values = np.unique(levels[levels != 0])
    counts = np.array([(levels == value).sum((0, 1)) for value in values])
    found = []
    for level, number in LEVEL_NUMBERS.items():
        inside = np.zeros(levels.shape[2], bool)
        if number in values:
            own = counts[values == number][0]
            inside = (own > 0) & (own == counts.max(0))
        slices = np.flatnonzero(inside)
        if slices.size:
            found.append(LevelSlice(level, int(slices[0] + slices[-1]) // 2))
        else:
            reason = f"the map of levels has no slice of {level} (value {number})"
            found.append(LevelSlice(level, None, reason))
    return tuple(found)


def slices_of_muscles(labels: np.ndarray, slice_mm: float) -> tuple[LevelSlice, ...]:
    """The middle slice of each level, from where the muscles end (Table 1).

    A border is the median of the ends named in this module's table, of both sides.
    Slices with less than a tenth of a muscle's usual area do not count as its own, so
    stray voxels do no harm. A border is not known if no muscle ends there, if fewer
    than half of the ends lie within `AGREEMENT_MM` of the median, or if a muscle
    runs out of the volume there. A level is not known if one of its borders is not, or
    if its height is outside `HEIGHT_LIMITS_MM`, as in a mask that follows the muscles
    beyond the paper's levels. Nothing is guessed.

    Args:
        labels: integers 0-14, ``(x, y, z)`` in RAS.
        slice_mm: distance between slices, millimetres.

    Returns:
        C3, C4, C5, C6.

    Raises:
        ValueError: labels are not 3-D or not in 0-14, or the distance is not positive.

    Reference: Weber et al. 2021, Table 1.
    """
    labels = np.asarray(labels)
    check_labels(labels)
    if not slice_mm > 0:
        raise ValueError(f"slice_mm must be positive, got {slice_mm}")
    above, below = _ends(labels)
    last = labels.shape[2]
    borders = [_border("above C3", above["C3"], slice_mm, last)]
    for upper, lower in zip(LEVELS, LEVELS[1:], strict=False):
        ends = above[lower] + below[upper]
        borders.append(_border(f"between {upper} and {lower}", ends, slice_mm, last))
    borders.append(_border("below C6", below["C6"], slice_mm, last))
    return tuple(
        _between(level, borders[i + 1], borders[i], slice_mm)
        for i, level in enumerate(LEVELS)
    )


def _ends(labels: np.ndarray) -> tuple[_Ends, _Ends]:
    """Ends of the muscles at the upper and at the lower border of each level.

    Borders are counted in slices from the lower face of slice 0.
    """
    above: _Ends = {level: [] for level in LEVELS}
    below: _Ends = {level: [] for level in LEVELS}
    for m in MUSCLES:
        area = (labels == m.label).sum((0, 1))
        if area.any():
            slices = np.flatnonzero(area >= _SLIVER * np.median(area[area > 0]))
            above[m.levels[0]].append((m.key, int(slices[-1]) + 1))
            below[m.levels[-1]].append((m.key, int(slices[0])))
    return above, below


def _border(
    where: str, ends: list[tuple[str, int]], slice_mm: float, last: int
) -> float | str:
    """The border in slices, or why it is not known."""
    if not ends:
        return f"no muscle ends {where}"
    heights = np.array([height for _, height in ends], float)
    middle = float(np.median(heights))
    if middle in (0, last):
        return f"the muscles that should end {where} run out of the volume"
    near = np.abs(heights - middle) * slice_mm <= AGREEMENT_MM
    if 2 * near.sum() < near.size or not near.any():
        places = ", ".join(f"{key} {height}" for key, height in ends)
        return f"the muscles disagree {where} (borders in slices: {places})"
    return middle


def _between(
    level: str, lower: float | str, upper: float | str, slice_mm: float
) -> LevelSlice:
    for border in (lower, upper):
        if isinstance(border, str):
            return LevelSlice(level, None, border)
    assert not isinstance(lower, str) and not isinstance(upper, str)
    height_mm = (upper - lower) * slice_mm
    low, high = HEIGHT_LIMITS_MM
    if not low <= height_mm <= high:
        reason = f"{level} would be {height_mm:g} mm high, not {low:g}-{high:g} mm"
        return LevelSlice(level, None, reason)
    return LevelSlice(level, int(np.floor((lower + upper - 1) / 2)))
