"""Reads one person's outlines from a file; see anatomies/README.md for the format."""

import gzip
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cervjax.anatomy import MUSCLES
from cervjax.phantom.structure import Structure, area_mm2
from cervjax.phantom.tissues import TISSUES

_SIDES = {"M": "", "R": "_R", "L": "_L"}
_LARGEST_MM = 400.0
_NAME = re.compile(r"\w[\w/.-]*")
_SMALLEST_MM2 = 0.1
_MOST_BYTES = 20_000_000


class AnatomyError(ValueError):
    """A file of outlines that cannot be used."""


class Outlines(NamedTuple):
    """What a file holds.

    Attributes:
        structures: in the file's order; one with a single section is kept.
        levels_mm: z of the middle of vertebral bodies, by name.
        discs_mm: z of the middle of discs, by name such as "C4/5".
        who: one line about the person and the image; empty if the file does not say.
    """

    structures: tuple[Structure, ...]
    levels_mm: dict[str, float]
    discs_mm: dict[str, float]
    who: str = ""


def read_outlines(path: Path, known: Sequence[str] = ()) -> Outlines:
    """Reads and checks a file of outlines, ``.json`` or ``.json.gz``.

    Args:
        path: of the file.
        known: names to tell of if there is no such file.

    Raises:
        AnatomyError: what is wrong with it.
    """
    content = _content(path, known)
    if content.get("units") != "mm":
        raise AnatomyError(f'{path}: "units" must be "mm", got {content.get("units")}')
    levels, discs = _heights(path, content)
    rows = content.get("structures")
    if not isinstance(rows, list) or not rows:
        raise AnatomyError(f'{path}: no "structures"; give a list of outlines')
    found = [_structure(path, row) for row in rows]
    names = [s.name for s in found]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise AnatomyError(f"{path}: {', '.join(twice)} twice; give each one once")
    who = " ".join(str(content.get("who", "")).split())
    return Outlines(tuple(found), levels, discs, who)


def _content(path: Path, known: Sequence[str]) -> dict[str, Any]:
    if not path.is_file():
        others = f", or one of {', '.join(known)}" if known else ""
        raise AnatomyError(f"{path}: no such anatomy; give a file of outlines{others}")
    try:
        opened = gzip.open(path) if path.name.endswith(".gz") else path.open("rb")
        with opened as file:
            text = file.read(_MOST_BYTES + 1)
        if len(text) > _MOST_BYTES:
            raise AnatomyError(f"{path}: more than {_MOST_BYTES // 10**6} MB of text")
        content = json.loads(text)
    except (OSError, EOFError, zlib.error) as error:
        raise AnatomyError(f"{path}: cannot be read ({error})") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, AnatomyError):
            raise
        raise AnatomyError(f"{path}: not a file of outlines ({error})") from error
    if not isinstance(content, dict):
        raise AnatomyError(f"{path}: not a file of outlines; see the format")
    return content


def _heights(
    path: Path, content: Mapping[str, Any]
) -> tuple[dict[str, float], dict[str, float]]:
    """Heights of bodies and discs; discs may stand among the levels as "disc_C4/5"."""
    levels: dict[str, float] = {}
    discs: dict[str, float] = {}
    for part in ("levels", "discs"):
        table = content.get(part, {})
        if not isinstance(table, dict):
            raise AnatomyError(f'{path}: "{part}" must map names to z in mm')
        for name, z in table.items():
            value = _number(z)
            if value is None or abs(value) > _LARGEST_MM:
                raise AnatomyError(f'{path}: "{part}": {name!r} must be mm, got {z!r}')
            is_disc = part == "discs" or name.startswith("disc_")
            (discs if is_disc else levels)[name.removeprefix("disc_")] = value
    if len(levels) < 2 or abs(levels.get("C5", np.inf)) > 1:
        raise AnatomyError(
            f'{path}: "levels" must give z of two bodies or more, and C5 must be 0, '
            f"which is the origin; got {levels}"
        )
    return levels, discs


def _number(value: Any) -> float | None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if good and abs(value) < 1e9 else None


def _structure(path: Path, row: Any) -> Structure:
    try:
        name, side = row["name"], row["side"]
        if not _NAME.fullmatch(name):
            raise ValueError("a name of letters, digits and _ / . -")
        sections = sorted(row["sections"], key=lambda s: s["z"])
        z = np.array([s["z"] for s in sections], np.float64)
        xy = np.array([s["contour"] for s in sections], np.float64)
        label, order, tissue = row.get("label", 0), float(row["order"]), row["tissue"]
        full = name + _SIDES[side]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        what = row.get("name", "?") if isinstance(row, dict) else "?"
        raise AnatomyError(
            f"{path}: {what!r}: needs name, side (R, L or M), tissue, order and "
            "sections with z and a contour of the same number of vertices each "
            f"({error!r})"
        ) from error
    if xy.ndim != 3 or xy.shape[1] < 3 or xy.shape[2] != 2 or not len(z):
        raise AnatomyError(f"{path}: {full}: contours must be x, y points, 3 or more")
    if not (np.isfinite(z).all() and np.isfinite(xy).all() and np.isfinite(order)):
        raise AnatomyError(f"{path}: {full}: a coordinate is not a number")
    if max(np.abs(z).max(), np.abs(xy).max()) > _LARGEST_MM:
        raise AnatomyError(f"{path}: {full}: beyond {_LARGEST_MM:g} mm; units are mm")
    if np.any(np.diff(z) <= 0):
        raise AnatomyError(f"{path}: {full}: two sections at one height")
    smallest = area_mm2(xy).min()
    if smallest < _SMALLEST_MM2:
        raise AnatomyError(f"{path}: {full}: a contour of {smallest:.2g} mm2 in area")
    _check_side(path, full, side, label, xy)
    return Structure(full, _tissue(path, full, tissue, label), label, order, z, xy)


def _check_side(path: Path, name: str, side: str, label: Any, xy: np.ndarray) -> None:
    """A muscle's label, its name, its side and where it lies must agree."""
    muscles = {m.abbreviation + _SIDES[m.side[0].upper()]: m.label for m in MUSCLES}
    expected = muscles.get(name.replace("_internal_septum", ""), 0)
    if label != expected or isinstance(label, bool):
        raise AnatomyError(f"{path}: {name} has label {label!r}, expected {expected}")
    x = xy[..., 0].mean()
    if (side == "R" and x < -2) or (side == "L" and x > 2):
        raise AnatomyError(
            f"{path}: {name} lies at x = {x:.0f} mm, on the other side; x grows to the "
            "person's right"
        )


def _tissue(path: Path, name: str, tissue: Any, label: int) -> str:
    """The tissue by the names of `tissues.TISSUES`."""
    if tissue == "muscle" and label:
        return str(label)
    by_name = {
        "airway": "air",
        "piriform_sinus": "air",
        "subcutaneous_fat_inner": "deep fat",
        "oral_floor": "tongue",
        "carotid": "artery",
        "vertebral_artery": "artery",
        "jugular_node": "node",
        "jugular": "vein",
        "thyroid_gland": "thyroid",
        "parotid": "parotid",
    }
    for start, own in by_name.items():
        if name.startswith(start):
            return own
    body, _, part = name.partition("_body")
    if part == "_marrow":
        return f"marrow {body}"
    if "internal_septum" in name:
        return "septum"
    if tissue == "vessel":
        return "artery"
    if not isinstance(tissue, str) or tissue not in TISSUES:
        raise AnatomyError(
            f"{path}: {name}: tissue {tissue!r} is none of {', '.join(TISSUES)}"
        )
    return tissue
