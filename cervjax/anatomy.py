"""The 14 neck muscles of Weber et al. 2021: labels, sides, levels, colours.

Labels follow the paper's Table 1 and its published network: even = left, odd =
right, 0 = background. MuscleMap numbers sides the other way round.
"""

from typing import Literal, NamedTuple

import numpy as np

Side = Literal["left", "right"]


class Muscle(NamedTuple):
    """One muscle on one side.

    Attributes:
        label: value in the label map, 1-14.
        abbreviation: the paper's short name, without the side.
        name: anatomical name.
        side: the patient's side.
        levels: vertebral levels at which the paper segments it (Table 1).
        color_rgb: display colour, 0-255 per component.
    """

    label: int
    abbreviation: str
    name: str
    side: Side
    levels: tuple[str, ...]
    color_rgb: tuple[int, int, int]

    @property
    def key(self) -> str:
        """Short name with the side, such as ``MFSS_L``."""
        return f"{self.abbreviation}_{self.side[0].upper()}"


_TABLE_1 = (  # abbreviation, name, label of the right one, levels
    ("MFSS", "multifidus and semispinalis cervicis", 1, "C4 C5 C6"),
    ("LC", "longus colli", 3, "C3 C4 C5 C6"),
    ("SPCap", "splenius capitis", 5, "C3 C4 C5"),
    ("SSCap", "semispinalis capitis", 7, "C3 C4 C5"),
    ("SCM", "sternocleidomastoid", 9, "C4 C5 C6"),
    ("TR", "trapezius", 11, "C6"),
    ("LS", "levator scapulae", 13, "C5 C6"),
)

# Right and left. Hues follow Okabe and Ito's colour-blind-safe set; left is lighter.
_COLORS_RGB = {
    "MFSS": ((213, 60, 0), (255, 120, 80)),
    "LC": ((230, 140, 0), (255, 190, 60)),
    "SPCap": ((60, 160, 225), (130, 210, 255)),
    "SSCap": ((0, 145, 105), (70, 215, 165)),
    "SCM": ((215, 200, 30), (245, 235, 110)),
    "TR": ((200, 95, 155), (235, 160, 205)),
    "LS": ((20, 85, 190), (90, 140, 235)),
}

_SIDES: tuple[Side, ...] = ("right", "left")

MUSCLES: tuple[Muscle, ...] = tuple(
    Muscle(label + i, key, name, side, tuple(levels.split()), _COLORS_RGB[key][i])
    for key, name, label, levels in _TABLE_1
    for i, side in enumerate(_SIDES)
)
"""All 14 muscles, in order of their labels."""

NUM_CLASSES = 1 + len(MUSCLES)
"""Background and 14 muscles."""

IGNORED = 255
"""In label maps to train on: voxels of which nobody knows what they are."""

LEVEL_CLASSES = {
    level: NUM_CLASSES + i
    for i, level in enumerate(("C2", "C3", "C4", "C5", "C6", "C7", "T1"))
}
"""Classes of the vertebral bodies, for networks that tell levels; never in a mask."""

LEVEL_NUMBERS = {name: number for number, name in enumerate(LEVEL_CLASSES, 2)}
"""2-7 for C2-C7, 8 for T1, as in maps of levels."""

LEFT_RIGHT_PERMUTATION = np.array(
    [0] + [m.label + (1 if m.side == "right" else -1) for m in MUSCLES], np.uint8
)
"""``LEFT_RIGHT_PERMUTATION[label]`` is the same muscle on the other side."""

CLASS_PERMUTATION = np.r_[LEFT_RIGHT_PERMUTATION, list(LEVEL_CLASSES.values())]
"""The same for all classes of a network; bodies have no side."""


def muscles_of(classes: np.ndarray) -> np.ndarray:
    """The labels of muscles, 0-14, among a network's classes; bodies become 0."""
    return np.where(classes < NUM_CLASSES, classes, 0).astype(np.uint8)


def itksnap_labels() -> str:
    """The label table as an ITK-SNAP label description file."""
    rows = ["# ITK-SNAP label description: IDX R G B A VIS MSH LABEL"]
    rows.append('0 0 0 0 0 0 0 "Clear Label"')
    for m in MUSCLES:
        r, g, b = m.color_rgb
        rows.append(f'{m.label} {r} {g} {b} 1 1 1 "{m.name}, {m.side} ({m.key})"')
    return "\n".join(rows) + "\n"


def fsleyes_lut() -> str:
    """The label table as a lookup table of FSLeyes (``.lut``): value, r g b, name."""
    rows = [
        " ".join([str(m.label), *(f"{c / 255:.5f}" for c in m.color_rgb), m.key])
        for m in MUSCLES
    ]
    return "\n".join(rows) + "\n"


def slicer_colors() -> str:
    """The label table as a 3D Slicer color table (``.ctbl``)."""
    rows = ["# Color table file: value name r g b alpha", "0 background 0 0 0 0"]
    for m in MUSCLES:
        r, g, b = m.color_rgb
        name = f"{m.name} {m.side}".replace(" ", "_")
        rows.append(f"{m.label} {name} {r} {g} {b} 255")
    return "\n".join(rows) + "\n"
