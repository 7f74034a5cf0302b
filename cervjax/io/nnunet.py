"""Labelled scans as a raw dataset of nnU-Net: imagesTr, labelsTr and dataset.json."""

import json
import re
from collections.abc import Collection
from pathlib import Path

import numpy as np

from cervjax.anatomy import IGNORED, MUSCLES
from cervjax.io.dixon import read_scan
from cervjax.io.files import write_atomically
from cervjax.io.label_sets import DATASET_JSON, LabelSet
from cervjax.io.labels import exchanged_sides, read_labels
from cervjax.io.nifti import write_labels, write_map
from cervjax.io.scans import Scan

CHANNELS = ("in-phase", "out-of-phase")
IGNORE = len(MUSCLES) + 1
"""nnU-Net wants it to be the highest value."""
_NAME = re.compile(r"Dataset\d{3}_\w+")


def check_dataset(out: Path) -> None:
    """Looks at the folder before any work is done.

    Raises:
        ValueError: nnU-Net would not know it by its name, or there is a dataset in it.
    """
    if not _NAME.fullmatch(out.resolve().name):
        raise ValueError(
            f"{out}: nnU-Net knows datasets by names such as Dataset501_Neck; give "
            "nnUNet_raw/Dataset501_Neck with -o"
        )
    there = [n for n in ("imagesTr", "labelsTr", DATASET_JSON) if (out / n).exists()]
    if there:
        raise ValueError(
            f"{out} has {', '.join(there)} already, and two datasets must not mix; "
            "give another number, or take it away"
        )


def write_case(scan: Scan, mask: Path, labels: LabelSet, out: Path) -> None:
    """Writes images and labels of a scan, all on the grid of its first image.

    Args:
        scan: its images.
        mask: its labels, on the same grid.
        labels: what the mask's numbers mean.
        out: folder of the dataset.

    Raises:
        ValueError: files cannot be used, or sides or echoes are exchanged.
    """
    images = read_scan(scan)
    if images.faults:
        raise ValueError(f"{scan.name}: {images.faults[0].reason}")
    values = read_labels(mask, images.grid, label_set=labels, keep_ignored=True)
    ignored = values == IGNORED
    if wrong := exchanged_sides(np.where(ignored, 0, values)):
        raise ValueError(f"{mask}: {wrong}; say what the numbers mean with --labels")
    values = np.where(ignored, IGNORE, values).astype(np.uint8)
    for folder in ("imagesTr", "labelsTr"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for number, image in enumerate((images.in_phase, images.out_phase)):
        path = out / "imagesTr" / f"{scan.name}_{number:04d}.nii.gz"
        write_map(path, image, images.grid)
    write_labels(out / "labelsTr" / f"{scan.name}.nii.gz", values, images.grid)


def write_dataset(out: Path, cases: Collection[str], *, ignore: bool = False) -> None:
    """Writes ``dataset.json``, which makes a folder of cases a dataset.

    Args:
        out: the folder.
        cases: names of its scans.
        ignore: voxels may have the value `IGNORE`.
    """
    labels = {"background": 0} | {m.key: m.label for m in MUSCLES}
    content = {
        "channel_names": {str(i): name for i, name in enumerate(CHANNELS)},
        "labels": labels | ({"ignore": IGNORE} if ignore else {}),
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
        "name": out.resolve().name,
        "description": "14 neck muscles of Weber et al. 2021; _L left, _R right",
        "converted_by": "cervjax nnunet",
    }
    text = json.dumps(content, indent=1) + "\n"
    write_atomically(out / DATASET_JSON, lambda part: part.write_text(text, "utf-8"))
