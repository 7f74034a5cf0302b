"""Masks that are there already: edited in a results folder, or another program's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cervjax.inference.levels import LEVEL_NUMBERS, SliceLevels
from cervjax.inference.method import Method
from cervjax.inference.origin import Origin
from cervjax.inference.result import Source
from cervjax.inference.sidecar import ResultError, paths
from cervjax.inference.types import Segmentation
from cervjax.io.dixon import DixonImages
from cervjax.io.labels import read_labels
from cervjax.io.level_files import read_levels


def edited_mask(
    out: Path,
    source: Source,
    images: DixonImages,
    written: Mapping[str, Any],
    method: Method,
) -> tuple[Segmentation, Origin]:
    """A mask that was changed since it was written, and where it came from.

    Args:
        out: the results folder.
        source: the scan.
        images: its images.
        written: the side-car of the mask.
        method: of this run.

    Raises:
        ResultError: it cannot be measured.
    """
    path = paths(out, source.name).labels
    try:
        labels = read_labels(path, images.grid)
    except ValueError as error:
        raise ResultError(
            f"{path} is not what was written (edited, or damaged) and cannot be "
            f"measured: {error}; correct it, or --discard-edits draws it again"
        ) from error
    levels = stored_levels(written.get("Levels"), labels.shape[2])
    origin = Origin(
        "edited",
        method.identity(source.sha256),
        {},
        str(written.get("DrawnBy") or ""),
        mask=path,
    )
    return drawn(labels, levels), origin


def drawn(labels: np.ndarray, levels: SliceLevels | None = None) -> Segmentation:
    """Labels that no network is sure of: their confidence is not known."""
    unknown = np.full(labels.shape, np.nan, np.float32)
    return Segmentation(labels, unknown, levels)


def given_levels(path: Path, images: DixonImages, name: str) -> SliceLevels:
    """Levels of slices from a file: sure where they are told.

    Raises:
        ValueError: as `read_levels`.
    """
    number = read_levels(path, images.grid, name)
    return SliceLevels(number, (number > 0).astype(np.float32))


def stored_levels(rows: Any, slices: int) -> SliceLevels | None:
    """Levels of a side-car, by slice; None if there are none."""
    if not isinstance(rows, list):
        return None
    number, confidence = np.zeros(slices, np.uint8), np.zeros(slices, np.float32)
    try:
        for row in rows:
            inside = slice(int(row["first_slice"]), int(row["last_slice"]) + 1)
            number[inside] = LEVEL_NUMBERS[row["level"]]
            confidence[inside] = row["confidence"]
    except (KeyError, TypeError, ValueError):
        return None
    return SliceLevels(number, confidence)
