"""Vertebral levels of slices from a file: maps of SCT, TotalSpineSeg, or a table.

A level reaches from the middle of one disc to the middle of the next. In SCT's labelled
cord (and the maps of ``cervjax phantom``) each slice has its number, 2-7 for C2-C7 and
8 for T1; TotalSpineSeg marks vertebrae (12-17, 21) and discs (63-67, 71).
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8

from cervjax.anatomy import LEVEL_NUMBERS
from cervjax.io.filenames import NIFTI
from cervjax.io.nifti import NiftiError, NiftiImage, check_same_grid, read_nifti
from cervjax.io.tables import read_rows

_VERTEBRAE = {**{10 + n: n for n in range(2, 8)}, 21: 8}
_DISCS = {**{60 + n: n for n in range(3, 8)}, 71: 8}
"""Value of a disc, and the level below it."""
_ENDINGS = ("_levels", "_level", "_labeled", "_label-vert", "_step2_output", "")
_COLUMNS = ("scan", "first_slice", "last_slice", "z_low_mm", "z_high_mm")

SliceNumbers = UInt8[np.ndarray, " z"]
"""2-7 for C2-C7, 8 for T1, 0 where it is unknown; slice 0 is the lowest."""


def levels_path(given: Path, name: str) -> Path:
    """The file of a scan's levels: the one given, or that of its name in a folder.

    Raises:
        ValueError: there is none, or several.
    """
    if not given.is_dir():
        if not given.is_file():
            raise ValueError(f"--levels {given}: no such file or folder")
        return given
    stems = {p: m["stem"] for p in given.rglob("*") if (m := NIFTI.fullmatch(p.name))}
    for ending in _ENDINGS:
        paths = sorted(p for p, stem in stems.items() if stem == name + ending)
        if len(paths) > 1:
            raise ValueError(
                f"{given}: {len(paths)} maps of levels of {name}: "
                f"{', '.join(map(str, paths[:3]))}; keep one of them"
            )
        if paths:
            return paths[0]
    raise ValueError(
        f"{given}: no map of levels of {name}; name it {name}_levels.nii.gz"
    )


def read_levels(path: Path, grid: NiftiImage, name: str) -> SliceNumbers:
    """The level of each axial slice of a scan.

    Args:
        path: a NIfTI map on the scan's grid, or a table (.csv, .tsv) with the column
            level (C2-T1) and first_slice, last_slice (0 is the lowest slice) or
            z_low_mm, z_high_mm (scanner coordinates), and scan if it is of many.
        grid: an image of the scan.
        name: of the scan, to be found in a table.

    Raises:
        ValueError: it cannot be read, is on another grid, names no level, or its levels
            rise downwards.
    """
    if NIFTI.fullmatch(path.name):
        numbers = _of_map(path, grid)
    else:
        numbers = _of_table(path, grid, name)
    known = numbers[numbers > 0].astype(int)
    if not known.size:
        raise ValueError(f"{path}: no level C2-T1 of {name} in it")
    if np.any(np.diff(known) > 0):  # upwards from T1 (8) to C2 (2)
        raise ValueError(
            f"{path}: its levels do not go from T1 at the bottom to C2 at the top of "
            f"{name}; is one of them stored upside down?"
        )
    return numbers


def _of_map(path: Path, grid: NiftiImage) -> SliceNumbers:
    volume = read_nifti(path, may_be_constant=True)
    try:
        check_same_grid(grid, volume)
    except NiftiError as error:
        raise NiftiError(
            f"{path}: the map of levels is not on the grid of the scan ({error}); put "
            "it there by nearest neighbour (3D Slicer: Resample Image, nn)"
        ) from error
    values = np.rint(volume.data).astype(np.int64)
    if np.abs(volume.data - values).max() > 1e-3:
        raise NiftiError(f"{path}: a map of levels must hold whole numbers")
    found = set(np.unique(values).tolist())
    cord = {n: n for n in LEVEL_NUMBERS.values()}  # 1 and 2 are TotalSpineSeg's, too
    if (
        found & _DISCS.keys()
        or found & _VERTEBRAE.keys()
        and not found & {*range(3, 9)}
    ):
        return _of_vertebrae(values)
    return _most(values, cord)


def _of_vertebrae(values: Integer[np.ndarray, "x y z"]) -> SliceNumbers:
    """By discs where there are some; else by the vertebra with most voxels."""
    numbers = _most(values, _VERTEBRAE)
    middle = {
        below: float(np.argwhere(values == disc)[:, 2].mean())
        for disc, below in _DISCS.items()
        if (values == disc).any()
    }
    z = np.arange(values.shape[2])
    for below, height in middle.items():
        numbers[(numbers == below) & (z > height)] = below - 1
        numbers[(numbers == below - 1) & (z <= height)] = below
    for below in range(3, 8):  # a level with both its discs is all between them
        if below in middle and below + 1 in middle:
            numbers[(z > middle[below + 1]) & (z <= middle[below])] = below
    return numbers


def _most(values: np.ndarray, numbers: Mapping[int, int]) -> SliceNumbers:
    """Of each slice the number that most of its voxels have."""
    found = np.zeros(values.shape[2], np.uint8)
    for z in range(values.shape[2]):
        inside, counts = np.unique(values[..., z], return_counts=True)
        known = [
            (n, numbers[int(v)])
            for v, n in zip(inside, counts, strict=True)
            if int(v) in numbers
        ]
        if known:
            found[z] = max(known)[1]
    return found


def _of_table(path: Path, grid: NiftiImage, name: str) -> SliceNumbers:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    found = np.zeros(grid.data.shape[2], np.uint8)
    height = _heights_mm(grid)
    for line, row in read_rows(
        path, required=["level"], optional=_COLUMNS, delimiter=delimiter
    ):
        if row.get("scan", name) != name:
            continue
        number = LEVEL_NUMBERS.get(row["level"].upper())
        where = f"{path}, line {line}"
        if number is None:
            known = ", ".join(LEVEL_NUMBERS)
            raise ValueError(
                f"{where}: level must be one of {known}, got {row['level']!r}"
            )
        low, high = _range(row, where)
        at = np.arange(len(found)) if row.get("first_slice") else height
        inside = (at >= low) & (at <= high)
        if np.any(found[inside]):
            raise ValueError(f"{where}: {row['level']} has slices of another level")
        found[inside] = number
    return found


def _range(row: Mapping[str, str], where: str) -> tuple[float, float]:
    for low, high in (("first_slice", "last_slice"), ("z_low_mm", "z_high_mm")):
        texts = row.get(low, ""), row.get(high, "")
        if all(re.fullmatch(r"-?\d{1,6}(\.\d*)?", text) for text in texts):
            a, b = map(float, texts)
            if a <= b:
                return a, b
    raise ValueError(
        f"{where}: give first_slice and last_slice (0 is the lowest), or z_low_mm and "
        "z_high_mm, the lower one first"
    )


def _heights_mm(grid: NiftiImage) -> np.ndarray:
    nx, ny, nz = grid.data.shape
    middle = np.array([(nx - 1) / 2, (ny - 1) / 2, 0, 1])
    return grid.affine[2] @ middle + grid.affine[2, 2] * np.arange(nz)
