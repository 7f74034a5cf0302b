"""Measurements of each muscle by vertebral level, and within the paper's levels."""

from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from cervjax.anatomy import LEVEL_NUMBERS, MUSCLES
from cervjax.measurement.composition import Rows, measure

_KEPT = ("volume_ml", "mfi_percent", "fat_fraction_mean_percent", "voxels", "slices")
_NAMES = {number: name for name, number in LEVEL_NUMBERS.items()}


def measure_levels(
    labels: Integer[np.ndarray, "x y z"],
    fat: Float[np.ndarray, "x y z"],
    water: Float[np.ndarray, "x y z"],
    *,
    numbers: Integer[np.ndarray, " z"],
    voxel_volume_ml: float,
    slice_mm: float,
) -> Rows:
    """A row per muscle and level in which it has voxels; columns as in `measure`.

    Args:
        labels: 0-14, in RAS.
        fat: fat signal.
        water: water signal, on the scale of fat.
        numbers: (z,) 2-7 for C2-C7, 8 for T1, 0 unknown.
        voxel_volume_ml: of one voxel.
        slice_mm: distance of slices, for the mean cross-section.
    """
    found: Rows = []
    for name, number in LEVEL_NUMBERS.items():
        at = np.flatnonzero(numbers == number)
        if not at.size:
            continue
        part = (v[..., at] for v in (labels, fat, water))
        for row in measure(*part, voxel_volume_ml=voxel_volume_ml):
            if row["voxels"]:
                who = {k: row[k] for k in ("label", "muscle", "side")}
                own = {k: row[k] for k in _KEPT}
                area = 1000 * row["volume_ml"] / (row["slices"] * slice_mm)
                found.append(who | {"level": name} | own | {"area_mean_mm2": area})
    return sorted(found, key=lambda r: r["label"])


def within_table_1(
    labels: Integer[np.ndarray, "x y z"],
    fat: Float[np.ndarray, "x y z"],
    water: Float[np.ndarray, "x y z"],
    *,
    numbers: Integer[np.ndarray, " z"] | None,
    voxel_volume_ml: float,
) -> Rows:
    """Per muscle, what it measures at its levels of the paper's Table 1.

    Args:
        labels: 0-14, in RAS.
        fat: fat signal.
        water: water signal, on the scale of fat.
        numbers: (z,) as for `measure_levels`; None where levels are not known.
        voxel_volume_ml: of one voxel.

    Returns:
        ``mfi_table1_percent``, ``volume_table1_ml`` and ``levels``: those in which the
        muscle has voxels; None where levels are not known.
    """
    if numbers is None:
        nothing = {"mfi_table1_percent": None, "volume_table1_ml": None, "levels": None}
        return [nothing] * len(MUSCLES)
    kept = np.zeros((len(MUSCLES) + 1, max(LEVEL_NUMBERS.values()) + 1), bool)
    for m in MUSCLES:
        kept[m.label, [LEVEL_NUMBERS[name] for name in m.levels]] = True
    inside = np.where(kept[labels, numbers], labels, 0)
    rows = measure(inside, fat, water, voxel_volume_ml=voxel_volume_ml)
    return [
        {
            "mfi_table1_percent": row["mfi_percent"],
            "volume_table1_ml": row["volume_ml"],
            "levels": _levels(labels, m.label, numbers),
        }
        for row, m in zip(rows, MUSCLES, strict=True)
    ]


def slice_levels_of(numbers: Any, count: int) -> list[str | None]:
    """The name of each slice's level; None where it is not known."""
    if numbers is None:
        return [None] * count
    return [_NAMES.get(int(number)) for number in numbers]


def _levels(labels: np.ndarray, label: int, numbers: np.ndarray) -> str | None:
    own = np.unique(numbers[(labels == label).any((0, 1))])
    names = [_NAMES[int(n)] for n in own if n]
    return " ".join(names) or None
