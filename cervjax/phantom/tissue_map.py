"""A digital neck as training sees it: tissue and fat in every voxel, not yet scanned.

Contrast, noise and position are drawn anew in every step, on the device (see
`cervjax.data.contrast`); a map holds what they are drawn from.
"""

from typing import NamedTuple

import numpy as np

from cervjax.phantom.atlas import Anatomy, draw_anatomy
from cervjax.phantom.body import build_body
from cervjax.phantom.infiltration import (
    NUM_MUSCLES,
    fat_fraction,
    muscle_texture,
    with_muscle_fat,
)
from cervjax.phantom.pose import upright
from cervjax.phantom.sampling import Lookup
from cervjax.phantom.subject import Subject, draw_subject

MAP_SPACING_MM = (0.8, 0.8, 1.25)
MAP_SHAPE = (232, 216, 112)
MAP_CENTRE_MM = np.array([0.0, -8.0, 0.0])
_PATHOLOGY = 0.3


class TissueMap(NamedTuple):
    """One neck.

    Attributes:
        codes: uint16 ``(x, y, z)`` in RAS, ``256 * tissue + fat fraction * 255`` with
            tissues by `tissues.CODES`, on voxels of `MAP_SPACING_MM`.
        subject: drawn.
        anatomy: name of the person or of the mix.
    """

    codes: np.ndarray
    subject: Subject
    anatomy: str


def make_tissue_map(
    seed: int, index: int, anatomies: tuple[str, ...] = ()
) -> TissueMap:
    """Draws a neck; the same for the same arguments.

    Args:
        seed: of the set.
        index: number within the set.
        anatomies: names to draw from; all packaged ones if empty.
    """
    rng = np.random.default_rng([seed, index, 40])
    subject = draw_subject(seed, index, pathology=bool(rng.random() < _PATHOLOGY))
    anatomy = draw_anatomy(rng, anatomies)
    return TissueMap(_codes(subject, anatomy), subject, anatomy.name)


def _codes(subject: Subject, anatomy: Anatomy) -> np.ndarray:
    body = build_body(subject, anatomy)
    mean = np.zeros(NUM_MUSCLES + 1)
    mean[1:] = subject.mfi_percent / 100
    fraction = with_muscle_fat(
        fat_fraction(body, subject), muscle_texture(body, subject), mean
    )
    fine = (body.tissue.astype(np.uint16) << 8) | fraction
    affine = np.diag([*MAP_SPACING_MM, 1.0])
    affine[:3, 3] = MAP_CENTRE_MM - (np.array(MAP_SHAPE) - 1) / 2 * MAP_SPACING_MM
    look = Lookup(fine, body, upright(subject, anatomy), affine)
    x, y = np.arange(MAP_SHAPE[0]), np.arange(MAP_SHAPE[1])
    planes = [look(k, y, x).T for k in range(MAP_SHAPE[2])]
    return np.stack(planes, -1)
