"""From where the muscles are looked at, and which way the picture's sides face."""

from typing import NamedTuple

import numpy as np

Vector = tuple[int, int, int]
_LETTERS = (("R", "L"), ("A", "P"), ("S", "I"))  # ends of the RAS axes, + and -


class View(NamedTuple):
    """A look at the patient along an axis, from so far that nothing converges.

    Attributes:
        name: where the viewer stands.
        toward: from the patient towards the viewer, in RAS.
        up: what is up in the picture, in RAS.
    """

    name: str
    toward: Vector
    up: Vector

    @property
    def right(self) -> np.ndarray:
        """What is on the picture's right, in RAS."""
        return np.cross(self.up, self.toward)

    @property
    def letters(self) -> dict[str, str]:
        """Sides of the patient, by ``left``, ``right``, ``top``, ``bottom``."""
        right, up = self.right, np.array(self.up)
        return {
            "left": _letter(-right),
            "right": _letter(right),
            "top": _letter(up),
            "bottom": _letter(-up),
        }

    def project(self, points: np.ndarray) -> np.ndarray:
        """RAS vectors ``(n, 3)`` as right, up and towards the viewer."""
        return points @ np.array([self.right, self.up, self.toward], float).T


VIEWS = (
    View("front", (0, 1, 0), (0, 0, 1)),
    View("back", (0, -1, 0), (0, 0, 1)),
    View("right side", (1, 0, 0), (0, 0, 1)),
    View("left side", (-1, 0, 0), (0, 0, 1)),
)
"""Those of the still picture."""

FROM_BELOW = View("below", (0, 0, -1), (0, 1, 0))
"""As axial slices are looked at: the patient's right is on the left."""


def _letter(direction: np.ndarray) -> str:
    axis = int(np.abs(direction).argmax())
    return _LETTERS[axis][0 if direction[axis] > 0 else 1]
