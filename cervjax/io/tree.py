"""What lies in a folder of scans: files to be paired, told from their names alone."""

import os
import re
from pathlib import Path
from typing import NamedTuple

from cervjax.io.filenames import DICOM, NIFTI, OTHER_FORMAT, OUTPUT, safe_name, stem_of
from cervjax.io.files import walk_once
from cervjax.io.scans import Problem

_LABELS = re.compile(
    r"(?i)(?!.*(?:image|scan|dixon|raw))(?:.*[-_ ])?"
    r"(?:labels?|masks?|segs?|segmentations?|rois?|ground[-_ ]?truths?)(?:tr|ts|va)?"
    r"|label[-_ ].*|derivatives"
)
"""Folders whose images are drawn, whatever their names; not ``images_and_masks``."""
_OF_TOOLS = re.compile(r"(?i)nii|niftis?|resources|files|converted|dcm2niix")
"""Folders that tools put between a series and its image."""


class Tree(NamedTuple):
    """What lies in a folder.

    Attributes:
        paths: NIfTI files that are no output.
        others: images of formats that are not read.
        passed: masks and maps, by their names, and folders of them.
        has_dicom: whether there is DICOM.
        problems: folders and files that cannot be read.
    """

    paths: list[Path]
    others: list[Path]
    passed: list[Path]
    has_dicom: bool
    problems: list[Problem]


def walk(root: Path) -> Tree:
    """Looks through a folder and its sub-folders, each once."""
    paths: list[Path] = []
    others: list[Path] = []
    passed: list[Path] = []
    problems: list[Problem] = []
    has_dicom = False

    def unreadable(error: OSError) -> None:
        folder = Path(error.filename)
        message = f"the folder cannot be read ({error.strerror})"
        hint = "Change its permissions, or search another folder."
        problems.append(Problem(folder.name, (folder,), message, hint))

    for folder, subfolders, names in walk_once(root, unreadable):
        passed += [folder / d for d in subfolders if _LABELS.fullmatch(d)]
        subfolders[:] = sorted(
            (d for d in subfolders if d[0] != "." and not _LABELS.fullmatch(d)),
            key=lambda d: ((folder / d).is_symlink(), natural(d)),
        )
        has_dicom |= any(map(DICOM.fullmatch, names))
        for name in sorted(names, key=natural):
            nifti, path = NIFTI.fullmatch(name), folder / name
            if nifti and OUTPUT.fullmatch(nifti["stem"]):
                passed.append(path)
            elif nifti:
                problem = _unreadable(path)
                paths += [] if problem else [path]
                problems += [problem] if problem else []
            if OTHER_FORMAT.fullmatch(name):
                others.append(folder / name)
    return Tree(paths, others, passed, has_dicom, problems)


def _unreadable(path: Path) -> Problem | None:
    """Why a file cannot be read; told without opening it, which may wait for ever."""
    if not path.is_file():
        what = "a link to nothing" if path.is_symlink() else "no regular file"
    elif not os.access(path, os.R_OK):
        what = "not readable (permission denied)"
    else:
        return None
    hint = "Mend it, or take it away."
    return Problem(
        safe_name(stem_of(path), path.parent), (path,), f"{path} is {what}", hint
    )


def series_folder(folder: Path, root: Path) -> Path:
    """The folder of a series, above those that tools put in between."""
    while folder != root and _OF_TOOLS.fullmatch(folder.name):
        folder = folder.parent
    return folder


def natural(name: str) -> list[str | int]:
    """Sorts ``sub-2`` before ``sub-10``."""
    parts = re.split(r"(\d+)", name.casefold())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]
