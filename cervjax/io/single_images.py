"""Scans of one image each, whatever its contrast."""

from collections import Counter
from pathlib import Path

from cervjax.io.filenames import NIFTI, safe_name, stem_of
from cervjax.io.scans import PairingError, Problem, Scan
from cervjax.io.tree import walk


def single_images(source: Path) -> tuple[list[Scan], list[Problem]]:
    """Every image of a folder as a scan of its own; masks and maps are passed over.

    Args:
        source: a folder, or one image.

    Returns:
        Scans, named as their files (after the folder where several are named so), with
        the image as the only one, ``in_phase``; and what cannot be read.

    Raises:
        PairingError: there is no image.
    """
    if source.is_file() and NIFTI.fullmatch(source.name):
        return [Scan(safe_name(stem_of(source), source.parent), source)], []
    if not source.is_dir():
        raise PairingError(f"{source}: no folder and no NIfTI file; check the path")
    tree = walk(source)
    if not tree.paths:
        raise PairingError(f"{source}: no NIfTI image in it, apart from masks and maps")
    names = [safe_name(stem_of(path), path.parent) for path in tree.paths]
    often = Counter(name.casefold() for name in names)
    scans = []
    for path, name in zip(tree.paths, names, strict=True):
        if often[name.casefold()] > 1:
            parts = path.relative_to(source).parent.parts
            name = safe_name("_".join((*parts, name)), path.parent)
        scans.append(Scan(name, path))
    return scans, tree.problems
