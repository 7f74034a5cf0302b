"""The role of an image in a scan, from its name and dcm2niix's side-car.

Only names and ``.json`` side-cars are read, never pixels. The first rule that applies
decides: a word at the end, a word anywhere, an nnU-Net channel, an echo number.
"""

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from cervjax.io.channels import channel_role
from cervjax.io.files import read_json

ROLES = {
    "in_phase": "in-phase",
    "out_phase": "out-of-phase",
    "water": "water",
    "fat": "fat",
}
"""Roles of the images of a scan, and what they are called in messages."""

PHASE_PAIR, FAT_PAIR = ("in_phase", "out_phase"), ("water", "fat")

# Words for a role, beside the partner's word in the same convention; case is ignored.
_WORD_PAIRS = {
    PHASE_PAIR: "inphase/outphase in-phase/out-of-phase in_phase/out_of_phase "
    "in/opp ip/op ip/oop inphase/outofphase inphase/oppphase inphase/opposedphase "
    "in-phase/opposed-phase in_phase/opposed_phase in-phase/opp-phase "
    "in_phase/opp_phase in-phase/out-phase in_phase/out_phase inphase/opposed in/out",
    FAT_PAIR: "water/fat wat/fat",
}
_LAST_ONLY = {"out"}  # words that mean something else before the end of a name
# As written, at the end of a name only: nnU-Net's channels, dcm2niix's W and F.
_EXACT_PAIRS = {PHASE_PAIR: "0000/0001", FAT_PAIR: "W/F"}


def _vocabulary(table: dict[tuple[str, str], str]) -> dict[str, tuple[str, str]]:
    """Role and first partner of each word."""
    words: dict[str, tuple[str, str]] = {}
    for (role, other_role), pairs in table.items():
        for word, other in (pair.split("/") for pair in pairs.split()):
            words.setdefault(word, (role, other))
            words.setdefault(other, (other_role, word))
    return words


_WORDS, _EXACT = _vocabulary(_WORD_PAIRS), _vocabulary(_EXACT_PAIRS)
_IMAGE_TYPES = {  # of DICOM, as dcm2niix writes them
    "IN_PHASE": "in_phase",
    "OUT_PHASE": "out_phase",
    "OPP_PHASE": "out_phase",
    "WATER": "water",
    "FAT": "fat",
}
_FAT_SHIFT_HZ_PER_T = 3.4 * 42.577  # 3.4 ppm from water

_SEPARATORS = "-_. "
_START, _END = r"(?<![^-_. /])", r"(?![^-_. /])"
_LONGEST_FIRST = sorted(_WORDS, key=len, reverse=True)
_LAST_WORD = f"(?i:{'|'.join(_LONGEST_FIRST)})"
_WORD = f"(?i:{'|'.join(w for w in _LONGEST_FIRST if w not in _LAST_ONLY)})"
_ENTITY = "(?:(?:acq|rec|desc|part)-)?"  # a BIDS entity whose value is the role
_COPY = "(?P<copy>[ab]?)"  # dcm2niix tells equal names apart: x_in, x_ina
_ENDING = re.compile(rf"{_START}{_ENTITY}(?P<word>{_LAST_WORD}|[WF])(?:_e\d+)?{_COPY}$")
_NUMBERED = re.compile(  # dcm2niix's %d_%s: the number of the series comes last
    rf"{_START}{_ENTITY}(?P<word>{_LAST_WORD}|[WF]){_COPY}(?=[-_. ]s?\d{{1,4}}$)"
)
_ANYWHERE = re.compile(
    rf"{_START}{_ENTITY}(?P<word>{_WORD}|^[WF](?=/))(?P<copy>){_END}"
)
ROLE_FOLDER = re.compile(f"{_WORD}|[WF]")
_CHANNEL = re.compile(r"(?<=_)(?P<word>000[0-3])(?P<copy>)$")
_ECHO = re.compile(rf"{_START}(?P<word>e\d+(?=[ab]?$)|echo-\d+){_COPY}{_END}")
_RULES = (_ENDING, _NUMBERED, _ANYWHERE, _CHANNEL, _ECHO)
_DROPPED = re.compile(r"(?:^|_)(?:part-mag|echo-\d+)(?=_|$)")

NIFTI = re.compile(r"(?is)(?P<stem>[^.].*)\.nii(\.gz)?")
DICOM = re.compile(r"(?i).*\.(dcm|ima)|dicomdir|im[-_]?\d+|mr\.[\d.]+")
OTHER_FORMAT = re.compile(r"(?i)[^.].*\.(nrrd|nhdr|mha|mhd|mgz|mgh|img|hdr|mif|par)")
OUTPUT = re.compile(
    r"(?i)(.*[-_])?(dseg|seg|softseg|probseg|mask|labels?|levels?|pdff|ff|fatfrac"
    r"|r2star|niftynet_out)"
)
MASK_ENDINGS = ("dseg", "seg", "label", "labels", "mask")
MASK = re.compile(rf"(?i)(?P<name>.+?)[-_](?:{'|'.join(MASK_ENDINGS)})")
"""The name of a mask, without extension, and of the scan that it is of."""
NOT_MAGNITUDE = re.compile(
    r"(?i).*_(ph|phmag|real|imaginary|t2s)|(.*_)?part-(phase|real|imag)(_.*)?"
)


_LEADING = re.compile(r"(?P<number>\d{1,4})[-_. ](?=\D)")
_TRAILING = re.compile(r"(?:^|[-_. ])(?P<mark>s?)(?P<number>\d{1,4})[ab]?$")


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
    """Takes the number at the end off, or else at the beginning."""
    match = _TRAILING.search(stem) or _LEADING.match(stem)
    if not match:
        return Series(stem)
    mark = match.groupdict().get("mark") or "0" * (len(match["number"]) == 4)
    left = (stem[: match.start()] + stem[match.end() :]).strip(_SEPARATORS)
    return Series(left, int(match["number"]), mark)


class NamedImage(NamedTuple):
    """A file that belongs to a scan.

    Attributes:
        path: the file.
        folder: where the images of its scan lie, below it or beside it.
        stem: its name without the role; the images of one scan share it.
        claims: the roles that name and side-car give it; one, if all is well.
        partner: the name its partner should have, below `folder`.
        acquired: study and time of acquisition from the side-car; empty if unknown.
        is_named: whether its own name has the role, not the side-car or a folder.
    """

    path: Path
    folder: Path
    stem: str
    claims: frozenset[str]
    partner: str
    acquired: str = ""
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
    sidecar = _sidecar(path)
    stated, acquired = _stated_role(sidecar), _acquired(sidecar)
    matches = role_words(label)
    if not matches:
        if not stated:
            return None
        stem, claims = label.rpartition("/")[2], frozenset({stated})
        return NamedImage(path, path.parent, stem, claims, "*", acquired, False)
    roles = {*map(role_of, matches)}
    if matches[0].re is _CHANNEL:
        roles = {channel_role(path, matches[0]["word"], _WORDS) or r for r in roles}
    claims = {stated, *roles} - {""}
    claims = claims or {_echo_role(sidecar)} - {""}
    match = matches[0]
    before, after = label[: match.start()], label[match.end() :]
    before, after = (part.rpartition("/")[2] for part in (before, after))
    parts = before.rstrip(_SEPARATORS), after.lstrip(_SEPARATORS), match["copy"]
    stem = _DROPPED.sub("", "_".join(filter(None, parts)))
    start, end = match.span("word")
    extension = path.name[len(stem_of(path)) :]
    partner = label[:start] + _partner(match) + label[end:] + extension
    return NamedImage(path, home, stem, frozenset(claims), partner, acquired)


def of_series_folder(path: Path) -> NamedImage | None:
    """Reads the name of a folder that holds one series, and so has the role.

    Returns:
        As `read_name` of the folder, or None where it tells no role.
    """
    named = path.parent.with_name(f"{path.parent.name}.nii")
    folder = read_name(named, named.parent)
    if folder is None or len(folder.claims) != 1:
        return None
    sidecar = _sidecar(path)
    claims = folder.claims | ({_stated_role(sidecar)} - {""})
    return folder._replace(
        path=path,
        claims=frozenset(claims),
        acquired=_acquired(sidecar),
        is_named=False,
    )


def role_words(label: str) -> list[re.Match[str]]:
    """The words for a role in a name, by the first rule that finds any."""
    found = ([*rule.finditer(label)] for rule in _RULES)
    return next(filter(None, found), [])


def role_of(match: re.Match[str]) -> str:
    """The role a word stands for; nothing for a mere number."""
    return _meaning(match["word"])[0]


def _partner(match: re.Match[str]) -> str:
    """The partner's word, in the same convention."""
    partner = _meaning(match["word"])[1]
    return partner.upper() if match["word"].isupper() else partner


def _meaning(word: str) -> tuple[str, str]:
    return _EXACT.get(word) or _WORDS.get(word.lower(), ("", "*"))


def _sidecar(path: Path) -> dict[str, Any]:
    """What dcm2niix wrote beside the image, if anything."""
    try:
        content = read_json(path.with_name(stem_of(path) + ".json"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _acquired(sidecar: dict[str, Any]) -> str:
    """What is the same for all images that were computed from the same echoes."""
    time = sidecar.get("AcquisitionTime")
    if not isinstance(time, str | int | float) or not str(time).strip():
        return ""
    return f"{sidecar.get('StudyInstanceUID', '')} {time}"


def _stated_role(sidecar: dict[str, Any]) -> str:
    """The role in the DICOM image type, if it has just one."""
    words = f"{sidecar.get('ImageType')} {sidecar.get('ImageTypeText')}"
    roles = {_IMAGE_TYPES.get(word, "") for word in re.findall(r"\w+", words)} - {""}
    return roles.pop() if len(roles) == 1 else ""


def _echo_role(sidecar: dict[str, Any]) -> str:
    echo_time_s, field_t = sidecar.get("EchoTime"), sidecar.get("MagneticFieldStrength")
    if not (isinstance(echo_time_s, float | int) and isinstance(field_t, float | int)):
        return ""
    return echo_role(echo_time_s, field_t)


def echo_role(echo_time_s: float, field_t: float) -> str:
    """The role that the echo time gives, if it is near that of either phase."""
    cycles = echo_time_s * field_t * _FAT_SHIFT_HZ_PER_T
    if not 0 < cycles < 6:  # no echo of a Dixon scan, or not in seconds
        return ""
    off_phase = abs(cycles - round(cycles))
    return "in_phase" if off_phase < 0.15 else "out_phase" if off_phase > 0.35 else ""


def stem_of(path: Path) -> str:
    """A file's name without ``.nii`` or ``.nii.gz``."""
    nifti = NIFTI.fullmatch(path.name)
    return nifti["stem"] if nifti else path.stem


def safe_name(stem: str, folder: Path) -> str:
    """A name safe in file systems, shells and spreadsheets; the folder's if need be."""
    names = (stem, os.path.basename(os.path.abspath(folder)))
    safe = (re.sub(r"[^\w.+-]+", "_", name).strip("-_.+") for name in names)
    return next(filter(None, safe), "scan")
