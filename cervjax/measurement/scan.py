"""Measurements of one scan, and what is odd about its labels."""

import numpy as np
from jaxtyping import Float, Float32, Integer

from cervjax.anatomy import MUSCLES
from cervjax.io.dixon import DixonImages
from cervjax.io.labels import exchanged_pairs, exchanged_sides
from cervjax.io.nifti import NiftiImage
from cervjax.measurement.composition import Rows, measure, measure_slices
from cervjax.measurement.per_level import (
    measure_levels,
    slice_levels_of,
    within_table_1,
)
from cervjax.measurement.statistics import measure_spread


def measure_scan(
    labels: Integer[np.ndarray, "x y z"],
    images: DixonImages,
    confidence: Float32[np.ndarray, "x y z"] | None = None,
    level_numbers: Integer[np.ndarray, " z"] | None = None,
) -> tuple[Rows, Rows]:
    """Rows per muscle, and per muscle and slice.

    Those per muscle are of `composition.measure`, `statistics.measure_spread` and
    `per_level.within_table_1`; slices have their ``level``.

    Args:
        labels: 0-14, (x, y, z), on the grid of the images.
        images: of the scan.
        confidence: of the same shape, the network's largest class probability.
        level_numbers: (z,) the vertebral level of each slice, see `per_level`.

    Raises:
        ValueError: as `composition.measure`.
    """
    grid, fat, water = images.grid, images.fat_water.fat, images.fat_water.water
    common = {"voxel_volume_ml": grid.voxel_volume_ml, "confidence": confidence}
    parts = zip(
        measure(labels, fat, water, **common),
        measure_spread(labels, fat, water, grid.spacing_mm),
        within_table_1(
            labels,
            fat,
            water,
            numbers=level_numbers,
            voxel_volume_ml=grid.voxel_volume_ml,
        ),
        strict=True,
    )
    rows = [row | spread | levels for row, spread, levels in parts]
    slices = measure_slices(
        labels,
        fat,
        water,
        voxel_area_mm2=1000 * grid.voxel_volume_ml / grid.spacing_mm[2],
        slice_positions_mm=slice_positions_mm(grid),
        **common,
    )
    names = slice_levels_of(level_numbers, labels.shape[2])
    return rows, [row | {"level": names[row["slice"]]} for row in slices]


def measure_scan_levels(
    labels: Integer[np.ndarray, "x y z"],
    images: DixonImages,
    level_numbers: Integer[np.ndarray, " z"] | None,
) -> Rows:
    """Rows per muscle and vertebral level; none where levels are not known."""
    if level_numbers is None:
        return []
    return measure_levels(
        labels,
        images.fat_water.fat,
        images.fat_water.water,
        numbers=level_numbers,
        voxel_volume_ml=images.grid.voxel_volume_ml,
        slice_mm=images.grid.spacing_mm[2],
    )


def slice_positions_mm(grid: NiftiImage) -> Float[np.ndarray, " z"]:
    """Height of each axial slice's middle in scanner coordinates (S), in mm, (z,)."""
    nx, ny, nz = grid.data.shape
    middle = np.array([(nx - 1) / 2, (ny - 1) / 2, 0, 1])
    return grid.affine[2] @ middle + grid.affine[2, 2] * np.arange(nz)


def label_warnings(labels: Integer[np.ndarray, "x y z"], rows: Rows) -> list[str]:
    """Muscles that are absent, cut by the field of view, or on the wrong side.

    Args:
        labels: uint8 (x, y, z) in RAS.
        rows: of `measure_scan`.
    """
    names = [m.key for m in MUSCLES]
    absent = [n for n, row in zip(names, rows, strict=True) if not row["voxels"]]
    cut = [n for n, row in zip(names, rows, strict=True) if row["touches_fov_edge"]]
    wrong, _ = exchanged_pairs(labels)
    found = []
    if absent:
        found.append(f"not found: {', '.join(absent)}")
    if cut:
        found.append(f"touches the edge of the field of view: {', '.join(cut)}")
    if wrong:
        each = f"left lies right of right: {', '.join(wrong)}; check the sides"
        found.append(exchanged_sides(labels) or each)
    return found
