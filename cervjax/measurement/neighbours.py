"""Measurements in the columns of MuscleMap and of the Spinal Cord Toolbox (SCT).

Both report the mean of the voxels' own fat fractions, not the paper's MFI, so that is
the column they get; nothing is computed anew.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cervjax.about import __version__
from cervjax.anatomy import LEVEL_NUMBERS, MUSCLES
from cervjax.io.label_sets import MUSCLEMAP
from cervjax.io.tables import read_rows
from cervjax.measurement.composition import Rows

_VALUES = {label: value for value, label in MUSCLEMAP.muscles.items()}
_ANATOMY = {
    m.label: "semispinalis cervicis and multifidus"
    if m.abbreviation == "MFSS"
    else m.name
    for m in MUSCLES
}
_SLICES, _FAT, _VOLUME = "Slices with segmentation", "Fat (%)", "Volume (ml)"
MUSCLEMAP_COLUMNS = ("Label", "Anatomy", _SLICES, _FAT, _VOLUME)
"""Of ``mm_extract_metrics -m dixon``."""


def musclemap_rows(rows: Sequence[Mapping[str, Any]]) -> Rows:
    """Rows as MuscleMap's Dixon table has them: muscles that are there, by its values.

    Args:
        rows: of ``measurements.csv``, of one scan.
    """
    found = [
        {
            "Label": _VALUES[row["label"]],
            "Anatomy": f"{_ANATOMY[row['label']]} {row['side']}",
            _SLICES: row["slices"],
            _FAT: _rounded(row["fat_fraction_mean_percent"]),
            _VOLUME: _rounded(row["volume_ml"]),
        }
        for row in rows
        if row["voxels"]
    ]
    return sorted(found, key=lambda row: row["Label"])


def rows_of_musclemap(path: Path) -> Rows:
    """A Dixon table of MuscleMap in the columns of ``measurements.csv``.

    Muscles elsewhere in the body are left out. MFI is none of its columns.

    Raises:
        ValueError: another table, such as of thresholds, whose fat is a share of
            voxels; a cell that is no number; or no muscle of the neck.
        OSError: it cannot be read.
    """
    found: Rows = []
    optional = (_SLICES, "Anatomy")
    for line, row in read_rows(
        path, required=["Label", _FAT, _VOLUME], optional=optional
    ):
        muscle = MUSCLEMAP.muscles.get(int(_number(path, line, row, "Label")))
        if muscle is None:
            continue
        m = MUSCLES[muscle - 1]
        who = {"label": m.label, "muscle": m.abbreviation, "side": m.side}
        volume_ml, fat = (_number(path, line, row, name) for name in (_VOLUME, _FAT))
        measures = {"volume_ml": volume_ml, "fat_fraction_mean_percent": fat}
        if row.get(_SLICES):
            measures["slices"] = int(_number(path, line, row, _SLICES))
        found.append(who | measures)
    if not found:
        raise ValueError(
            f"{path}: none of its labels is a muscle of the paper; MuscleMap's are "
            f"{', '.join(map(str, sorted(MUSCLEMAP.muscles)))}"
        )
    return sorted(found, key=lambda row: row["label"])


def sct_slices(name: str, rows: Sequence[Mapping[str, Any]], when: str) -> Rows:
    """Rows per muscle and slice as SCT's ``-perslice 1`` has them.

    Args:
        name: of the mask's file.
        rows: of ``measurements_slices.csv``, of one scan.
        when: time of the measurement.
    """
    return [
        _sct(name, row, when, row["slice"])
        | {"MEAN(area)": row["area_mm2"], "STD(area)": 0}
        for row in rows
    ]


def sct_levels(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    slices: Sequence[Mapping[str, Any]],
    when: str,
) -> Rows:
    """Rows per muscle and vertebral level as SCT's ``-perlevel 1`` has them.

    Args:
        name: of the mask's file.
        rows: of ``measurements_levels.csv``, of one scan.
        slices: of ``measurements_slices.csv``, of the same scan.
        when: time of the measurement.
    """
    found = []
    for row in rows:
        own = [
            s
            for s in slices
            if (s["label"], s["level"]) == (row["label"], row["level"])
        ]
        areas = [s["area_mm2"] for s in own]
        mean = sum(areas) / max(len(areas), 1)
        spread = (sum((a - mean) ** 2 for a in areas) / max(len(areas), 1)) ** 0.5
        places = _span(sorted(s["slice"] for s in own))
        area = {"MEAN(area)": row["area_mean_mm2"], "STD(area)": spread}
        found.append(_sct(name, row, when, places) | area)
    return found


def _sct(name: str, row: Mapping[str, Any], when: str, places: Any) -> dict[str, Any]:
    """What SCT's tables have in common; its levels are numbered as here."""
    return {
        "Timestamp": when,
        "SCT Version": f"cervjax {__version__}",
        "Filename": name,
        "Slice (I->S)": places,
        "VertLevel": LEVEL_NUMBERS.get(row.get("level") or ""),
        "Label": f"{MUSCLES[row['label'] - 1].name} {row['side']}",
        "Size [vox]": row["voxels"],
        "WA()": row["fat_fraction_mean_percent"],
    }


def _span(slices: list[int]) -> str:
    """As SCT writes them: "3:7", or "3;5;6" where some are missing."""
    if len(slices) > 1 and slices[-1] - slices[0] == len(slices) - 1:
        return f"{slices[0]}:{slices[-1]}"
    return ";".join(map(str, slices))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _number(path: Path, line: int, row: Mapping[str, str], name: str) -> float:
    try:
        return float(row[name] or "nan") if name != "Label" else int(row[name])
    except ValueError:
        raise ValueError(
            f"{path}, line {line}: {name} must be a number, got {row[name]!r}; correct "
            "it, or write the table again"
        ) from None
