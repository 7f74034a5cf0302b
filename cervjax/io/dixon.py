"""The images of one scan, read and checked: in-phase, out-of-phase, fat and water."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, Real

from cervjax.io.echo_checks import (
    Echoes,
    PairFault,
    check_pair,
    check_scales,
    echo_times,
    read_sidecars,
)
from cervjax.io.nifti import NiftiImage, check_same_grid, read_nifti
from cervjax.io.scans import Scan

OBLIQUE_LIMIT_DEGREES = 30.0

Measured = Literal["echoes", "scanner"]


@dataclass(frozen=True, eq=False)
class FatWater:
    """Fat and water images ``(x, y, z)`` on one scale, and how they were obtained."""

    fat: Float[np.ndarray, "x y z"]
    water: Float[np.ndarray, "x y z"]
    source: Literal["in-phase and out-of-phase", "scanner water and fat"]


@dataclass(frozen=True, eq=False)
class DixonImages:
    """What a scan holds, all (x, y, z) float32 in RAS on one grid.

    Attributes:
        in_phase: first channel of the network.
        out_phase: second channel.
        fat_water: what fat infiltration is measured on.
        scanner: the scanner's own water and fat, where they are given.
        grid: the volume whose file gives geometry and header.
        warnings: what a reader of the results should know.
        faults: those of the pair, in words among the warnings, too.
        echoes: what the side-cars tell of their times.
    """

    in_phase: Float32[np.ndarray, "x y z"]
    out_phase: Float32[np.ndarray, "x y z"]
    fat_water: FatWater
    scanner: FatWater | None
    grid: NiftiImage
    warnings: tuple[str, ...]
    faults: tuple[PairFault, ...] = ()
    echoes: Echoes | None = None


def read_scan(scan: Scan, *, measure_on: Measured = "echoes") -> DixonImages:
    """Reads the files of a scan.

    Fat infiltration is measured on the echoes, as in the paper: scanners exchange
    water and fat in one scan of ten, somewhere, and the echoes cannot. Where the
    scanner's water and fat are all there is they are used, and the network is given
    what the echoes would have been: W + F in phase, |W - F| out of phase.

    Args:
        scan: its files.
        measure_on: "scanner" measures on its water and fat; where they are not given,
            on the echoes, with a warning.

    Raises:
        NiftiError: a file cannot be used, or the files do not share a grid.
    """
    with ThreadPoolExecutor() as pool:  # unpacking gzip frees the lock
        read = list(pool.map(read_nifti, scan.files.values()))
    files = dict(zip(scan.files, read, strict=True))
    sidecars = read_sidecars(scan.files)
    return dixon_images(files, measure_on=measure_on, sidecars=sidecars)


def dixon_images(
    files: Mapping[str, NiftiImage],
    *,
    measure_on: Measured = "echoes",
    sidecars: Mapping[str, Mapping] = MappingProxyType({}),
) -> DixonImages:
    """Checks the images of a scan against each other, as `read_scan` does.

    Args:
        files: by role: in_phase and out_phase, or water and fat, or all.
        measure_on: as for `read_scan`.
        sidecars: dcm2niix's, by role.

    Raises:
        NiftiError: they do not share a grid.
    """
    grid, *others = files.values()
    for other in others:
        check_same_grid(grid, other)
    data = {role: image.data for role, image in files.items()}
    has_pair = "in_phase" in data and "out_phase" in data
    scanner = None
    if "water" in data and "fat" in data:
        scanner = FatWater(data["fat"], data["water"], "scanner water and fat")
    warnings, faults = [], []
    if has_pair:
        in_phase, out_phase = data["in_phase"], data["out_phase"]
        faults = check_scales(sidecars) or check_pair(in_phase, out_phase)
        warnings += [fault.reason for fault in faults]
    else:
        water, fat = data["water"], data["fat"]
        in_phase, out_phase = water + fat, np.abs(water - fat)
        warnings.append("network input computed from water and fat (W + F, |W - F|)")
    if scanner is not None and (measure_on == "scanner" or not has_pair):
        measured = scanner
        warnings.append("fat infiltration measured on the scanner's water and fat")
    else:
        measured = fat_water(in_phase, out_phase)
        if measure_on == "scanner":
            warnings.append(
                "the scan has no water and fat images to measure on: fat infiltration "
                "measured on in-phase and out-of-phase"
            )
    if grid.oblique_degrees > OBLIQUE_LIMIT_DEGREES:
        warnings.append(
            f"axes lie up to {grid.oblique_degrees:.0f} degrees off the anatomical "
            "ones; the closest directions were taken"
        )
    if measured is scanner:
        faults = []
    return DixonImages(
        in_phase,
        out_phase,
        measured,
        scanner,
        grid,
        tuple(warnings),
        tuple(faults),
        echo_times(sidecars) if has_pair else None,
    )


def fat_water(
    in_phase: Real[np.ndarray, "x y z"], out_phase: Real[np.ndarray, "..."]
) -> FatWater:
    """Two-point Dixon: water ``(IP + OOP) / 2``, fat ``(IP - OOP) / 2``, not clipped.

    From magnitude images ``OOP = |W - F|``, so that ``(IP - OOP) / 2`` is
    ``min(W, F)``: true fat fractions above 50 % fold back (70 % reads as 30 %).

    Args:
        in_phase: in-phase magnitude, ``(x, y, z)``, integers or floats.
        out_phase: out-of-phase magnitude of the same shape and scale.

    Returns:
        Fat and water as float32, or float64 where the input needs it.

    Raises:
        ValueError: the shapes differ.

    Reference: Weber et al. 2021, Methods.
    """
    shapes = np.shape(in_phase), np.shape(out_phase)
    if shapes[0] != shapes[1]:
        raise ValueError(f"in-phase and out-of-phase shapes must agree, got {shapes}")
    dtype = np.result_type(in_phase, out_phase, np.float32)
    ip, oop = np.asarray(in_phase, dtype), np.asarray(out_phase, dtype)
    return FatWater((ip - oop) / 2, (ip + oop) / 2, "in-phase and out-of-phase")
