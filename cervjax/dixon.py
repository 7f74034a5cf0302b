"""The images of one scan, read and checked: in-phase, out-of-phase, fat and water."""

from dataclasses import dataclass

import numpy as np

from cervjax.composition import FatWater, fat_water
from cervjax.scans import Scan
from cervjax.volumes import Volume, check_same_grid, read_volume

OBLIQUE_LIMIT_DEGREES = 30.0
EXCHANGED_FRACTION = 0.5


@dataclass(frozen=True, eq=False)
class DixonImages:
    """What a scan holds, all (x, y, z) float32 in RAS on one grid.

    Attributes:
        in_phase: first channel of the network.
        out_phase: second channel.
        fat_water: what fat infiltration is measured on.
        grid: the volume whose file gives geometry and header.
        warnings: what a reader of the results should know.
    """

    in_phase: np.ndarray
    out_phase: np.ndarray
    fat_water: FatWater
    grid: Volume
    warnings: tuple[str, ...]


def read_scan(scan: Scan) -> DixonImages:
    """Reads the files of a scan.

    Water and fat from the scanner are preferred for the measurement. Where they are
    all there is, the network is given what the echoes would have been: W + F in phase
    and their absolute difference out of phase.

    Raises:
        VolumeError: a file cannot be used, or the files do not share a grid.
    """
    volumes = {role: read_volume(path) for role, path in scan.files.items()}
    grid, *others = volumes.values()
    for other in others:
        check_same_grid(grid, other)
    warnings = []
    if scan.has_pair:
        in_phase, out_phase = volumes["in_phase"].data, volumes["out_phase"].data
        warnings += _pair_warnings(in_phase, out_phase)
    else:
        water, fat = volumes["water"].data, volumes["fat"].data
        in_phase, out_phase = water + fat, np.abs(water - fat)
        warnings.append("network input computed from water and fat (W + F, |W - F|)")
    measured = fat_water(in_phase, out_phase)
    if scan.has_water_fat:
        water, fat = volumes["water"].data, volumes["fat"].data
        measured = FatWater(fat, water, "scanner water and fat")
        warnings.append("fat infiltration measured on the scanner's water and fat")
    if grid.oblique_degrees > OBLIQUE_LIMIT_DEGREES:
        warnings.append(
            f"axes lie up to {grid.oblique_degrees:.0f} degrees off the anatomical "
            "ones; the closest directions were taken"
        )
    return DixonImages(in_phase, out_phase, measured, grid, tuple(warnings))


def _pair_warnings(in_phase: np.ndarray, out_phase: np.ndarray) -> list[str]:
    """Out of phase, water and fat subtract: it cannot be brighter in most of a body."""
    if np.array_equal(in_phase, out_phase):
        return ["in-phase and out-of-phase images are identical: every MFI will be 0 %"]
    total = in_phase + out_phase
    body = total > 0.1 * np.percentile(total, 99)
    brighter = float(np.mean(out_phase[body] > in_phase[body])) if body.any() else 0.0
    if brighter > EXCHANGED_FRACTION:
        return [
            "in-phase and out-of-phase are probably exchanged: out-of-phase is the "
            f"brighter in {100 * brighter:.0f} % of the body"
        ]
    return []
