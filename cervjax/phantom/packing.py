"""Muscles that fill the space: neighbours touch but for the thin planes between them.

Outlines read off images leave a gap on both sides of every plane; in the living neck
the muscles lie against each other. Gaps between neighbouring muscles are closed and
given to the nearer one; wider spaces, such as the posterior triangle, stay fat.
"""

import numpy as np
from scipy.ndimage import distance_transform_edt

from cervjax.anatomy import MUSCLES
from cervjax.phantom.subject import Subject
from cervjax.phantom.tissues import CODES

_FRONT_MM = -5.0, 15.0  # y between which vessels and viscera come between muscles
_WIDEST_IN_FRONT_MM = 2.0  # of `closing_mm` there
_BOX_MM = ((-95.0, 40.0), (-85.0, 85.0))  # y, x: the muscles about the spine
_MUSCLE = np.isin(np.arange(256), [*(m.label for m in MUSCLES), CODES["muscle"]])
_LOOSE = np.isin(np.arange(256), [CODES[n] for n in ("deep fat", "fascia", "fat")])


def pack_muscles(
    tissue: np.ndarray, first_mm: np.ndarray, step_mm: np.ndarray, subject: Subject
) -> None:
    """Closes the gaps between muscles, in place.

    Args:
        tissue: ``(z, y, x)`` uint8 codes.
        first_mm: z, y, x of voxel ``[0, 0, 0]``.
        step_mm: z, y, x; in the plane the same.
        subject: width of the gaps, thickness and kind of the planes.
    """
    box = tuple(
        slice(*np.clip(np.round((np.array(ends) - first) / step).astype(int), 0, n))
        for ends, first, step, n in zip(
            _BOX_MM, first_mm[1:], step_mm[1:], tissue.shape[1:], strict=True
        )
    )
    y = first_mm[1] + step_mm[1] * np.arange(tissue.shape[1])[box[0], None]
    in_front = min(subject.closing_mm, _WIDEST_IN_FRONT_MM)
    reach = np.interp(y, _FRONT_MM, (subject.closing_mm, in_front)) / step_mm[1]
    wide = max(round(subject.plane_mm / step_mm[1]), 1)
    fatty = "deep fat" if wide > 1 else "septum"  # a thinner one fills part of a pixel
    plane_code = CODES[fatty if subject.fatty_planes else "fascia"]
    for plane in tissue:
        part = plane[box]
        part[:] = _packed(part, reach, wide, plane_code)


def _packed(
    part: np.ndarray, reach: np.ndarray, wide: int, plane_code: int
) -> np.ndarray:
    """One plane ``(y, x)``.

    Args:
        part: codes.
        reach: ``(y, 1)`` half the width of the widest gap that is filled, in pixels.
        wide: thickness of the planes left between muscles, in pixels.
        plane_code: of these planes.
    """
    muscle = _MUSCLE[part]
    if not muscle.any():
        return part
    away, nearest = distance_transform_edt(~muscle, return_indices=True)
    inside = distance_transform_edt(away <= reach)
    gap = (inside > reach) & _LOOSE[part]
    owner = part[tuple(nearest)]
    filled = np.where(gap, owner, part)
    line = np.zeros(part.shape, bool)  # where two muscles' halves of a gap touch
    for axis in (0, 1):
        touch = owner != np.roll(owner, -1, axis)
        line |= touch if wide % 2 else touch | np.roll(touch, 1, axis)
    away = distance_transform_edt(~(line & (gap | muscle)))
    filled[gap & (away <= (wide - 1) // 2)] = plane_code
    return filled
