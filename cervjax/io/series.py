"""Scans whose images are series of their own, with names that differ in a number.

One protocol's in-phase, out-of-phase, water and fat images are series of their own, and
converters write the number into the name. Images belong together where something says
so; two people may be numbered as well.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from cervjax.io.filenames import NamedImage, series_of
from cervjax.io.roles import FAT_PAIR, PHASE_PAIR, SEPARATORS

_MANY = 3  # roles that hardly differ from person to person
_SERIES_FOLDERS = {"scans", "series"}
"""Folders, as XNAT names them, in which numbers are those of series."""
_STUDY_TIME = re.compile(r"(?<!\d)(?:19|20)\d{6}[-_T]?[0-2]\d[0-5]\d[0-5]\d(?!\d)")
"""In a name, as dcm2niix's ``%t`` writes it: nobody else's study began that second."""
_PEOPLE = ("sub", "ses", "run")
"""BIDS entities that the images of one scan share."""

Key = tuple[Path, str]
"""Folder, and name of a scan in it."""


class Together(NamedTuple):
    """What belongs together.

    Attributes:
        groups: images by folder and name, each group with a pair.
        left: the others.
        numbered: of those, who is named the same but for a number, which proves
            nothing.
    """

    groups: dict[Key, list[NamedImage]]
    left: list[NamedImage]
    numbered: dict[Path, Path]


def by_series(images: Iterable[NamedImage]) -> Together:
    """Puts images together that are series of one acquisition.

    Evidence is the same study and time of acquisition in all side-cars; without times,
    names that differ in the number of the series alone, and three roles or more, each
    once, or the time of the study in the names, or numbers that are written as those of
    series: ``s004``, and ``0004`` of a folder for one series.

    Args:
        images: each of one role, none of which found a partner.
    """
    images = list(images)
    lonely = Counter(image.path.parent for image in images)
    timed: dict[tuple, list[NamedImage]] = defaultdict(list)
    for image in images:
        if image.acquisition.time:
            folder = image.folder
            if lonely[image.path.parent] == 1 and folder == image.path.parent:
                folder = folder.parent  # one series a folder
            timed[folder, image.acquisition].append(image)
    groups = [
        (folder, group)
        for (folder, _), group in timed.items()
        if _is_one_scan(group) and not _of_several_people(group)
    ]
    taken = {image.path for _, group in groups for image in group}
    alike: dict[Key, list[NamedImage]] = defaultdict(list)
    for image in images:
        if image.path not in taken:
            alike[image.folder, series_of(image.stem).stem].append(image)
    more = [(key[0], g) for key, members in alike.items() for g in _numbered(members)]
    groups += more
    taken |= {image.path for _, group in more for image in group}
    left = [image for image in images if image.path not in taken]
    return Together(_named(groups), left, _same_but_for_number(left))


def has_pair(roles: Iterable[str]) -> bool:
    """Whether in-phase and out-of-phase are there, or water and fat."""
    return any({*pair} <= {*roles} for pair in (PHASE_PAIR, FAT_PAIR))


def by_time(images: list[NamedImage]) -> list[list[NamedImage]]:
    """Images of one name by their time of acquisition, where that tells runs apart."""
    runs: dict[tuple, list[NamedImage]] = defaultdict(list)
    for image in images:
        runs[image.acquisition].append(image)
    known = all(image.acquisition.time for image in images)
    if known and all(_is_one_scan(run) for run in runs.values()):
        return list(runs.values())
    return [images]


def _is_one_scan(images: list[NamedImage]) -> bool:
    """Each role once, and a pair."""
    roles = [min(image.claims) for image in images]
    return len({*roles}) == len(roles) and has_pair(roles)


def _of_several_people(images: list[NamedImage]) -> bool:
    """Whether names say so, although the side-cars name one time."""
    named = [
        {
            part.partition("-")[::2]
            for part in image.stem.split("_")
            if part.startswith(tuple(f"{entity}-" for entity in _PEOPLE))
        }
        for image in images
    ]
    return any(entities != named[0] for entities in named)


def _numbered(images: list[NamedImage]) -> list[list[NamedImage]]:
    """Groups of images that are named the same but for a number."""
    times = {image.acquisition.time for image in images}
    if "" not in times:
        return []  # of other times, or other people
    roles = [min(image.claims) for image in images]
    series = [series_of(image.stem) for image in images]
    numbers = {s.number for s in series}
    if len(times) > 2 or len(numbers) < len(roles) or not _is_one_scan(images):
        return []
    marked = (
        s.mark == "s"
        or (s.mark and not image.is_named)
        or _STUDY_TIME.search(s.stem)
        or (
            image.folder.name.casefold() in _SERIES_FOLDERS
            and image.path.parent != image.folder
        )
        for image, s in zip(images, series, strict=True)
    )
    return [images] if len(roles) >= _MANY or all(marked) else []


def _named(groups: list[tuple[Path, list[NamedImage]]]) -> dict[Key, list[NamedImage]]:
    """By folder and name: what the names share, with a number where that is no name."""
    stems = [(folder, _shared_name(group)) for folder, group in groups]
    repeated = Counter(stems)
    found: dict[Key, list[NamedImage]] = {}
    for (folder, stem), (_, group) in zip(stems, groups, strict=True):
        first = min(series_of(image.stem).number for image in group)
        name = f"{stem}_{first}" if repeated[folder, stem] > 1 else stem
        if (folder, name) in found:
            name = min(image.stem for image in group)
        found[folder, name] = group
    return found


def _shared_name(images: list[NamedImage]) -> str:
    stems = {series_of(image.stem).stem for image in images}
    if len(stems) == 1:
        return stems.pop()
    shared = os.path.commonprefix(sorted(stems)).rstrip(SEPARATORS)
    return shared or min(stems)


def _same_but_for_number(images: list[NamedImage]) -> dict[Path, Path]:
    alike: dict[Key, list[NamedImage]] = defaultdict(list)
    for image in images:
        alike[image.folder, series_of(image.stem).stem].append(image)
    found = {}
    for members in alike.values():
        roles = {min(image.claims): image.path for image in members}
        for pair in (PHASE_PAIR, FAT_PAIR):
            if {*pair} <= {*roles} and len(members) == len(roles):
                one, other = (roles[role] for role in pair)
                found |= {one: other, other: one}
    return found
