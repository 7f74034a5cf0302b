"""Of each muscle: how fat is spread in it, how lean it is, how the outline matters."""

from typing import Any

import numpy as np
from jaxtyping import Float, Integer
from scipy.ndimage import distance_transform_edt, find_objects

from cervjax.anatomy import MUSCLES
from cervjax.measurement.composition import Rows

PERCENTILES = (5, 25, 75, 95)
"""Beside the median, which `composition.measure` has."""
HISTOGRAM_PERCENT = np.arange(-20, 121, 5.0)
"""Edges of the histogram's bins; what lies outside is counted in the first and last."""


def measure_spread(
    labels: Integer[np.ndarray, "x y z"],
    fat: Float[np.ndarray, "x y z"],
    water: Float[np.ndarray, "x y z"],
    spacing_mm: tuple[float, float, float],
) -> Rows:
    """Spread, lean volume, largest cross-section, and MFI with the outline moved.

    ``fat_fraction_sd_percent`` and ``fat_fraction_p5_percent`` ... are of the voxels'
    own ``100 F / (F + W)``, where ``F + W > 0``. ``lean_volume_ml`` is the sum of
    ``W / (F + W)`` over these voxels, times the volume of one. ``area_max_mm2`` is the
    largest axial cross-section, in slice ``area_max_slice`` (the lowest such).
    ``mfi_outline_in_percent`` and ``..._out_percent`` are the MFI with the outline
    moved by ``outline_step_mm``, the smallest side of a voxel: where slices are
    thicker, it moves within slices. Outwards it does not enter another muscle.
    ``volume_outline_in_ml`` and ``..._out_ml`` are the volumes then.

    Args:
        labels: 0-14, in RAS.
        fat: fat signal.
        water: water signal, on the scale of fat.
        spacing_mm: of the voxels.

    Returns:
        A row per muscle; NaN and None for one that is empty.
    """
    boxes = find_objects(labels.astype(np.int32), max_label=len(MUSCLES))
    rows = []
    for m, box in zip(MUSCLES, boxes, strict=True):
        if box is None:
            rows.append(_empty(spacing_mm))
            continue
        around = tuple(
            slice(max(s.start - 2, 0), min(s.stop + 2, n))
            for s, n in zip(box, labels.shape, strict=True)
        )
        own = labels[around]
        f, w = fat[around].astype(np.float64), water[around].astype(np.float64)
        row = _spread(own == m.label, own, f, w, spacing_mm)
        row["area_max_slice"] += around[2].start
        rows.append(row)
    return rows


def histogram(
    labels: Integer[np.ndarray, "x y z"],
    fat: Float[np.ndarray, "x y z"],
    water: Float[np.ndarray, "x y z"],
) -> Rows:
    """Voxels of each muscle by their own fat fraction, in bins of 5 %.

    Returns:
        A row per muscle and bin that has voxels.
    """
    inside = (labels > 0) & (fat + water > 0)
    of_voxel = labels[inside]
    percent = 100 * fat[inside] / (fat[inside] + water[inside])
    low, high = HISTOGRAM_PERCENT[0], HISTOGRAM_PERCENT[-1]
    percent = np.clip(percent, low, np.nextafter(high, low))
    rows = []
    for m in MUSCLES:
        counts, edges = np.histogram(percent[of_voxel == m.label], HISTOGRAM_PERCENT)
        who = {"label": m.label, "muscle": m.abbreviation, "side": m.side}
        rows += [
            who | {"from_percent": a, "to_percent": b, "voxels": int(n)}
            for a, b, n in zip(
                edges[:-1].tolist(), edges[1:].tolist(), counts, strict=True
            )
            if n
        ]
    return rows


def _spread(
    inside: np.ndarray,
    labels: np.ndarray,
    fat: np.ndarray,
    water: np.ndarray,
    spacing_mm: tuple[float, float, float],
) -> dict[str, Any]:
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    total = fat[inside] + water[inside]
    percent = 100 * fat[inside][total > 0] / total[total > 0]
    area = inside.sum((0, 1)) * spacing_mm[0] * spacing_mm[1]
    step_mm = min(spacing_mm)
    depth_mm = distance_transform_edt(np.pad(inside, 1), spacing_mm)[1:-1, 1:-1, 1:-1]
    reach_mm = distance_transform_edt(~inside, spacing_mm)
    shrunk = depth_mm > step_mm * 1.001
    grown = inside | ((reach_mm <= step_mm * 1.001) & (labels == 0))
    found = {
        "fat_fraction_sd_percent": float(percent.std()) if percent.size else np.nan,
        **_percentiles(percent),
        "lean_volume_ml": float((1 - percent / 100).sum()) * voxel_ml,
        "area_max_mm2": float(area.max()),
        "area_max_slice": int(area.argmax()),
        "mfi_outline_in_percent": _mfi(shrunk, fat, water),
        "mfi_outline_out_percent": _mfi(grown, fat, water),
        "volume_outline_in_ml": float(shrunk.sum()) * voxel_ml,
        "volume_outline_out_ml": float(grown.sum()) * voxel_ml,
        "outline_step_mm": float(step_mm),
    }
    return found


def _percentiles(percent: np.ndarray) -> dict[str, float]:
    values = np.percentile(percent, PERCENTILES) if percent.size else [np.nan] * 4
    return {
        f"fat_fraction_p{p}_percent": float(v)
        for p, v in zip(PERCENTILES, values, strict=True)
    }


def _mfi(inside: np.ndarray, fat: np.ndarray, water: np.ndarray) -> float:
    total = fat[inside].sum() + water[inside].sum()
    return float(100 * fat[inside].sum() / total) if total > 0 else np.nan


def _empty(spacing_mm: tuple[float, float, float]) -> dict[str, Any]:
    return {
        "fat_fraction_sd_percent": np.nan,
        **_percentiles(np.array([])),
        "lean_volume_ml": 0.0,
        "area_max_mm2": 0.0,
        "area_max_slice": None,
        "mfi_outline_in_percent": np.nan,
        "mfi_outline_out_percent": np.nan,
        "volume_outline_in_ml": 0.0,
        "volume_outline_out_ml": 0.0,
        "outline_step_mm": float(min(spacing_mm)),
    }
