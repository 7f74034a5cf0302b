"""Beyond what a number is looked at, and beyond what it is not used: one table."""

from typing import NamedTuple


class Limit(NamedTuple):
    """Of one quantity; a None is no limit.

    Attributes:
        look: beyond it somebody should look at the picture.
        do_not_use: beyond it the number is of something else.
        why: where the limits come from.
    """

    look: float | None
    do_not_use: float | None
    why: str


PAPER = "Weber et al. 2021, Table 2"
REAL = "outlines of three real necks: people differ two-fold and more"
DIGITAL = "digital necks, benchmarks/verdicts.py"

FEWEST = {
    "voxels": Limit(100, 30, "a mean of 30 voxels at SNR 20 is within 1 point of MFI"),
    "extent_mm": Limit(8, None, "half a vertebral level (16-20 mm in real necks)"),
    "confidence_mean": Limit(0.6, 0.4, DIGITAL),
    "largest_piece": Limit(0.8, 0.5, "a muscle is one piece; share of its voxels"),
    "area_ratio": Limit(1 / 3, 1 / 8, f"{PAPER}, {REAL}"),
    "mfi_percent": Limit(0.5, -2, "fat cannot be negative; noise and scale make it so"),
    "lean_ratio": Limit(0.82, None, "95th percentile of OOP/IP in all muscles"),
    "levels_covered": Limit(0.999, 0.001, "share of the muscle's levels in Table 1"),
    "places": Limit(None, 0.8, DIGITAL),
    "mixture_separation": Limit(2, None, "Ashman's D: below 2, one peak, not two"),
}
"""Less than these is too little."""

MOST = {
    "area_ratio": Limit(
        3.5, 8, f"{DIGITAL}: LS and TR to 3.2; {REAL} (TR of a muscular man: 6)"
    ),
    "mfi_percent": Limit(40, 50, "echoes as magnitudes fold fractions above 50 %"),
    "folded": Limit(0.25, None, "share of voxels at 40-50 %, where fractions fold"),
    "negative_fat": Limit(0.25, 0.5, "share; half of them where there is no fat"),
    "undefined": Limit(0.02, 0.5, "share of voxels with F + W <= 0"),
    "void": Limit(0.1, 0.5, "share darker than a sixth of the muscles' median"),
    "slices_left_out": Limit(0.15, None, "share of slices between first and last"),
    "lean_ratio": Limit(1.1, 1.3, f"95th percentile of OOP/IP; {DIGITAL}: to 1.06"),
    "scanner_swapped_percent": Limit(1, 50, "of a muscle measured on water and fat"),
    "asymmetry_volume_percent": Limit(67, None, "two-fold; sides differ less"),
    "asymmetry_mfi_points": Limit(10, None, f"2 standard deviations ({PAPER})"),
    "mixture_fat_percent": Limit(
        50, None, "in a lean man tendons are the dark kind, muscle the bright one"
    ),
    "scm_slope": Limit(-0.15, 0.2, "-0.5 to -1.5 in whole necks; see places"),
    "slice_mm": Limit(7, None, "half a level; the paper's slices are 3 mm"),
    "in_plane_mm": Limit(1.6, None, "LC and TR are sheets of 4-8 mm"),
}
"""More than these is too much."""

AREA_MM2 = {
    "MFSS": 315.0,
    "LC": 80.0,
    "SPCap": 140.0,
    "SSCap": 230.0,
    "SCM": 280.0,
    "TR": 500.0,
    "LS": 210.0,
}
"""Mean cross-section: reference volumes of the paper's Table 2 (mean less bias) over
the height of the muscle's levels, 17 mm each. TR: 275 there, 250-1,700 in three real
necks."""
