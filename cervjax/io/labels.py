"""Scans with drawn muscles: which they are, of which participant, and their labels.

The labels of a scan are found by name, like its images (see `pairing`), and read onto
the grid of the images. Nothing is guessed: two candidates for a scan are a `Problem`.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Integer, UInt8

from cervjax.anatomy import IGNORED, MUSCLES, NUM_CLASSES
from cervjax.io.filenames import MASK_ENDINGS, read_name, stem_of
from cervjax.io.files import walk_once
from cervjax.io.label_sets import MUSCLEMAP, PAPER, LabelSet, to_papers
from cervjax.io.nifti import (
    NiftiError,
    NiftiImage,
    NiftiInput,
    check_same_grid,
    read_nifti,
)
from cervjax.io.pairing import find_scans
from cervjax.io.scans import PairingError, Problem, Scan

LAYOUTS = (
    "BIDS (sub-1_inphase, sub-1_outphase, and sub-1_dseg beside them or anywhere under "
    "derivatives), nnU-Net (imagesTr/a_0000, imagesTr/a_0001, labelsTr/a), or a plain "
    "folder (a_inphase, a_outphase, and a_dseg, a_seg, a_label or a_mask beside them), "
    "all .nii or .nii.gz"
)
"""The layouts understood, for messages."""

WHOLE_NUMBER_TOLERANCE = 1e-3
"""Scale factors (SPM writes label maps with them) do not give exact integers back."""

_EXTENSIONS = (".nii.gz", ".nii")
_DERIVED = re.compile(r"(?P<name>.+)_dseg")
_SUBJECT = re.compile(r"(?<![^\W_])sub-[A-Za-z0-9]+")
_SESSION = re.compile(  # at the end of a name: a visit, not a person
    r"(?i)[-_](ses|session|visit|run|timepoint|time|tp|t|v|day|week|month)[-_]?\d{1,3}$"
    r"|[-_](baseline|followup|follow-up|fu|pre|post|retest|rescan)[-_]?\d{0,2}$"
    r"|[-_](19|20)\d{6}$"
)


class LabelledScan(NamedTuple):
    """A scan and its labels.

    Attributes:
        scan: the images.
        labels: NIfTI file of values 0-14, as in `anatomy`.
        participant: ``sub-<label>`` where a file or folder is named so (BIDS), else
            the scan's name without what tells a visit (``_ses-1``, ``_T2``, a date).
    """

    scan: Scan
    labels: Path
    participant: str


def find_labelled(root: str | Path) -> tuple[list[LabelledScan], list[Problem]]:
    """Finds the scans in a folder that have labels; see `LAYOUTS`.

    Only a name that fits exactly counts, so ``_desc-..._dseg`` belongs to no scan.

    Args:
        root: folder to search.

    Returns:
        Scans with labels, and what is in the way of others: images that form no scan,
        scans without labels or with several candidates, labels that two scans claim.

    Raises:
        ValueError: ``root`` is not a folder, or there is no scan in it.
    """
    root = Path(root)
    scans, problems = find_scans(root)
    if not scans:
        found = "; ".join(f"{p.message}" for p in problems[-3:])
        raise PairingError(f"{root}: nothing to learn from: {found}. Give {LAYOUTS}.")
    derived = _derived_labels(root / "derivatives")
    wanted = {scan.name: list(_places(scan)) for scan in scans}
    candidates = {
        scan.name: sorted(
            {path for path in wanted[scan.name] if path.is_file()}.union(
                *(derived[key] for key in {scan.name, _stem(scan)})
            )
        )
        for scan in scans
    }
    claims = Counter(path for paths in candidates.values() for path in paths)
    labelled = []
    for scan in scans:
        paths = candidates[scan.name]
        if len(paths) == 1 and claims[paths[0]] == 1:
            labelled.append(LabelledScan(scan, paths[0], _participant(scan, root)))
        else:
            shared = [path for path in paths if claims[path] > 1]
            problems.append(_problem(scan, paths, shared, wanted[scan.name][0]))
    return labelled, problems


def read_labels(
    source: NiftiInput,
    grid: NiftiImage,
    *,
    may_be_empty: bool = False,
    label_set: LabelSet = PAPER,
    keep_ignored: bool = False,
) -> UInt8[np.ndarray, "x y z"]:
    """Reads the labels of a scan, turned to RAS as its images are.

    Args:
        source: NIfTI file of whole numbers, stored along any axes; or an image of
            nibabel's.
        grid: an image of the scan.
        may_be_empty: accept a map without any muscle.
        label_set: what its numbers mean.
        keep_ignored: voxels that the set ignores are `IGNORED` in the result; else 0.

    Returns:
        uint8 (x, y, z), 0-14, on the grid of the image.

    Raises:
        NiftiError: unreadable (see `read_nifti`) or no muscle in it; another shape
            than the image, or further than 0.1 mm off; values between the integers, or
            others than the set's.
    """
    volume = read_nifti(source, may_be_constant=True)
    try:
        check_same_grid(grid, volume)
    except NiftiError as error:
        raise NiftiError(
            f"{volume.path}: the mask is not on the grid of its scan ({error}); put it "
            "there by nearest neighbour (3D Slicer: Resample Image, interpolation nn)"
        ) from error
    labels = np.rint(volume.data)
    between = np.abs(volume.data - labels) > WHOLE_NUMBER_TOLERANCE
    if between.any():
        example = volume.data[between][0]
        raise NiftiError(
            f"{volume.path}: labels must be whole numbers, {between.sum()} voxels are "
            f"not, such as {example:g}; resample labels by nearest neighbour, and "
            "give one label map, not probabilities"
        )
    papers, foreign = to_papers(labels.astype(np.int64), label_set)
    if foreign:
        raise NiftiError(_foreign(volume.path, foreign, label_set))
    blank = np.where(papers == IGNORED, 0, papers)
    if not may_be_empty and not blank.any():
        raise NiftiError(
            f"{volume.path}: the mask has no muscle, "
            + (
                "every voxel is 0"
                if not labels.any()
                else f"none of its values is one of the labels {label_set.name}"
            )
        )
    return papers if keep_ignored else blank


def _foreign(path: Path, foreign: dict[int, int], labels: LabelSet) -> str:
    """What is wrong with values that are no labels, and what to do."""
    listed = ", ".join(map(str, list(foreign)[:8])) + ", ..." * (len(foreign) > 8)
    what = "0 (background) to 14 (Table 1 of the paper)"
    if labels is not PAPER:
        what = f"those of {labels.name}: 0, {', '.join(map(str, labels.muscles))}"
    mend = "renumber or remove them, or say what they mean with --labels"
    if labels is not MUSCLEMAP and foreign.keys() & MUSCLEMAP.muscles.keys():
        mend = "they look like MuscleMap's: --labels musclemap"
    return (
        f"{path}: labels must be {what}, {sum(foreign.values())} voxels have the "
        f"values {listed}; {mend}"
    )


def exchanged_pairs(labels: Integer[np.ndarray, "x y z"]) -> tuple[list[str], int]:
    """Muscles whose left one lies right of the right one, and how many have both.

    Args:
        labels: integers 0-14, (x, y, z) in RAS: x grows towards the patient's right.
    """
    per_x = np.stack([np.bincount(p.ravel(), minlength=NUM_CLASSES) for p in labels])
    total = per_x.sum(0)
    middle = (np.arange(len(labels)) @ per_x) / np.maximum(total, 1)
    pairs = [m for m in MUSCLES[::2] if total[m.label] and total[m.label + 1]]
    wrong = [m.abbreviation for m in pairs if middle[m.label] < middle[m.label + 1]]
    return wrong, len(pairs)


def exchanged_sides(labels: Integer[np.ndarray, "x y z"]) -> str:
    """A warning if most right muscles lie left of their partners, or nothing.

    Args:
        labels: integers 0-14, (x, y, z) in RAS.
    """
    wrong, pairs = exchanged_pairs(labels)
    if 2 * len(wrong) <= pairs:
        return ""
    return (
        f"left and right are exchanged in {len(wrong)} of {pairs} pairs of "
        "muscles: odd labels must be on the patient's right, even ones on the left "
        "(MuscleMap numbers them the other way round)"
    )


def _derived_labels(folder: Path) -> defaultdict[str, set[Path]]:
    """Label maps in a folder of derivatives, by the name of the scan they are of."""
    found: defaultdict[str, set[Path]] = defaultdict(set)
    for place, _, names in walk_once(folder):
        for name in names:
            path = place / name
            match = _DERIVED.fullmatch(stem_of(path))
            if match and name.endswith(_EXTENSIONS) and not name.startswith("."):
                found[match["name"]].add(path)
    return found


def _places(scan: Scan) -> Iterator[Path]:
    """Where labels may be, but for the derivatives; the recommended name first."""
    stem = _stem(scan)
    folders = sorted({path.parent for path in scan.files.values()})
    for folder in folders:
        if folder.name.startswith("images"):
            labels = folder.with_name(folder.name.replace("images", "labels", 1))
            yield from (labels / f"{stem}{ending}" for ending in _EXTENSIONS)
    if len(folders) > 1:  # one for each role
        folders = [folders[0].parent, *folders]
    for folder in folders:
        for key in dict.fromkeys((stem, scan.name)):
            for ending in MASK_ENDINGS:
                name = "_".join(filter(None, (key, ending)))
                yield from (folder / f"{name}{extension}" for extension in _EXTENSIONS)


def _stem(scan: Scan) -> str:
    """What the names of the images share; `Scan.name` may have folders before it."""
    path = next(iter(scan.files.values()))
    image = read_name(path, path.parent) or read_name(path, path.parent.parent)
    return image.stem if image else scan.name


def _participant(scan: Scan, root: Path) -> str:
    path = next(iter(scan.files.values())).relative_to(root)
    matches = filter(None, map(_SUBJECT.search, reversed(path.parts)))
    return next((match[0] for match in matches), _person(scan.name))


def _person(name: str) -> str:
    """A name without what says which visit it was, such as ``_ses-1`` or ``_T2``."""
    while match := _SESSION.search(name):
        if not match.start():
            break
        name = name[: match.start()]
    return name


def _problem(scan: Scan, paths: list[Path], shared: list[Path], best: Path) -> Problem:
    files = tuple(scan.files.values())
    names = ", ".join(map(str, paths))
    if not paths:
        return Problem(
            scan.name,
            files,
            "no labels",
            f"Add {best} (or under derivatives, {scan.name}_dseg.nii.gz), "
            "or take the scan away.",
        )
    if shared:
        message = f"labels that another scan claims too: {names}"
        return Problem(scan.name, tuple(shared), message, "Rename one of the scans.")
    message = f"{len(paths)} candidates for its labels: {names}"
    return Problem(scan.name, tuple(paths), message, "Keep one of them.")
