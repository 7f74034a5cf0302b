"""Two masks of one scan, compared muscle by muscle.

A prediction against a reference, or one rater's mask against another's. Nothing is
resampled: both masks must lie on one grid.
"""

from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Integer
from numpy.typing import ArrayLike

from cervjax.anatomy import IGNORED, MUSCLES
from cervjax.evaluation.overlap import MEASURES, confusion, overlap_measures
from cervjax.evaluation.pairs import Pair
from cervjax.evaluation.surface_distance import SURFACE_MEASURES, surface_distances
from cervjax.figures.checks import check_labels, check_spacing
from cervjax.io.dixon import FatWater, read_scan
from cervjax.io.label_sets import read_label_set
from cervjax.io.labels import exchanged_sides, read_labels
from cervjax.io.nifti import NiftiImage, read_nifti
from cervjax.measurement.composition import measure


def evaluate(
    predicted: ArrayLike | str | PathLike[str],
    reference: ArrayLike | str | PathLike[str],
    *,
    spacing_mm: tuple[float, float, float] | None = None,
) -> list[dict[str, Any]]:
    """Dice, surface distances, volumes and more of a mask against a reference mask.

    Args:
        predicted: labels 0-14 (see `anatomy`), ``(x, y, z)`` with x to the patient's
            right, y to the front and z to the head; or a NIfTI file, stored along any
            axes.
        reference: the same.
        spacing_mm: voxel size of arrays; a file has its own.

    Returns:
        A row per muscle, as `compare_labels`; NaN where a muscle is in one mask only.

    Raises:
        ValueError: no labels or other ones, no spacing, two grids, or exchanged sides.
    """
    names = [
        str(mask) if isinstance(mask, str | PathLike) else default
        for mask, default in ((predicted, "predicted"), (reference, "reference"))
    ]
    grid: NiftiImage | None = None
    maps: list[np.ndarray] = []
    for mask in (predicted, reference):
        if isinstance(mask, str | PathLike):
            grid = grid or read_nifti(Path(mask), may_be_constant=True)
            maps.append(read_labels(Path(mask), grid, may_be_empty=True))
        else:
            maps.append(np.asarray(mask))
            check_labels(maps[-1])
    spacing_mm = spacing_mm if grid is None else grid.spacing_mm
    if spacing_mm is None:
        raise ValueError("spacing_mm is missing: give the voxel size of the arrays")
    check_spacing(spacing_mm)
    ours, theirs = maps
    check_sides(ours, theirs, names[0], names[1])
    return compare_labels(ours, theirs, spacing_mm)


def compare(pair: Pair, ignore_label: int = -1) -> list[dict[str, Any]]:
    """The measures of one scan: a row per muscle.

    Voxels that either mask ignores are background in both.

    Args:
        pair: the scan.
        ignore_label: value in masks of what nobody knows, besides the "ignore" of a
            ``dataset.json`` beside them; below 0 is none.

    Returns:
        ``scan``, then as `compare_labels`.

    Raises:
        ValueError: a file cannot be used, the grids differ, or sides are exchanged.
    """
    measured: FatWater | None = None
    if pair.scan is not None:
        scan = read_scan(pair.scan)
        grid, measured = scan.grid, scan.fat_water
    else:
        grid = read_nifti(pair.reference, may_be_constant=True)
    masks = [
        read_labels(
            path,
            grid,
            may_be_empty=True,
            label_set=read_label_set("", path.parent).with_ignored(ignore_label),
            keep_ignored=True,
        )
        for path in (pair.predicted, pair.reference)
    ]
    ignored = (masks[0] == IGNORED) | (masks[1] == IGNORED)
    predicted, reference = (np.where(ignored, 0, m).astype(np.uint8) for m in masks)
    check_sides(predicted, reference, str(pair.predicted), str(pair.reference))
    rows = compare_labels(predicted, reference, grid.spacing_mm, measured)
    return [{"scan": pair.name} | row for row in rows]


def compare_labels(
    predicted: Integer[np.ndarray, "x y z"],
    reference: Integer[np.ndarray, "x y z"],
    spacing_mm: tuple[float, float, float],
    measured: FatWater | None = None,
) -> list[dict[str, Any]]:
    """The measures of two label maps: a row per muscle.

    Args:
        predicted: labels 0-14.
        reference: the same.
        spacing_mm: voxel size.
        measured: images to measure fat infiltration on.

    Returns:
        Rows with label, muscle, side, voxels tp, fp, fn and tn, `overlap.MEASURES`,
        `surface_distance.SURFACE_MEASURES`, and ``volume_ml`` and ``mfi_percent`` as
        ``predicted_...`` and ``reference_...`` (both measured on the same images; NaN
        without images or muscle).

    Raises:
        ValueError: the shapes differ.
    """
    counts = confusion(predicted, reference)
    columns = overlap_measures(counts)
    columns |= surface_distances(predicted, reference, spacing_mm)
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    sizes = [[*_sizes(m, measured, voxel_ml)] for m in (predicted, reference)]
    rows = []
    for k, muscle in enumerate(MUSCLES):
        row = {
            "label": muscle.label,
            "muscle": muscle.abbreviation,
            "side": muscle.side,
            **_voxels(counts, muscle.label),
        }
        row |= {n: float(columns[n][k]) for n in (*MEASURES, *SURFACE_MEASURES)}
        for who, size in zip(("predicted", "reference"), sizes, strict=True):
            row[f"{who}_volume_ml"], row[f"{who}_mfi_percent"] = size[k]
        rows.append(row)
    return rows


def check_sides(
    predicted: Integer[np.ndarray, "x y z"],
    reference: Integer[np.ndarray, "x y z"],
    predicted_name: str = "predicted",
    reference_name: str = "reference",
) -> None:
    """Does nothing if both masks number left and right muscles as the paper does.

    A Dice of 0 in every muscle would not tell why. Two masks that are both exchanged
    agree, but their tables would name every muscle's side wrongly.

    Args:
        predicted: labels 0-14, x to the patient's right.
        reference: the same.
        predicted_name: its file, for messages.
        reference_name: the same.

    Raises:
        ValueError: in a mask the right muscles lie left of the left ones, or most
            muscles of the prediction lie where the reference has their partners.
    """
    advice = "renumber the labels, or flip the mask"
    for labels, name in ((predicted, predicted_name), (reference, reference_name)):
        if wrong := exchanged_sides(labels):
            raise ValueError(f"{name}: {wrong}; {advice}")
    own, other = _overlap_with_partners(confusion(predicted, reference))
    if other > own:
        raise ValueError(
            f"{predicted_name}: left and right are exchanged: {other} of its muscles "
            f"overlap the partner on the other side in {reference_name} more than "
            f"themselves, {own} do not; {advice}"
        )


def _overlap_with_partners(counts: Int[np.ndarray, "15 15"]) -> tuple[int, int]:
    """How many muscles overlap themselves, and how many rather their partners."""
    labels = np.arange(1, len(counts))
    partners = np.where(labels % 2, labels + 1, labels - 1)
    own, other = counts[labels, labels], counts[labels, partners]
    return int((own > other).sum()), int((other > own).sum())


def _voxels(counts: Int[np.ndarray, "15 15"], label: int) -> dict[str, int]:
    """True and false positives and negatives of a label."""
    tp = int(counts[label, label])
    fp, fn = int(counts[:, label].sum()) - tp, int(counts[label].sum()) - tp
    return {"tp": tp, "fp": fp, "fn": fn, "tn": int(counts.sum()) - tp - fp - fn}


def _sizes(
    mask: np.ndarray, measured: FatWater | None, voxel_ml: float
) -> Iterator[tuple[float, float]]:
    """Volume in millilitres and fat infiltration in percent of each muscle."""
    if measured is None:
        voxels = np.bincount(mask.reshape(-1), minlength=len(MUSCLES) + 1)[1:]
        yield from ((float(n) * voxel_ml, float("nan")) for n in voxels)
        return
    for row in measure(mask, measured.fat, measured.water, voxel_volume_ml=voxel_ml):
        yield row["volume_ml"], row["mfi_percent"]
