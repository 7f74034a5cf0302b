"""Two sets of masks of the same scans, compared scan by scan and muscle by muscle.

Predictions against references, or one rater's masks against another's. Nothing is
resampled: both masks must lie on the grid of the scan.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cervjax.anatomy import MUSCLES
from cervjax.evaluation.overlap import (
    MEASURES,
    confusion,
    overlap_measures,
)
from cervjax.evaluation.surface_distance import SURFACE_MEASURES, surface_distances
from cervjax.io.dixon import FatWater, read_scan
from cervjax.io.labels import find_labelled, read_labels
from cervjax.io.nifti import read_nifti
from cervjax.io.pairing import find_scans
from cervjax.io.scans import Scan
from cervjax.measurement.composition import measure

_ENDING = re.compile(r"(?i)(?P<name>.+?)[-_](?:dseg|seg|labels?|mask)")
_NIFTI = re.compile(r"(?i)(?P<stem>.+)\.nii(\.gz)?")


class Pair(NamedTuple):
    """One scan with two masks.

    Attributes:
        name: the scan's.
        predicted: mask to judge, NIfTI file.
        reference: mask to judge by.
        scan: its images, or None: then there is no fat infiltration.
    """

    name: str
    predicted: Path
    reference: Path
    scan: Scan | None


@dataclass(frozen=True)
class Excluded:
    """A scan that is not compared, and why."""

    scan: str
    reason: str


def find_pairs(
    predicted: Path, reference: Path, images: Path | None = None
) -> tuple[list[Pair], list[Excluded]]:
    """Pairs the masks of two folders by the names of their scans.

    ``a_dseg``, ``a_seg``, ``a_label`` and ``a_mask`` are masks of ``a``; in a folder
    without such endings every NIfTI file is a mask, named as its scan.

    Args:
        predicted: folder of masks, such as that of ``infer.py``.
        reference: labelled scans (see `labelled.LAYOUTS`), or a folder of masks.
        images: the scans of ``reference``, if they lie elsewhere.

    Returns:
        Pairs, and the scans that have but one mask.

    Raises:
        ValueError: nothing pairs, or a name occurs twice in a folder.
    """
    ours = find_masks(predicted)
    scans: dict[str, Scan] = {}
    theirs: dict[str, Path] = {}
    problems: list[str] = []
    if _holds_scans(reference):
        labelled, found = find_labelled(reference)
        scans = {one.scan.name: one.scan for one in labelled}
        theirs = {one.scan.name: one.labels for one in labelled}
        problems = [f"{p.scan}: {p.message}" for p in found]
    theirs = theirs or find_masks(reference)
    if images is not None:
        scans = {scan.name: scan for scan in find_scans(images)[0]}
    common = [name for name in theirs if name in ours]
    if not common:
        raise ValueError(
            f"no scan has a mask in both {predicted} ({_some(ours)}) and {reference} "
            f"({_some(theirs)}); a mask must be named as its scan: NAME_dseg.nii.gz"
            + "".join(f"; {p}" for p in problems[:3])
        )
    pairs = [Pair(n, ours[n], theirs[n], scans.get(n)) for n in common]
    excluded = [
        *(Excluded(n, "no reference mask") for n in ours if n not in theirs),
        *(Excluded(n, "no predicted mask") for n in theirs if n not in ours),
    ]
    return pairs, excluded


def find_masks(folder: Path) -> dict[str, Path]:
    """Masks in a folder and its sub-folders, by the name of their scan, in order.

    Raises:
        ValueError: not a folder, no NIfTI file in it, or two masks of one name.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: not a folder; give the folder of the masks")
    stems: dict[Path, str] = {}
    for path in sorted(folder.rglob("*")):
        match = _NIFTI.fullmatch(path.name)
        if match and not path.name.startswith(".") and path.is_file():
            stems[path] = match["stem"]
    ended = {p: m["name"] for p, s in stems.items() if (m := _ENDING.fullmatch(s))}
    by_name: defaultdict[str, list[Path]] = defaultdict(list)
    for path, name in (ended or stems).items():
        by_name[name].append(path)
    if not by_name:
        raise ValueError(f"{folder}: no NIfTI file in it; give the folder of the masks")
    for name, paths in by_name.items():
        if len(paths) > 1:
            raise ValueError(
                f"{folder}: {len(paths)} masks of {name}: "
                f"{', '.join(map(str, paths[:4]))}; keep one of them"
            )
    return {name: paths[0] for name, paths in by_name.items()}


def compare(pair: Pair) -> list[dict[str, Any]]:
    """The measures of one scan: a row per muscle.

    Returns:
        Rows with scan, label, muscle, side, voxels TP, FP, FN and TN,
        `overlap.MEASURES`, `surface_distance.SURFACE_MEASURES`, and ``volume_ml`` and
        ``mfi_percent`` as ``predicted_...`` and ``reference_...``
        (both measured on the same images; NaN without images or muscle).

    Raises:
        ValueError: a file cannot be used, or the grids differ.
    """
    measured: FatWater | None = None
    if pair.scan is not None:
        scan = read_scan(pair.scan)
        grid, measured = scan.grid, scan.fat_water
    else:
        grid = read_nifti(pair.reference, may_be_constant=True)
    predicted, reference = (
        read_labels(path, grid, may_be_empty=True)
        for path in (pair.predicted, pair.reference)
    )
    counts = confusion(predicted, reference)
    columns = overlap_measures(counts)
    columns |= surface_distances(predicted, reference, grid.spacing_mm)
    both = np.diag(counts)
    rows = [
        {
            "scan": pair.name,
            "label": m.label,
            "muscle": m.abbreviation,
            "side": m.side,
            "tp": int(both[m.label]),
            "fp": int(counts[:, m.label].sum() - both[m.label]),
            "fn": int(counts[m.label].sum() - both[m.label]),
        }
        for m in MUSCLES
    ]
    for row in rows:
        row["tn"] = int(counts.sum() - row["tp"] - row["fp"] - row["fn"])
        for name in (*MEASURES, *SURFACE_MEASURES):
            row[name] = float(columns[name][row["label"] - 1])
    for who, mask in (("predicted", predicted), ("reference", reference)):
        for row, (volume, mfi) in zip(
            rows, _sizes(mask, measured, grid.voxel_volume_ml), strict=True
        ):
            row[f"{who}_volume_ml"], row[f"{who}_mfi_percent"] = volume, mfi
    return rows


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


def _holds_scans(folder: Path) -> bool:
    return folder.is_dir() and bool(find_scans(folder)[0])


def _some(masks: dict[str, Path]) -> str:
    names = ", ".join(list(masks)[:3])
    return f"{len(masks)} masks: {names}{', ...' * (len(masks) > 3)}"
