"""Makes contours of one person correspond, vertex by vertex, to those of another."""

import numpy as np
from scipy.ndimage import median_filter

from cervjax.phantom.structure import Structure

SPINE_MM = np.array([0.0, -8.0])
"""x, y of the spine's axis."""
_ALL_ROUND = (
    "body_outline",
    "subcutaneous_fat_outer",
    "subcutaneous_fat_inner_border",
)


def align(traced: Structure, like: Structure) -> Structure:
    """Renumbers vertices so that they correspond to those of the standard."""
    n = like.contours_mm.shape[1]
    xy, z = traced.contours_mm, traced.z_mm
    if len(xy) == 1:  # a structure needs two sections
        xy, z = np.repeat(xy, 2, 0), np.r_[z - 0.5, z + 0.5]
    if like.name in _ALL_ROUND:
        angles = _angles(like.contours_mm)
        xy = np.stack([_by_angle(c, angles) for c in xy])
        return like._replace(z_mm=z, contours_mm=xy)
    if xy.shape[1] != n:
        xy = np.stack([_resampled(c, n) for c in xy])
    goal = like.contours_mm
    if _signed(xy) * _signed(goal) < 0:
        xy = xy[:, ::-1]
    goal = _standardised(goal).mean(0)
    shape = _standardised(xy).mean(0)
    costs = [((np.roll(shape, k, 0) - goal) ** 2).sum() for k in range(n)]
    xy = np.roll(xy, int(np.argmin(costs)), 1)
    return like._replace(z_mm=z, contours_mm=xy)


def _angles(contours_mm: np.ndarray) -> np.ndarray:
    """``(n,)`` mean direction of each vertex from the spine."""
    away = contours_mm - SPINE_MM
    unit = away / np.linalg.norm(away, axis=-1, keepdims=True)
    return np.arctan2(*unit.mean(0).T[::-1])


def _by_angle(xy: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """The outermost point of a contour in each direction from the spine.

    So that vertices of the skin and of the fat's inner border correspond.
    """
    away = _resampled(xy, 2000) - SPINE_MM
    angle, r = np.arctan2(*away.T[::-1]), np.hypot(*away.T)
    turn = np.abs(np.angle(np.exp(1j * (angle[None] - angles[:, None]))))
    near = turn < max(np.pi / 400, turn.min(1).max())
    farthest = median_filter(np.where(near, r[None], 0).max(1), 3, mode="wrap")
    return SPINE_MM + farthest[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)


def _resampled(xy: np.ndarray, n: int) -> np.ndarray:
    closed = np.concatenate([xy, xy[:1]])
    along = np.r_[0, np.cumsum(np.hypot(*np.diff(closed, axis=0).T))]
    at = np.linspace(0, along[-1], n, endpoint=False)
    return np.stack([np.interp(at, along, closed[:, i]) for i in (0, 1)], 1)


def _signed(xy: np.ndarray) -> float:
    x, y = xy[..., 0], xy[..., 1]
    return float((x * np.roll(y, -1, -1) - np.roll(x, -1, -1) * y).sum())


def _standardised(xy: np.ndarray) -> np.ndarray:
    away = xy - xy.mean(1, keepdims=True)
    return away / np.sqrt((away**2).mean((1, 2), keepdims=True))
