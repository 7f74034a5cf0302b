"""The role of an image in a scan, from its name (`roles`) and dcm2niix's side-car.

Only names and ``.json`` side-cars are read, never pixels.
"""

import os
import re
from pathlib import Path
from typing import NamedTuple

from cervjax.io.channels import channel_role
from cervjax.io.converted import Acquisition, Told, read_told
from cervjax.io.roles import SEPARATORS, SERIES, WORDS, partner_of, role_words

_DROPPED = re.compile(r"(?:^|_)(?:part-mag|echo-\d+)(?=_|$)")

NIFTI = re.compile(r"(?is)(?P<stem>[^.].*)\.nii(\.gz)?")
DICOM = re.compile(r"(?i).*\.(dcm|ima)|dicomdir|im[-_]?\d+|mr\.[\d.]+")
OTHER_FORMAT = re.compile(r"(?i)[^.].*\.(nrrd|nhdr|mha|mhd|mgz|mgh|img|hdr|mif|par)")
OUTPUT = re.compile(
    r"(?i)(.*[-_])?(dseg|seg|softseg|probseg|mask|labels?|levels?|pdff|ff|fatfrac"
    r"|r2star|mixture|niftynet_out)"
)
MASK_ENDINGS = ("dseg", "seg", "label", "labels", "mask")
MASK = re.compile(rf"(?i)(?P<name>.+?)[-_](?:{'|'.join(MASK_ENDINGS)})")
"""The name of a mask, without extension, and of the scan that it is of."""
NOT_MAGNITUDE = re.compile(
    r"(?i).*_(ph|phmag|real|imaginary|t2s)|(.*_)?part-(phase|real|imag)(_.*)?"
)


_LEADING = re.compile(
    r"(?:(?P<mark>(?i:s))(?=\d{3}a))?(?P<number>\d{1,4})(?:a\d{3,4})?[-_. ](?=\D)"
)
_MIDDLE = re.compile(r"(?<=[-_. ])(?P<number>\d{3,4})[-_. ]")
_TRAILING = re.compile(rf"(?:^|[-_. ]){SERIES}[ab]?$")


class Series(NamedTuple):
    """A name without the number of its series.

    Attributes:
        stem: what is left.
        number: the number, -1 where there is none.
        mark: how it is written: "s" as in ``s004``, "0" as in ``0004``, or "".
    """

    stem: str
    number: int = -1
    mark: str = ""


def series_of(stem: str) -> Series:
    """Takes the number at the end off, or else at the beginning, or in between."""
    match = _TRAILING.search(stem) or _LEADING.match(stem) or _MIDDLE.search(stem)
    if not match:
        return Series(stem)
    if match.groupdict().get("mark"):
        mark = "s"
    else:
        mark = "0" * (len(match["number"]) == 4)
    left = (stem[: match.start()] + stem[match.end() :]).strip(SEPARATORS)
    return Series(left, int(match["number"]), mark)


class NamedImage(NamedTuple):
    """A file that belongs to a scan.

    Attributes:
        path: the file.
        folder: where the images of its scan lie, below it or beside it.
        stem: its name without the role; the images of one scan share it.
        claims: the roles that name and side-car give it; one, if all is well.
        partner: the name its partner should have, below `folder`.
        acquisition: when it was acquired, from the side-car.
        is_named: whether its own name has the role, not the side-car or a folder.
    """

    path: Path
    folder: Path
    stem: str
    claims: frozenset[str]
    partner: str
    acquisition: Acquisition = Acquisition()
    is_named: bool = True


def read_name(
    path: Path, home: Path, *, is_first_echo: bool = False
) -> NamedImage | None:
    """Reads an image's name, and the side-car beside it.

    Args:
        path: the image, ``.nii`` or ``.nii.gz``; it need not exist.
        home: a folder above it; names of folders in between count as part of the name.
        is_first_echo: the name lacks the ``_e1`` that it should have.

    Returns:
        What they tell, or None where neither tells a role.
    """
    label = path.relative_to(home).with_name(stem_of(path)).as_posix()
    label += "_e1" * is_first_echo
    told, words = _told(path), role_words(label)
    if not words.matches:
        if not told.role:
            return None
        stem, claims = label.rpartition("/")[2], frozenset({told.role})
        return NamedImage(path, path.parent, stem, claims, "*", told.acquisition, False)
    match, roles = words.matches[0], words.roles
    if words.is_channel:
        roles = {channel_role(path, match["word"], WORDS) or r for r in roles}
    if words.is_glued and told.role:
        roles = {told.role}
    claims = {told.role, *roles} - {""}
    claims = claims or {told.echo_role} - {""}
    before, after = label[: match.start()], label[match.end() :]
    before, after = (part.rpartition("/")[2] for part in (before, after))
    parts = before.rstrip(SEPARATORS), after.lstrip(SEPARATORS), match["copy"]
    stem = _DROPPED.sub("", "_".join(filter(None, parts)))
    start, end = match.span("word")
    extension = path.name[len(stem_of(path)) :]
    partner = label[:start] + partner_of(match) + label[end:] + extension
    named = not words.is_glued
    return NamedImage(
        path, home, stem, frozenset(claims), partner, told.acquisition, named
    )


def of_series_folder(path: Path, series: Path) -> NamedImage | None:
    """Reads the name of a folder that holds one series, and so has the role.

    Args:
        path: the image.
        series: the folder, above it.

    Returns:
        As `read_name` of the folder, or None where it tells no role.
    """
    folder = read_name(series.with_name(f"{series.name}.nii"), series.parent)
    if folder is None or len(folder.claims) != 1:
        return None
    told = _told(path)
    return folder._replace(
        path=path,
        claims=folder.claims | ({told.role} - {""}),
        acquisition=told.acquisition,
        is_named=False,
    )


def _told(path: Path) -> Told:
    return read_told(path.with_name(stem_of(path) + ".json"))


def stem_of(path: Path) -> str:
    """A file's name without ``.nii`` or ``.nii.gz``."""
    nifti = NIFTI.fullmatch(path.name)
    return nifti["stem"] if nifti else path.stem


def safe_name(stem: str, folder: Path) -> str:
    """A name safe in file systems, shells and spreadsheets; the folder's if need be."""
    names = (stem, os.path.basename(os.path.abspath(folder)))
    safe = (re.sub(r"[^\w.+-]+", "_", name).strip("-_.+") for name in names)
    return next(filter(None, safe), "scan")
