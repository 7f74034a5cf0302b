"""Scans whose images have numbers of series in their names, all different.

One protocol's in-phase, out-of-phase, water and fat images are series of their own, and
converters write the number into the name. Images that are named the same without it
belong together where something says so; two people may be numbered as well.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from cervjax.io.filenames import FAT_PAIR, PHASE_PAIR, NamedImage, series_of

_MANY = 3  # roles that hardly differ from person to person

Key = tuple[Path, str]
"""Folder, and name of a scan in it."""


def by_series(
    images: Iterable[NamedImage],
) -> tuple[dict[Key, list[NamedImage]], list[NamedImage]]:
    """Puts images together that differ in the number of their series.

    Evidence is the same study and time of acquisition in all side-cars, or three roles
    or more, each once, or numbers that are written as those of series: ``s004``, and
    ``0004`` of a folder for one series.

    Args:
        images: each of one role, none of which found a partner.

    Returns:
        Images by folder and name, each group with a pair; and those left over.
    """
    alike: dict[Key, list[NamedImage]] = defaultdict(list)
    for image in images:
        alike[image.folder, series_of(image.stem).stem].append(image)
    found: dict[Key, list[NamedImage]] = {}
    left: list[NamedImage] = []
    for (folder, stem), members in alike.items():
        groups = [g for g in _acquisitions(members) if _belong(g)]
        for group in groups:
            first = min(series_of(image.stem).number for image in group)
            name = stem if len(groups) == 1 else f"{stem}_{first}"
            found[folder, name] = group
        taken = {image.path for group in groups for image in group}
        left += [image for image in members if image.path not in taken]
    return found, left


def has_pair(roles: Iterable[str]) -> bool:
    """Whether in-phase and out-of-phase are there, or water and fat."""
    return any({*pair} <= {*roles} for pair in (PHASE_PAIR, FAT_PAIR))


def _acquisitions(images: list[NamedImage]) -> list[list[NamedImage]]:
    """By time of acquisition, where all images have one."""
    if not all(image.acquired for image in images):
        return [images]
    groups: dict[str, list[NamedImage]] = defaultdict(list)
    for image in images:
        groups[image.acquired].append(image)
    return list(groups.values())


def _belong(images: list[NamedImage]) -> bool:
    roles = [min(image.claims) for image in images]
    times = {image.acquired for image in images}
    if not has_pair(roles):
        return False
    if "" not in times:
        return True  # of one time, see `_acquisitions`
    series = [(image, series_of(image.stem)) for image in images]
    numbers = {s.number for _, s in series}
    if len(times) > 2 or len(numbers) < len(roles) or len({*roles}) < len(roles):
        return False
    marked = (s.mark == "s" or (s.mark and not image.is_named) for image, s in series)
    return len(roles) >= _MANY or all(marked)
