"""What lies loosely in front of the spine, between viscera, vessels and muscles.

Outlines leave the space about pharynx, carotid sheath and floor of the mouth empty. In
real necks small muscles, nodes, glands and veins are packed in there, with more or less
fat between them.
"""

import numpy as np
from scipy.special import ndtri

from cervjax.phantom.noise import smooth_tile, tiled
from cervjax.phantom.subject import Subject
from cervjax.phantom.tissues import CODES

_BEGINS_MM, _FULL_MM = -2.0, 16.0  # y between which the front begins, by lobules
_RARER = 3.0  # standard deviations less soft tissue where it begins
_OF_MUSCLE = 0.5  # of what is not fat; the rest is like glands
_COARSE, _FINE = (7.0, 9.0, 9.0), (4.0, 3.5, 3.5)  # mm along z, half mm along y, x


def fill_front(
    tissue: np.ndarray, first_mm: np.ndarray, step_mm: np.ndarray, subject: Subject
) -> None:
    """Puts lobules of soft tissue into the deep fat in front, in place.

    Args:
        tissue: ``(z, y, x)`` uint8 codes.
        first_mm: z, y, x of voxel ``[0, 0, 0]``.
        step_mm: z, y, x.
        subject: how much of the space is fat.
    """
    rng = np.random.default_rng([*subject.seed, 11])
    noise = smooth_tile(rng, _COARSE) + 0.7 * smooth_tile(rng, _FINE)
    noise /= noise.std()
    fat = subject.front_fat
    soft = ndtri(fat)
    muscle = ndtri(fat + (1 - fat) * (1 - _OF_MUSCLE))
    row = int(np.ceil((_BEGINS_MM - first_mm[1]) / step_mm[1]))
    y = first_mm[1] + step_mm[1] * np.arange(row, tissue.shape[1])[:, None]
    rarer = _RARER * np.clip((_FULL_MM - y) / (_FULL_MM - _BEGINS_MM), 0, 1)
    for k, plane in enumerate(tissue):
        part = plane[row:]
        loose = part == CODES["deep fat"]
        value = tiled(noise, k, *part.shape) - rarer
        part[loose & (value > soft)] = CODES["gland"]
        part[loose & (value > muscle)] = CODES["muscle"]
