"""What is drawn of a scan: its mask, water image, and the slices of its levels.

Masks are found by name: ``<scan>_dseg.nii.gz``, as `cervjax infer` and
`cervjax phantom` write them; a map of levels beside one is
``<scan>_levels.nii.gz``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cervjax.figures.levels import LevelSlice, slices_of_map, slices_of_muscles
from cervjax.io.dixon import read_scan
from cervjax.io.labels import exchanged_sides, read_labels
from cervjax.io.nifti import NiftiError, NiftiImage, check_same_grid, read_nifti
from cervjax.io.scans import Scan

_EXTENSIONS = (".nii.gz", ".nii")


@dataclass(frozen=True, eq=False)
class Masked:
    """A scan with its mask, ``(x, y, z)`` in RAS.

    Attributes:
        name: of the scan.
        mask: the mask's file.
        water: water image.
        labels: uint8 0-14.
        grid: of both.
    """

    name: str
    mask: Path
    water: np.ndarray
    labels: np.ndarray
    grid: NiftiImage


def find_masks(masks: Path, scans: Sequence[Scan]) -> dict[str, list[Path]]:
    """The candidates for each scan's mask, by the scan's name.

    Args:
        masks: folder that is searched with its sub-folders; or one mask, for one scan.
        scans: whose masks are looked for.

    Raises:
        ValueError: there is no such folder or file, or one mask for several scans.
    """
    if masks.is_file():
        if len(scans) != 1:
            raise ValueError(
                f"{masks} is one mask, but there are {len(scans)} scans; give a folder "
                "of masks named <scan>_dseg.nii.gz"
            )
        return {scans[0].name: [masks]}
    if not masks.is_dir():
        raise ValueError(f"{masks} does not exist; give a mask or a folder of masks")
    by_name: dict[str, list[Path]] = {scan.name: [] for scan in scans}
    for path in sorted(masks.rglob("*_dseg.nii*")):
        for extension in _EXTENSIONS:
            name = path.name.removesuffix(f"_dseg{extension}")
            if name in by_name and not path.name.startswith("."):
                by_name[name].append(path)
    return by_name


def read_masked(scan: Scan, candidates: Sequence[Path]) -> Masked:
    """Reads a scan and its mask.

    Args:
        scan: the images.
        candidates: for its mask, at least one.

    Raises:
        ValueError: there are several candidates, a file cannot be read, the mask lies
            on another grid, is empty, has other labels or its sides exchanged.
        OSError: a file cannot be read.
    """
    if len(candidates) > 1:
        names = ", ".join(map(str, candidates))
        raise ValueError(f"{len(candidates)} masks: {names}; keep one of them")
    mask, images = candidates[0], read_scan(scan)
    try:
        labels = read_labels(mask, images.grid)
    except NiftiError as error:
        raise ValueError(
            f"{error}. A mask has labels 0-14 on the scan's own grid, and at least one "
            "muscle, as cervjax infer writes it"
        ) from error
    if wrong := exchanged_sides(labels):
        raise ValueError(
            f"{mask}: {wrong}; a figure of it would show the wrong sides, "
            "renumber the labels"
        )
    return Masked(scan.name, mask, images.fat_water.water, labels, images.grid)


def levels_of(scan: Masked) -> tuple[tuple[LevelSlice, ...], str]:
    """The levels' slices, and how they were found: in a map beside the mask, if any.

    Raises:
        ValueError: the map cannot be read or lies on another grid.
    """
    name = scan.mask.name.removesuffix(".gz").removesuffix(".nii")
    stem = name.removesuffix("_dseg")
    for extension in _EXTENSIONS:
        path = scan.mask.with_name(f"{stem}_levels{extension}")
        if path.is_file():
            volume = read_nifti(path)
            check_same_grid(scan.grid, volume)
            return slices_of_map(np.rint(volume.data)), "Levels: from their map."
    slices = slices_of_muscles(scan.labels, scan.grid.spacing_mm[2])
    return slices, "Levels: where muscles end (Table 1)."
