"""A scan's slices, small enough that a page holds those of a whole cohort.

Radiological: the patient's right on the left, anterior up.
"""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cervjax.io.dixon import DixonImages
from cervjax.io.nifti import check_same_grid, read_nifti
from cervjax.measurement.maps import fat_fraction_percent

_LABEL_STEP = 16  # 0-14 spread over grey levels
_AIR = 0.08  # of the brightest


def slices_for_review(
    images: DixonImages, mask: Path, *, max_width: int = 200, max_slices: int = 60
) -> dict[str, Any]:
    """The slices with muscles as three pictures, each with all slices side by side.

    Args:
        images: the scan, in RAS.
        mask: labels 0-14 on its grid.
        max_width: voxels along x, by leaving out; in between if need be.
        max_slices: as many, evenly spread.

    Returns:
        For JSON: ``slices`` (0 = lowest), ``width`` and ``height`` of one, ``columns``
        in a row, ``aspect`` (height of a voxel over its width), ``dx`` and ``dz`` (mm
        between voxels, and between slices of the scan), and as data URLs ``water``
        (JPEG, 0 to 255), ``labels`` (PNG, 16 times the label) and ``fraction``
        (PNG, 2.5 times the percent, within muscles, 0 elsewhere).

    Raises:
        NiftiError: the mask cannot be read, or lies on another grid.
    """
    drawn = read_nifti(mask, may_be_constant=True)
    check_same_grid(images.grid, drawn)
    labels = drawn.data.round().astype(np.uint8)
    water = np.clip(np.nan_to_num(images.fat_water.water), 0, None)
    fraction = np.nan_to_num(fat_fraction_percent(images.fat_water), nan=0.0)
    found = np.flatnonzero(labels.any((0, 1)))
    if not found.size:
        found = np.arange(labels.shape[2])
    first, last = max(found[0] - 1, 0), min(found[-1] + 1, labels.shape[2] - 1)
    count = min(max_slices, last - first + 1)
    slices = np.unique(np.linspace(first, last, count).round().astype(int))
    brightest = float(np.percentile(water, 99.8)) or 1.0
    box = _box(water[..., slices] / brightest, labels[..., slices])
    step = -(-(box[0].stop - box[0].start) // max_width)
    cut = (slice(box[0].start, box[0].stop, step), slice(box[1].start, box[1].stop))
    cut = (*cut[:1], slice(cut[1].start, cut[1].stop, step), slices)
    within = labels[cut] > 0
    percent = np.where(within, np.clip(fraction[cut], 0, 100), 0)
    width, height = labels[cut].shape[:2]
    columns = int(np.ceil(np.sqrt(len(slices) * height / width)))
    dx, dy, dz = images.grid.spacing_mm
    return {
        "slices": slices.tolist(),
        "width": width,
        "height": height,
        "columns": columns,
        "aspect": dy / dx,
        "dx": dx * step,
        "dz": dz,
        "water": _url(255 * np.clip(water[cut] / brightest, 0, 1), columns, "JPEG"),
        "labels": _url(labels[cut] * _LABEL_STEP, columns, "PNG"),
        "fraction": _url(np.where(within, 1 + 2.5 * percent, 0), columns, "PNG"),
    }


def _box(bright: np.ndarray, labels: np.ndarray) -> tuple[slice, slice]:
    """Body and muscles along x and y."""
    bounds = []
    for axis in (0, 1):
        others = (1 - axis, 2)
        inside = ((bright > _AIR).mean(others) > 0.05) | (labels > 0).any(others)
        index = np.flatnonzero(inside) if inside.any() else np.arange(inside.size)
        bounds.append(slice(max(index[0] - 4, 0), min(index[-1] + 5, inside.size)))
    return bounds[0], bounds[1]


def _url(volume: np.ndarray, columns: int, kind: str) -> str:
    """Slices in rows of a picture, as a data URL; from right to left, front to back."""
    seen = np.flip(volume, (0, 1)).transpose(2, 1, 0).round().astype(np.uint8)
    count, height, width = seen.shape
    rows = -(-count // columns)
    sheet = np.zeros((rows * columns, height, width), np.uint8)
    sheet[:count] = seen
    sheet = sheet.reshape(rows, columns, height, width).swapaxes(1, 2)
    picture = Image.fromarray(sheet.reshape(rows * height, columns * width))
    stream = io.BytesIO()
    how = {"quality": 70} if kind == "JPEG" else {"optimize": True}
    picture.save(stream, kind, **how)
    text = base64.b64encode(stream.getvalue()).decode()
    return f"data:image/{kind.lower()};base64,{text}"
