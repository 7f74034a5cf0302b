"""Maps of water, fat and fat fraction on a scan's own grid, and what they mean."""

import json
from pathlib import Path

import numpy as np

from cervjax.about import NOTICE, __version__
from cervjax.io.dixon import DixonImages, FatWater
from cervjax.io.nifti import write_map
from cervjax.io.written import written_together

MAPS = ("water", "fat", "fatfraction")
"""Endings of the maps' names."""


def fat_fraction_percent(images: FatWater) -> np.ndarray:
    """``100 F / (F + W)``, float32 (x, y, z); NaN where F + W <= 0."""
    signal = images.fat + images.water
    nan = np.full(signal.shape, np.nan, np.float32)
    return np.divide(100 * images.fat, signal, out=nan, where=signal > 0)


def write_maps(out: Path, name: str, images: DixonImages) -> None:
    """Writes the maps of a scan and the side-car of the fat fraction.

    Air has no fraction: 0 there, so that viewers need not know of NaN.

    Args:
        out: folder.
        name: of the scan.
        images: its images.

    Raises:
        OthersFileError: a file of this name is there that cervjax has not written.
    """
    with written_together(out) as new:
        _write(new, name, images)


def _write(out: Path, name: str, images: DixonImages) -> None:
    fraction = np.nan_to_num(fat_fraction_percent(images.fat_water), nan=0.0)
    volumes = (images.fat_water.water, images.fat_water.fat, fraction)
    for ending, volume in zip(MAPS, volumes, strict=True):
        write_map(out / f"{name}_{ending}.nii.gz", volume, images.grid)
    from_echoes = images.fat_water is not images.scanner
    folding = (
        "from magnitude echoes (IP - OOP) / 2 is the smaller of fat and water: true "
        "fractions above 50 % read as 100 % less them (70 % as 30 %)"
        if from_echoes
        else "none: the scanner has told fat and water apart"
    )
    content = {
        "Description": "100 F / (F + W) of each voxel; 0 where F + W <= 0",
        "Units": "%",
        "Fat": "(IP - OOP) / 2" if from_echoes else "the scanner's fat image",
        "Water": "(IP + OOP) / 2" if from_echoes else "the scanner's water image",
        "FoldingAbove50Percent": folding,
        "Limits": "not corrected for T2*, T1 or the peaks of fat: no PDFF. " + NOTICE,
        "GeneratedBy": [{"Name": "cervjax", "Version": __version__}],
        "Faults": [fault.reason for fault in images.faults],
    }
    text = json.dumps(content, indent=1) + "\n"
    (out / f"{name}_fatfraction.json").write_text(text, "utf-8")
