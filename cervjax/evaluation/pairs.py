"""Masks and reference masks of the same scans, found by the names of their files."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cervjax.io.labels import find_labelled
from cervjax.io.masks import masks_by_name
from cervjax.io.pairing import find_scans
from cervjax.io.scans import Scan


class Pair(NamedTuple):
    """One scan with two masks.

    Attributes:
        name: the scan's.
        predicted: mask to judge, NIfTI file.
        reference: mask to judge by.
        scan: its images, or None: then there is no fat infiltration.
    """

    name: str
    predicted: Path
    reference: Path
    scan: Scan | None


@dataclass(frozen=True)
class Excluded:
    """A scan that is not compared, and why."""

    scan: str
    reason: str


def find_pairs(
    predicted: Path, reference: Path, images: Path | None = None
) -> tuple[list[Pair], list[Excluded]]:
    """Pairs the masks of two folders by the names of their scans.

    ``a_dseg``, ``a_seg``, ``a_label`` and ``a_mask`` are masks of ``a``; in a folder
    without such endings every NIfTI file is a mask, named as its scan.

    Args:
        predicted: folder of masks, such as that of ``cervjax infer``.
        reference: labelled scans (see `labels.LAYOUTS`), or a folder of masks.
        images: the scans of ``reference``, if they lie elsewhere.

    Returns:
        Pairs, and the scans that have only one mask.

    Raises:
        ValueError: nothing pairs, or a name occurs twice in a folder.
    """
    ours = find_masks(predicted)
    scans: dict[str, Scan] = {}
    theirs: dict[str, Path] = {}
    problems: list[str] = []
    if _holds_scans(reference):
        labelled, found = find_labelled(reference)
        scans = {one.scan.name: one.scan for one in labelled}
        theirs = {one.scan.name: one.labels for one in labelled}
        problems = [f"{p.scan}: {p.message}" for p in found]
    theirs = theirs or find_masks(reference)
    if images is not None:
        scans = {scan.name: scan for scan in find_scans(images)[0]}
    common = [name for name in theirs if name in ours]
    if not common:
        raise ValueError(
            f"no scan has a mask in both {predicted} ({_some(ours)}) and {reference} "
            f"({_some(theirs)}); a mask must be named as its scan: NAME_dseg.nii.gz"
            + "".join(f"; {p}" for p in problems[:3])
        )
    pairs = [Pair(n, ours[n], theirs[n], scans.get(n)) for n in common]
    excluded = [
        *(Excluded(n, "no reference mask") for n in ours if n not in theirs),
        *(Excluded(n, "no predicted mask") for n in theirs if n not in ours),
    ]
    return pairs, excluded


def find_masks(folder: Path) -> dict[str, Path]:
    """Masks in a folder and its sub-folders, by the name of their scan, in order.

    Raises:
        ValueError: not a folder, no NIfTI file in it, or two masks of one name.
    """
    by_name = masks_by_name(folder)
    for name, paths in by_name.items():
        if len(paths) > 1:
            raise ValueError(
                f"{folder}: {len(paths)} masks of {name}: "
                f"{', '.join(map(str, paths[:4]))}; keep one of them"
            )
    return {name: paths[0] for name, paths in by_name.items()}


def _holds_scans(folder: Path) -> bool:
    return folder.is_dir() and bool(find_scans(folder)[0])


def _some(masks: dict[str, Path]) -> str:
    names = ", ".join(list(masks)[:3])
    return f"{len(masks)} masks: {names}{', ...' * (len(masks) > 3)}"
