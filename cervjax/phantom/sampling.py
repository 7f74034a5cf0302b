"""What the voxels of a grid hold of a neck: partial volumes, labels, levels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cervjax.anatomy import MUSCLES
from cervjax.phantom.body import Body
from cervjax.phantom.infiltration import NUM_MUSCLES
from cervjax.phantom.pose import Pose, affine_to_neck, to_neck
from cervjax.phantom.protocol import Grid

_MUSCLE_SHARE = 0.5  # of a voxel, to carry a muscle's label
_LEVEL_NUMBER = {f"C{n}": n for n in range(2, 8)} | {"T1": 8}


class Sampled(NamedTuple):
    """What the voxels hold, ``(x, y, z, ...)``.

    Attributes:
        mean: ``(x, y, z, c)`` means of the table's columns.
        nearest: the muscle that fills the largest part of each voxel, 0 for none.
        share: that part, 0-1.
    """

    mean: np.ndarray
    nearest: np.ndarray
    share: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """The muscle of each voxel that is at least half filled by it."""
        return np.where(self.share >= _MUSCLE_SHARE, self.nearest, 0).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Lookup:
    """Codes of the neck at points of a scan's grid."""

    codes: np.ndarray
    body: Body
    pose: Pose
    affine: np.ndarray

    def __call__(self, k: float, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
        """Codes ``(rows, cols)`` at height k; indices need not be whole."""
        matrix, offset = affine_to_neck(self.pose, self.affine)
        x, y, z = (
            (matrix[i, 0] * cols + (matrix[i, 2] * k + offset[i]))[None, :]
            + (matrix[i, 1] * rows)[:, None]
            for i in range(3)
        )
        at = to_neck(self.pose, x, y, z)[::-1]
        body, index = self.body, np.int32(0)
        for value, first, step, n in zip(
            at, body.first_mm, body.step_mm, self.codes.shape, strict=True
        ):
            cell = ((value - (first - step / 2)) / step).astype(np.int32)
            index = index * n + np.clip(cell, 0, n - 1)
        return self.codes.reshape(-1)[index]


def sample(
    codes: np.ndarray, body: Body, pose: Pose, grid: Grid, table: np.ndarray
) -> Sampled:
    """Averages tissue over the voxels of a grid.

    Each voxel is looked at on a lattice of points less than 0.6 mm apart in the plane
    and 1.1 mm across.

    Args:
        codes: ``256 * tissue + fat fraction``, on the body's grid.
        body: gives that grid.
        pose: how the neck lies.
        grid: of the scan.
        table: ``(codes, c)`` values to average.
    """
    nx, ny, nz = grid.shape
    counts = np.maximum(np.ceil(grid.spacing_mm / (0.6, 0.6, 1.1)).astype(int), 1)
    points = [(np.arange(n) + 0.5) / n - 0.5 for n in counts]
    look = Lookup(codes, body, pose, grid.affine)
    mean = np.zeros((nz, ny, nx, table.shape[1]), np.float32)
    nearest = np.zeros((nz, ny, nx), np.uint8)
    share = np.zeros((nz, ny, nx), np.float32)
    for k in range(nz):
        box = _box_of_body(look, k, ny, nx)
        if box is not None:
            best, most = _average(look, k, box, points, table, mean[k][box])
            nearest[k][box], share[k][box] = best, most
    return Sampled(
        np.ascontiguousarray(mean.transpose(2, 1, 0, 3)),
        np.ascontiguousarray(nearest.transpose(2, 1, 0)),
        np.ascontiguousarray(share.transpose(2, 1, 0)),
    )


def _box_of_body(look: Lookup, k: int, ny: int, nx: int) -> tuple[slice, slice] | None:
    """Rows and columns of a slice that hold the neck, told by every sixth voxel."""
    coarse = look(k, np.arange(0, ny, 6.0), np.arange(0, nx, 6.0)) > 255
    if not coarse.any():
        return None
    r, c = np.flatnonzero(coarse.any(1)), np.flatnonzero(coarse.any(0))
    return (
        slice(max(6 * r[0] - 7, 0), min(6 * r[-1] + 8, ny)),
        slice(max(6 * c[0] - 7, 0), min(6 * c[-1] + 8, nx)),
    )


def _average(
    look: Lookup,
    k: int,
    box: tuple[slice, slice],
    points: list[np.ndarray],
    table: np.ndarray,
    mean: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Averages one slice within a box.

    Args:
        look: gives the codes.
        k: the slice.
        box: rows and columns.
        points: along x, y, z, within a voxel.
        table: values to average.
        mean: ``(rows, columns, c)`` zeros, filled in.

    Returns:
        The muscle that fills the largest part of each voxel, and that part.
    """
    y, x = (np.arange(part.start, part.stop) for part in box)
    total, keys = 0, []
    for dz in points[2]:
        for dy in points[1]:
            for dx in points[0]:
                code = look(k + dz, y + dy, x + dx)
                mean += np.take(table, code, axis=0)
                tissue = (code >> 8).reshape(-1)
                chosen = np.flatnonzero((tissue > 0) & (tissue <= NUM_MUSCLES))
                keys.append(chosen * 16 + tissue[chosen])
                total += 1
    mean /= total
    count = np.bincount(np.concatenate(keys), minlength=16 * len(y) * len(x))
    count = count.reshape(len(y), len(x), 16)
    best = count.argmax(-1)
    return best, np.take_along_axis(count, best[..., None], -1)[..., 0] / total


def at_table_1(labels: np.ndarray, level_of_slice: np.ndarray) -> np.ndarray:
    """Keeps each muscle in the axial slices of its levels only."""
    allowed = np.zeros((NUM_MUSCLES + 1, 9), bool)
    for m in MUSCLES:
        allowed[m.label, [_LEVEL_NUMBER[level] for level in m.levels]] = True
    return np.where(allowed[labels, level_of_slice], labels, 0).astype(np.uint8)


def coarse_points(
    grid: Grid,
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Scanner coordinates of every 8th voxel in the plane, and a way back to all.

    Returns:
        ``(3, x', y', z)`` millimetres, and a function that interpolates values at
        these points to all voxels of the grid.
    """
    stride = 8
    at = [np.arange(0, n - 1 + stride, stride) for n in grid.shape[:2]]
    index = np.stack(np.meshgrid(*at, np.arange(grid.shape[2]), indexing="ij"))
    points = np.tensordot(grid.affine[:3, :3], index, 1)
    points += grid.affine[:3, 3].reshape(3, 1, 1, 1)

    def spread(values: np.ndarray) -> np.ndarray:
        values = values.astype(np.float32)
        for axis, n in enumerate(grid.shape[:2]):
            where = np.arange(n) / stride
            k = np.minimum(where.astype(int), values.shape[axis] - 2)
            t = (
                (where - k)
                .astype(np.float32)
                .reshape([-1 if i == axis else 1 for i in range(3)])
            )
            low = values.take(k, axis)
            values = low + t * (values.take(k + 1, axis) - low)
        return values

    return points, spread
