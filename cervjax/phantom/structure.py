"""One closed surface of an anatomy, as contours on a stack of axial planes."""

from typing import NamedTuple

import numpy as np


class Structure(NamedTuple):
    """One closed surface.

    Attributes:
        name: with ``_R`` or ``_L`` where it is paired.
        tissue: a name of `tissues.TISSUES`, or the label of a muscle as text.
        label: 1-14 for the segmented muscles, else 0.
        order: structures are painted by ascending order.
        z_mm: ``(s,)`` planes, ascending.
        contours_mm: ``(s, n, 2)`` x and y of corresponding vertices.
        yields: whether it gives way to everything but fat and fascia.
        goes_on: whether it goes on unchanged below its first, above its last plane.
    """

    name: str
    tissue: str
    label: int
    order: float
    z_mm: np.ndarray
    contours_mm: np.ndarray
    yields: bool = False
    goes_on: tuple[bool, bool] = (False, False)

    def at(self, z_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Contours on other planes, linear between the sections.

        Args:
            z_mm: ``(k,)`` ascending.

        Returns:
            Indices into `z_mm` where the structure exists, and ``(k', n, 2)``.
        """
        low = -np.inf if self.goes_on[0] else self.z_mm[0]
        high = np.inf if self.goes_on[1] else self.z_mm[-1]
        index = np.flatnonzero((z_mm >= low) & (z_mm <= high))
        z = np.clip(z_mm[index], self.z_mm[0], self.z_mm[-1])
        k = np.clip(np.searchsorted(self.z_mm, z, "right") - 1, 0, len(self.z_mm) - 2)
        t = ((z - self.z_mm[k]) / (self.z_mm[k + 1] - self.z_mm[k]))[:, None, None]
        return index, self.contours_mm[k] * (1 - t) + self.contours_mm[k + 1] * t


def area_mm2(xy: np.ndarray) -> np.ndarray:
    """Areas of polygons ``(..., n, 2)`` in mm, vertices in either direction."""
    x, y = xy[..., 0], xy[..., 1]
    return 0.5 * np.abs((x * np.roll(y, -1, -1) - np.roll(x, -1, -1) * y).sum(-1))
