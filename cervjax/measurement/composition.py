"""Fat infiltration and volume per muscle and per slice (Weber et al. 2021, Methods).

Arrays are ``(x, y, z)`` in RAS, so slice 0 is the most inferior. Means and sums are
float64. Nothing is clipped: noise averages out only if both its signs are kept.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cervjax.anatomy import LEFT_RIGHT_PERMUTATION, MUSCLES, NUM_CLASSES

Rows = list[dict[str, Any]]

_PARTNER = LEFT_RIGHT_PERMUTATION[1:NUM_CLASSES].astype(int) - 1
_IS_LEFT = np.array([m.side == "left" for m in MUSCLES])
_NONE = np.array(None)


def measure(
    labels: np.ndarray,
    fat: np.ndarray,
    water: np.ndarray,
    *,
    voxel_volume_ml: float,
    confidence: np.ndarray | None = None,
) -> Rows:
    """Volume, fat infiltration, extent and asymmetry of all 14 muscles.

    ``mfi_percent`` is the paper's ratio of means over all voxels of the muscle,
    ``100 mean(F) / (mean(F) + mean(W))``; NaN unless the denominator is positive.
    ``fat_fraction_*_percent`` are mean and median of the voxels' ``100 F / (F + W)``;
    voxels with ``F + W <= 0`` have none: ``voxels_undefined`` counts them.
    ``voxels_negative_fat`` counts ``F < 0``: noise, or exchanged images.
    ``touches_fov_edge``: a voxel lies on a face of the volume, the muscle may be cut.
    ``asymmetry_volume_percent`` is ``100 (L - R) / ((L + R) / 2)``,
    ``asymmetry_mfi_points`` is ``L - R``: the same in both rows of a pair, NaN where a
    side is empty. An empty muscle has counts and volume 0, slices None, the rest NaN.

    Args:
        labels: integers 0-14, ``(x, y, z)`` in RAS.
        fat: fat signal, same shape.
        water: water signal, same shape and scale as fat.
        voxel_volume_ml: volume of one voxel.
        confidence: the network's largest class probability, same shape.

    Returns:
        One row of plain Python scalars per muscle, in order of the labels.

    Raises:
        ValueError: shapes differ, labels are not integers in 0-14, values inside the
            muscles are NaN or infinite, or the voxel volume is not positive.

    Reference: Weber et al. 2021, Methods.
    """
    _require_positive("voxel_volume_ml", voxel_volume_ml)
    shape = np.shape(labels)
    muscle, position, values = _muscle_voxels(labels, fat, water, confidence)
    stats = _statistics(muscle, len(MUSCLES), *values)
    voxels, confidence_mean = stats["voxels"], stats.pop("confidence_mean")
    volume_ml = voxels * float(voxel_volume_ml)

    occupied = np.zeros((len(MUSCLES), shape[2]), bool)
    occupied[muscle, position[2]] = True
    last = shape[2] - 1 - occupied[:, ::-1].argmax(1)
    on_face = np.zeros(muscle.size, bool)
    for index, size in zip(position, shape, strict=True):
        on_face |= (index == 0) | (index == size - 1)
    volume_left, volume_right = _sides(np.where(voxels, volume_ml, np.nan))
    mfi_left, mfi_right = _sides(stats["mfi_percent"])
    volume_mean = (volume_left + volume_right) / 2
    return _rows(
        np.arange(len(MUSCLES)),
        {
            "volume_ml": volume_ml,
            **stats,
            "slice_first": np.where(voxels, occupied.argmax(1), _NONE),
            "slice_last": np.where(voxels, last, _NONE),
            "slices": occupied.sum(1),
            "touches_fov_edge": np.bincount(muscle, on_face, len(MUSCLES)) > 0,
            "confidence_mean": confidence_mean,
            "asymmetry_volume_percent": 100
            * (volume_left - volume_right)
            / volume_mean,
            "asymmetry_mfi_points": mfi_left - mfi_right,
        },
    )


def measure_slices(
    labels: np.ndarray,
    fat: np.ndarray,
    water: np.ndarray,
    *,
    voxel_volume_ml: float,
    voxel_area_mm2: float = np.nan,
    slice_positions_mm: Sequence[float] | np.ndarray | None = None,
    confidence: np.ndarray | None = None,
) -> Rows:
    """Area, volume and fat infiltration per muscle and axial slice.

    The columns mean what they mean in `measure`.

    Args:
        labels: integers 0-14, ``(x, y, z)`` in RAS.
        fat: fat signal, same shape.
        water: water signal, same shape and scale as fat.
        voxel_volume_ml: volume of one voxel.
        voxel_area_mm2: in-plane area of one voxel; without it ``area_mm2`` is NaN.
        slice_positions_mm: ``(z,)``; without it ``z_mm`` is NaN.
        confidence: the network's largest class probability, same shape.

    Returns:
        One row of plain Python scalars per muscle and slice in which it has voxels,
        in order of label and slice.

    Raises:
        ValueError: as `measure`; or the number of slice positions is wrong.

    Reference: Weber et al. 2021, Methods.
    """
    _require_positive("voxel_volume_ml", voxel_volume_ml)
    if not np.isnan(voxel_area_mm2):
        _require_positive("voxel_area_mm2", voxel_area_mm2)
    muscle, position, values = _muscle_voxels(labels, fat, water, confidence)
    nz = np.shape(labels)[2]
    z_mm = np.full(nz, np.nan) if slice_positions_mm is None else slice_positions_mm
    if np.shape(z_mm) != (nz,):
        raise ValueError(
            f"slice_positions_mm must hold {nz} positions, got shape {np.shape(z_mm)}"
        )
    occupied, group = np.unique(muscle * nz + position[2], return_inverse=True)
    stats = _statistics(group, occupied.size, *values)
    columns = {
        "slice": occupied % nz,
        "z_mm": np.asarray(z_mm, np.float64)[occupied % nz],
        "area_mm2": stats["voxels"] * float(voxel_area_mm2),
        "voxels": stats["voxels"],
        "volume_ml": stats["voxels"] * float(voxel_volume_ml),
    }
    return _rows(occupied // nz, columns | stats)


def _require_positive(name: str, value: float) -> None:
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be positive and finite, got {value}")


def _muscle_voxels(
    labels: np.ndarray, fat: np.ndarray, water: np.ndarray, confidence: Any
) -> tuple[np.ndarray, tuple[np.ndarray, ...], list[np.ndarray]]:
    """Muscle (0-13), position and [fat, water, confidence] of each labelled voxel."""
    labels = np.asarray(labels)
    if labels.ndim != 3 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels must be 3-D integers, got {labels.ndim}-D {labels.dtype}"
        )
    foreign = labels[(labels < 0) | (labels >= NUM_CLASSES)]
    if foreign.size:
        raise ValueError(
            f"labels must lie in 0-{NUM_CLASSES - 1}, got {np.unique(foreign)[:5]} "
            f"in {foreign.size} voxels"
        )
    position = np.nonzero(labels)
    muscle = labels[position].astype(np.intp) - 1
    values = []
    for name, image in (("fat", fat), ("water", water), ("confidence", confidence)):
        if image is None:
            values.append(np.full(muscle.size, np.nan))
            continue
        image = np.asarray(image)
        if image.shape != labels.shape:
            raise ValueError(
                f"{name} and labels must have one shape, got {image.shape} and "
                f"{labels.shape}"
            )
        values.append(image[position].astype(np.float64))
        bad = np.count_nonzero(~np.isfinite(values[-1]))
        if bad:
            raise ValueError(
                f"{name} must be finite inside the muscles, got NaN or infinity in "
                f"{bad} of {muscle.size} voxels"
            )
    return muscle, position, values


def _statistics(
    group: np.ndarray,
    num_groups: int,
    fat: np.ndarray,
    water: np.ndarray,
    confidence: np.ndarray,
) -> dict[str, np.ndarray]:
    """Columns of length ``num_groups``, in the order of the table."""

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(group, values, num_groups)

    def count(mask: np.ndarray) -> np.ndarray:
        return np.bincount(group[mask], minlength=num_groups)

    signal = fat + water
    defined = signal > 0
    fraction = np.divide(100 * fat, signal, out=np.zeros_like(fat), where=defined)
    voxels, num_defined = np.bincount(group, minlength=num_groups), count(defined)
    median = _medians(group[defined], fraction[defined], num_defined)
    return {
        "mfi_percent": _ratio(100 * total(fat), total(fat) + total(water)),
        "fat_fraction_mean_percent": _ratio(total(fraction), num_defined),
        "fat_fraction_median_percent": median,
        "water_mean": _ratio(total(water), voxels),
        "fat_mean": _ratio(total(fat), voxels),
        "voxels": voxels,
        "voxels_undefined": voxels - num_defined,
        "voxels_negative_fat": count(fat < 0),
        "confidence_mean": _ratio(total(confidence), voxels),
    }


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient, NaN unless the denominator is positive."""
    nan = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=nan, where=denominator > 0)


def _medians(group: np.ndarray, values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Median per group, NaN where a group is empty."""
    narrow = group.astype(np.min_scalar_type(counts.size))  # sorted in linear time
    ordered = values[np.argsort(narrow, kind="stable")]
    parts = np.split(ordered, np.cumsum(counts))[:-1]
    return np.array([np.median(part) if part.size else np.nan for part in parts])


def _sides(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The left and the right value of each muscle's pair."""
    other = values[_PARTNER]
    return np.where(_IS_LEFT, values, other), np.where(_IS_LEFT, other, values)


def _rows(muscle: np.ndarray, columns: dict[str, np.ndarray]) -> Rows:
    """Rows of plain Python scalars, each beginning with its muscle."""
    identity = [
        {"label": m.label, "muscle": m.abbreviation, "side": m.side}
        for m in (MUSCLES[i] for i in muscle)
    ]
    cells = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [
        row | dict(zip(columns, cell, strict=True))
        for row, cell in zip(identity, cells, strict=True)
    ]
