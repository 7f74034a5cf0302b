"""Masks of scans, found by the names of their files, from whatever program they are."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path

from cervjax.io.filenames import MASK, NIFTI, read_name, stem_of
from cervjax.io.files import walk_once
from cervjax.io.scans import Problem, Scan

_ENTITY = re.compile(r"_(?:label|desc|seg|space)-[A-Za-z0-9]+")
"""BIDS entities that the mask of a scan may have and the scan has not."""


def masks_by_name(folder: Path) -> dict[str, list[Path]]:
    """Masks in a folder and its sub-folders, by the name of their scan, in order.

    ``a_dseg``, ``a_seg``, ``a_label`` and ``a_mask`` are masks of ``a``; in a folder
    without such endings every NIfTI file is a mask, named as its scan.

    Raises:
        ValueError: not a folder, or no NIfTI file in it.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: not a folder; give the folder of the masks")
    stems: dict[Path, str] = {}
    for place, _, names in walk_once(folder):
        for name in names:
            if match := NIFTI.fullmatch(name):
                stems[place / name] = match["stem"]
    if not stems:
        raise ValueError(f"{folder}: no NIfTI file in it; give the folder of the masks")
    ended = {p: m["name"] for p, s in stems.items() if (m := MASK.fullmatch(s))}
    by_name: defaultdict[str, list[Path]] = defaultdict(list)
    for path, name in sorted((ended or stems).items()):
        by_name[name].append(path)
    return dict(by_name)


def masks_of(
    scans: Collection[Scan], masks: Path
) -> tuple[list[tuple[Scan, Path]], list[Problem]]:
    """The mask of each scan; what has no partner, or several, is a problem.

    A mask is named as its scan, as one of its images (``a_inphase_dseg``: MuscleMap
    does so), or as the scan with a BIDS entity (``a_label-muscle_dseg``); the first of
    these counts.

    Args:
        scans: the scans.
        masks: a folder, or the mask of the only scan.

    Raises:
        ValueError: no such folder, nothing in it, or one mask for several scans.
    """
    if masks.is_file():
        if len(scans) != 1:
            raise ValueError(
                f"{masks} is one mask, but there are {len(scans)} scans; give the "
                "folder of the masks, each named as its scan: NAME_dseg.nii.gz"
            )
        return [(scan, masks) for scan in scans], []
    images = {p.resolve() for scan in scans for p in scan.files.values()}
    found = {
        name: own
        for name, paths in masks_by_name(masks).items()
        if (own := [p for p in paths if p.resolve() not in images])
    }
    pairs: list[tuple[Scan, Path]] = []
    problems: list[Problem] = []
    used: set[Path] = set()
    for scan in scans:
        name = next(_names(scan, found), None)
        if name is None:
            hint = f"add {masks / scan.name}_dseg.nii.gz, or take the scan away"
            files = tuple(scan.files.values())
            problems.append(Problem(scan.name, files, f"no mask in {masks}", hint))
            continue
        candidates = _beside(scan, found[name]) or found[name]
        used.update(candidates)
        if len(candidates) == 1:
            pairs.append((scan, candidates[0]))
        else:
            message = f"{len(candidates)} masks: {', '.join(map(str, candidates))}"
            problem = Problem(scan.name, tuple(candidates), message, "keep one of them")
            problems.append(problem)
    known = {scan.name for scan in scans}
    for name, paths in found.items():
        if _ENTITY.sub("", name) in known - {name}:
            continue  # another mask of a scan that has its own
        if unused := [p for p in paths if p not in used]:
            message = f"{unused[0]} is a mask without a scan"
            hint = f"add the images of {name}, or take the mask away"
            problems.append(Problem(name, tuple(unused), message, hint))
    return pairs, problems


def _beside(scan: Scan, paths: Collection[Path]) -> list[Path]:
    folders = {path.parent.resolve() for path in scan.files.values()}
    return [path for path in paths if path.parent.resolve() in folders]


def _names(scan: Scan, found: Collection[str]) -> Iterator[str]:
    """Names under which a scan's mask is found, the best first."""
    if scan.name in found:
        yield scan.name
    for path in scan.files.values():
        image = read_name(path, path.parent)
        for name in (stem_of(path), image.stem if image else ""):
            if name in found:
                yield name
    for name in found:
        if _ENTITY.sub("", name) == scan.name:
            yield name
