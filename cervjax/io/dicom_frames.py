"""Images of DICOM files, one frame each: where it lies, what it shows, of whom.

Classic files hold one frame, enhanced ones many. pydicom reads the headers only.
"""

import contextlib
import logging
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cervjax.io.converted import echo_role
from cervjax.io.roles import role_words

_WORDS = {  # of ImageType and FrameType: Siemens, Philips, GE, and the standard's own
    "IN_PHASE": "in_phase",
    "INPHASE": "in_phase",
    "IP": "in_phase",
    "OUT_PHASE": "out_phase",
    "OUTPHASE": "out_phase",
    "OPP_PHASE": "out_phase",
    "OPPOSED_PHASE": "out_phase",
    "OUT_OF_PHASE": "out_phase",
    "OP": "out_phase",
    "WATER": "water",
    "W": "water",
    "FAT": "fat",
    "F": "fat",
}
_NO_MAGNITUDE = {"P", "PHASE", "PHASE MAP", "PHASE_MAP", "R", "REAL", "I", "IMAGINARY"}
_NO_IMAGE = {
    *("FF", "FAT_FRACTION", "FAT_FRAC", "PDFF", "T2_STAR", "R2_STAR", "T2*", "R2*"),
    *("MPR", "MIP", "MINIP", "PROJECTION IMAGE", "SUB", "SUBTRACTION", "SCREEN SAVE"),
    *("LOCALIZER", "DERIVED_QC", "B0", "MIN_IP", "MEAN", "STDDEV"),
}
_SUPPRESSED = re.compile(r"(?i)(fat|water)_?(sat|sup|excit|sel|sep|only)[a-z]*")


class DicomError(ValueError):
    """A DICOM file that cannot be used; the message names nobody."""


class Frame(NamedTuple):
    """One image of a file.

    Attributes:
        path: the file.
        index: of the frame in an enhanced file, from 0; None in a classic one.
        uid: of the image, with the index.
        person: what tells people apart; never to be shown.
        study: UID; never to be shown.
        series: UID; never to be shown.
        series_number: the scanner's.
        role: in_phase, out_phase, water, fat, or "" if neither type nor description
            of the series tells.
        is_stated: whether the type tells it.
        left_out: why it is no magnitude image of an echo, or "".
        echo_time_ms: NaN if unknown.
        field_t: magnetic field; NaN if unknown.
        acquired: date and time, in digits; "" if unknown.
        position_mm: centre of the first pixel, LPS.
        orientation: of row and column, LPS, 6 numbers.
        spacing_mm: between rows, between columns, thickness.
        shape: rows, columns.
        time_point: of a series over time.
    """

    path: Path
    index: int | None
    uid: str
    person: str
    study: str
    series: str
    series_number: int
    role: str
    is_stated: bool
    left_out: str
    echo_time_ms: float
    field_t: float
    acquired: str
    position_mm: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, float, float]
    shape: tuple[int, int]
    time_point: int


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Nothing that pydicom says: its warnings quote values, names among them."""
    logger = logging.getLogger("pydicom")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def frames_of(path: Path) -> list[Frame]:
    """The frames of a file; none if it is no DICOM image of magnetic resonance.

    Raises:
        DicomError: it is one, but damaged.
    """
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        with silent():
            header = dcmread(path, stop_before_pixels=True)
            if header.get("Modality") != "MR" or not header.get("Rows"):
                return []
            groups = header.get("PerFrameFunctionalGroupsSequence")
            if groups is None:
                return [_frame(path, None, header, [header])]
            shared = header.get("SharedFunctionalGroupsSequence") or [None]
            return [
                _frame(path, i, header, [*_items(group), *_items(shared[0]), header])
                for i, group in enumerate(groups)
            ]
    except InvalidDicomError:
        return []
    except OSError as error:
        raise DicomError(f"a file cannot be read ({error.strerror})") from None
    except Exception as error:  # damaged values raise errors of many kinds
        what = type(error).__name__
        raise DicomError(f"a file has a damaged header ({what})") from None


def series_role(description: str) -> str:
    """The role in the words of a description, if it is one; "t1_vibe_dixon_opp"."""
    words = re.sub(r"[^A-Za-z0-9]+", "_", description).strip("_")
    words = _SUPPRESSED.sub("", words)
    found = role_words(words).roles - {""}
    return found.pop() if len(found) == 1 else ""


def _items(group: Any) -> Iterator[Any]:
    """The first items of a functional group's sequences, which have the attributes."""
    for element in group or ():
        if element.VR == "SQ" and element.value and not element.tag.is_private:
            yield element.value[0]


def _first(places: Iterable[Any], *names: str) -> Any:
    for name in names:
        for place in places:
            value = place.get(name)
            if value not in (None, ""):
                return value
    return None


def _frame(path: Path, index: int | None, header: Any, places: list[Any]) -> Frame:
    position = _first(places, "ImagePositionPatient")
    orientation = _first(places, "ImageOrientationPatient")
    spacing = _first(places, "PixelSpacing")
    types = _words(_first(places, "FrameType") or _first(places, "ImageType"))
    component = _first(places, "ComplexImageComponent") or ""
    role, left_out = _shown(types, str(component))
    echo_ms = _first(places, "EffectiveEchoTime", "EchoTime")
    field_t = _first([header], "MagneticFieldStrength")
    is_stated = bool(role)
    if not role and not left_out:
        role = series_role(str(header.get("SeriesDescription") or ""))
    if position is None or orientation is None or spacing is None:
        left_out = left_out or "without a position in the scanner"
        position, orientation, spacing = (0,) * 3, (1, 0, 0, 0, 1, 0), (1, 1)
    who = [header.get(n, "") for n in ("PatientID", "PatientName", "PatientBirthDate")]
    date = header.get("AcquisitionDate") or header.get("StudyDate") or ""
    time = header.get("AcquisitionTime")
    when = f"{date}{time}" if time else header.get("AcquisitionDateTime") or ""
    return Frame(
        path,
        index,
        f"{header.SOPInstanceUID}/{index}",
        "\n".join(map(str, who)) if any(map(str, who)) else "",
        str(header.get("StudyInstanceUID", "")),
        str(header.get("SeriesInstanceUID", "")),
        int(header.get("SeriesNumber") or 0),
        role,
        is_stated,
        left_out,
        round(float(np.nan if echo_ms is None else echo_ms), 3),
        float(np.nan if field_t is None else field_t),
        str(when),
        tuple(map(float, position)),
        tuple(map(float, orientation)),
        (
            float(spacing[0]),
            float(spacing[1]),
            float(_first(places, "SliceThickness") or 0),
        ),
        (int(header.Rows), int(header.Columns)),
        int(_first(places, "TemporalPositionIndex", "TemporalPositionIdentifier") or 1),
    )


def _words(types: Any) -> list[str]:
    if types is None:
        return []
    values = [types] if isinstance(types, str) else list(types)
    return [str(value).strip().upper() for value in values]


def _shown(types: list[str], component: str) -> tuple[str, str]:
    """Role, and why it is none that is used."""
    words = set(types[2:])  # the first two are ORIGINAL or DERIVED, PRIMARY or not
    wrong = sorted((_NO_MAGNITUDE & words) | ({component.upper()} & _NO_MAGNITUDE))
    if wrong:
        return "", f"no magnitude image ({wrong[0]})"
    wrong = sorted(_NO_IMAGE & {*types})
    if wrong:
        return "", f"computed, no echo ({wrong[0]})"
    roles = {_WORDS[word] for word in words if word in _WORDS}
    if len(roles) > 1:
        return "", f"of several roles ({', '.join(sorted(roles))})"
    return (roles.pop() if roles else ""), ""


def role_by_echo(frame: Frame) -> str:
    """The role that the echo time gives, if it is near that of either phase."""
    return echo_role(frame.echo_time_ms / 1000, frame.field_t)
