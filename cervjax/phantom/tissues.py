"""What tissues are to the scanner: proton density and relaxation at 3 T.

Relaxation times are rounded from the literature's measurements at 3 T: Stanisz 2005
(muscle T1 1412 ms, cord, blood, cartilage), Gold 2004 (muscle 1420, fat 371, marrow
365 ms), de Bazelaire 2004 (subcutaneous fat 382 ms, glands by their like). T2* are
those of gradient echoes, so with the usual inhomogeneity. Proton densities relative to
water, and the fat fractions of marrow, glands and loose tissue, are textbook values.
"""

from typing import NamedTuple

import numpy as np

from cervjax.anatomy import MUSCLES


class Tissue(NamedTuple):
    """One tissue.

    Attributes:
        proton_density: of water and fat together, 1 = water.
        t1_ms: of its water.
        t2star_ms: of its water.
        fat_fraction: proton-density fat fraction, 0-1, where no texture says else.
        texture: standard deviation of the fat fraction within the tissue.
        susceptibility_ppm: volume susceptibility (SI).
    """

    proton_density: float
    t1_ms: float
    t2star_ms: float
    fat_fraction: float = 0.0
    texture: float = 0.0
    susceptibility_ppm: float = -9.05


_MUSCLE = Tissue(0.80, 1400, 26, 0.04)
_MARROW = Tissue(0.72, 1200, 9, 0.42, 0.06)
BODIES = ("C2", "C3", "C4", "C5", "C6", "C7", "T1")
"""Vertebral bodies whose marrow is a tissue of its own, to tell the levels by."""

TISSUES: dict[str, Tissue] = {
    "air": Tissue(0.0, 1000, 10, susceptibility_ppm=0.36),
    **{str(m.label): _MUSCLE for m in MUSCLES},
    "muscle": _MUSCLE._replace(texture=0.025),
    "tongue": _MUSCLE._replace(fat_fraction=0.12, texture=0.08),
    "skin": Tissue(0.55, 900, 12, 0.10),
    "fat": Tissue(0.92, 900, 18, 0.95, 0.02),
    "deep fat": Tissue(0.88, 1000, 18, 0.80, 0.10),
    "septum": Tissue(0.70, 1000, 14, 0.55, 0.15),
    "gland": Tissue(0.85, 1100, 24, 0.14, 0.05),
    "parotid": Tissue(0.85, 1000, 22, 0.38, 0.10),
    "thyroid": Tissue(0.85, 1000, 24, 0.02),
    "node": Tissue(0.85, 1200, 26, 0.06, 0.03),
    "nerve": Tissue(0.75, 1100, 22, 0.12),
    "bone cortical": Tissue(0.12, 400, 0.6, 0.0, susceptibility_ppm=-9.6),
    "marrow": _MARROW,
    "cartilage": Tissue(0.65, 1100, 11, 0.03),
    "disc": Tissue(0.70, 1100, 16),
    "fascia": Tissue(0.45, 900, 6, 0.08),
    "ligament": Tissue(0.30, 900, 4, 0.10),
    "csf": Tissue(1.0, 3800, 90),
    "cord": Tissue(0.75, 1000, 38),
    "artery": Tissue(0.90, 350, 40),  # T1 of blood that flows in fresh
    "vein": Tissue(0.90, 750, 24),
    "lung": Tissue(0.15, 1300, 0.8, susceptibility_ppm=-2.5),
    **{f"marrow {level}": _MARROW for level in BODIES},
}
"""By name; the muscles that are segmented go by their labels, ``"1"`` to ``"14"``."""

CODES: dict[str, int] = {name: i for i, name in enumerate(TISSUES)}
"""Number of each tissue: 0 is air, 1-14 are the labels of the muscles."""

FAT_T1_MS, FAT_T2STAR_MS = 370.0, 16.0
"""Of fat's protons, in every tissue."""


def column(field: str) -> np.ndarray:
    """One property of all tissues, by code."""
    return np.array([getattr(t, field) for t in TISSUES.values()], np.float64)
