"""How the neck lies in the scanner: from scanner millimetres to the upright neck.

A rigid position, heights of the levels, curvature of the spine and lift of the
shoulders. Mapping is from the scan to the neck, so that every voxel finds its tissue.
"""

from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from cervjax.phantom.atlas import Anatomy
from cervjax.phantom.subject import Subject

Points = np.ndarray | float

_SPINE_Y_MM = -8.0
_C2_TO_C7_MM = 81.0


class Pose(NamedTuple):
    """Position and curvature.

    Attributes:
        rotation: ``(3, 3)`` from the neck's frame to the scanner's.
        shift_mm: ``(3,)`` where the centre of C5 lies in the scanner.
        lordosis_deg: added curvature, C2 to C7.
        level_heights: ``(7,)`` ratios, C2 to T1.
        borders_mm: ``(8,)`` heights of the levels' borders in the anatomy.
        shoulder_mm: lift of the shoulders.
    """

    rotation: np.ndarray
    shift_mm: np.ndarray
    lordosis_deg: float
    level_heights: np.ndarray
    borders_mm: np.ndarray
    shoulder_mm: float


def upright(subject: Subject, anatomy: Anatomy) -> Pose:
    """The subject's own curvature and heights, straight in the scanner's centre."""
    return Pose(
        np.eye(3),
        np.zeros(3),
        subject.lordosis_deg,
        subject.level_heights,
        anatomy.borders_mm,
        subject.shoulder_mm,
    )


def draw_pose(
    subject: Subject,
    anatomy: Anatomy,
    rng: np.random.Generator,
    *,
    tilt_deg: float,
    shift_mm: float,
) -> Pose:
    """Lays the subject down for one session: standard deviations as given."""
    angles = rng.normal(0, tilt_deg, 3) * (1.0, 0.5, 0.6)  # nodding most
    return upright(subject, anatomy)._replace(
        rotation=Rotation.from_euler("xyz", angles, degrees=True).as_matrix(),
        shift_mm=rng.normal(0, shift_mm, 3),
        lordosis_deg=subject.lordosis_deg + rng.normal(0, 0.5 * tilt_deg),
        shoulder_mm=subject.shoulder_mm + rng.normal(0, 0.5 * tilt_deg),
    )


def to_neck(
    pose: Pose, x: Points, y: Points, z: Points
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where points of the straightened neck's own frame lie in the atlas' frame.

    Args:
        pose: of the neck; its rotation and shift are not applied here.
        x: to the right, in mm, already rotated into the neck's frame.
        y: forwards; the three broadcast.
        z: upwards.

    Returns:
        x, y, z in the atlas' frame.
    """
    x, y = np.asarray(x), np.asarray(y)
    heights, atlas = _levels(pose)
    height = np.interp(z, heights, atlas)
    curvature = np.deg2rad(pose.lordosis_deg) / _C2_TO_C7_MM
    y_atlas = y + 0.5 * curvature * height**2
    z_atlas = height - curvature * height * (y_atlas - _SPINE_Y_MM)
    side = _smooth((np.abs(x) - 35) / 50) * _smooth(np.asarray(-height / 40))
    return x, y_atlas, z_atlas - pose.shoulder_mm * side


def affine_to_neck(pose: Pose, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matrix and offset from voxel indices to the neck's straightened frame."""
    matrix = pose.rotation.T @ affine[:3, :3]
    return matrix, pose.rotation.T @ (affine[:3, 3] - pose.shift_mm)


def slice_levels(pose: Pose, affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The vertebral level of each axial slice: where the spine's axis crosses it.

    Args:
        pose: of the neck.
        affine: of a grid whose third axis is the closest to the scanner's.
        shape: of the grid.

    Returns:
        ``(slices,)`` 2-8 for C2-T1, 0 beyond.
    """
    z = spine_height_mm(pose, affine, shape)
    level = np.zeros(shape[2], np.uint8)
    borders = pose.borders_mm
    for number, (high, low) in enumerate(zip(borders, borders[1:], strict=False), 2):
        level[(z >= low) & (z < high)] = number
    return level


def spine_height_mm(
    pose: Pose, affine: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """Height in the atlas at which the spine's axis crosses each axial slice."""
    matrix, offset = affine_to_neck(pose, affine)
    k = np.arange(shape[2], dtype=np.float64)
    ij = np.zeros((2, len(k)))
    for _ in range(12):
        p = matrix @ np.stack([*ij, k]) + offset[:, None]
        x, y, z = to_neck(pose, *p)
        ij -= np.linalg.solve(matrix[:2, :2], np.stack([x, y - _SPINE_Y_MM]))
    return np.broadcast_to(z, k.shape)


def _levels(pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    """Heights in this neck and in the atlas of the levels' borders, ascending."""
    atlas = pose.borders_mm
    here = np.r_[0, np.cumsum(np.diff(atlas) * pose.level_heights)]
    middle = np.interp(0.0, atlas[::-1], here[::-1])
    here = here - middle
    beyond = 60.0
    heights = np.r_[here[0] + beyond, here, here[-1] - beyond]
    return heights[::-1], np.r_[atlas[0] + beyond, atlas, atlas[-1] - beyond][::-1]


def _smooth(t: np.ndarray) -> np.ndarray:
    """A step from 0 at 0 to 1 at 1, without corners."""
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)
