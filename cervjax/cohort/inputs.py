"""The two tables a cohort is made of: measurements and participants.

Every error names the file, the line, what was found and what to do.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from cervjax.anatomy import MUSCLES
from cervjax.io.tables import read_rows

_IDENTITY = {str(m.label): (m.abbreviation, m.side) for m in MUSCLES}
_SEX = {"f": "F", "female": "F", "m": "M", "male": "M"}
_MISSING = {"", "n/a", "na", "nan"}
_AGE_YEARS, _BMI, _HEIGHT_M, _WEIGHT_KG = (0, 120), (8, 100), (0.5, 2.6), (10, 400)


class Measurement(NamedTuple):
    """One muscle of one scan; NaN where there is no value.

    Attributes:
        scan: name of the scan, such as ``sub-0001_ses-1``.
        muscle: abbreviation, without the side.
        side: left or right.
        mfi: fat infiltration in percent.
        volume: in millilitres; 0 says that the muscle was not found.
        usable: the verdict on it is not "do_not_use".
    """

    scan: str
    muscle: str
    side: str
    mfi: float
    volume: float
    usable: bool = True


class Participant(NamedTuple):
    """One participant; "" or NaN where the table says that a value is missing."""

    name: str
    sex: str
    age_years: float
    bmi: float


def read_measurements(
    path: Path, *, mfi_column: str = "mfi_percent", all_rows: bool = False
) -> list[Measurement]:
    """Reads the table that ``cervjax infer`` or ``cervjax phantom`` writes.

    Args:
        path: CSV with the columns scan, label, muscle, side, volume_ml and the MFI.
        mfi_column: which column holds the MFI, in percent.
        all_rows: takes rows whose verdict is "do_not_use" for usable.

    Raises:
        ValueError: a column is missing, a row is there twice, a label is not that of
            its muscle and side, or a cell is not a number.
    """
    columns = ["scan", "label", "muscle", "side", "volume_ml", mfi_column]
    found, seen = [], {}
    for line, row in read_rows(path, required=columns, optional=["verdict"]):
        scan, muscle, side = row["scan"], row["muscle"], row["side"]
        where = f"{path}, line {line} ({scan}, {muscle} {side})"
        if not scan:
            raise ValueError(f"{path}, line {line}: no scan is named; remove the row")
        if _IDENTITY.get(row["label"]) != (muscle, side):
            raise ValueError(
                f"{where}: label {row['label']!r} is not that of this muscle and side "
                "(the paper's: even is left, odd is right; MuscleMap counts the other "
                "way round); give a table written by cervjax"
            )
        if (scan, muscle, side) in seen:
            raise ValueError(
                f"{where}: the same scan and muscle are in line "
                f"{seen[scan, muscle, side]} already; keep one of the two rows"
            )
        seen[scan, muscle, side] = line
        usable = all_rows or row.get("verdict") != "do_not_use"
        limits = (-100, 200) if usable else (-math.inf, math.inf)
        volume = _number(row["volume_ml"], "volume_ml", where, (0, math.inf))
        mfi = _number(row[mfi_column], mfi_column, where, limits)
        found.append(Measurement(scan, muscle, side, mfi, volume, usable))
    if not found:
        raise ValueError(f"{path} has no rows; run cervjax infer first")
    return found


def read_participants(path: Path) -> list[Participant]:
    """Reads a BIDS ``participants.tsv``: participant_id, sex, age and bmi.

    Where there is no BMI it is worked out of height (m, or cm if above 3) and weight
    (kg), if the table has them. Missing values are ``n/a`` or empty.

    Args:
        path: tab-separated table with one row per participant.

    Raises:
        ValueError: a column is missing, a participant is there twice, a sex is not one
            of M, F, male and female, or a number is out of range.
    """
    found, lines = [], {}
    for line, row in read_rows(
        path,
        required=["participant_id", "sex", "age"],
        optional=["bmi", "height_m", "height", "weight_kg", "weight"],
        delimiter="\t",
    ):
        name = row["participant_id"]
        where = f"{path}, line {line} ({name})"
        if not name:
            raise ValueError(f"{path}, line {line}: no participant_id; give one")
        if name in lines:
            raise ValueError(
                f"{where}: the participant is in line {lines[name]} already; keep one "
                "of the two rows"
            )
        lines[name] = line
        sex = row["sex"].casefold()
        if sex not in _SEX and sex not in _MISSING:
            raise ValueError(
                f"{where}: sex must be M, F, male or female, got {row['sex']!r}; "
                "correct the row, or write n/a to leave the participant out of the "
                "models"
            )
        age = _number(row["age"], "age", where, _AGE_YEARS)
        found.append(Participant(name, _SEX.get(sex, ""), age, _bmi(row, path, where)))
    if not found:
        raise ValueError(f"{path} has no rows; give one per participant")
    return found


def _bmi(row: Mapping[str, str], path: Path, where: str) -> float:
    height_column = next((c for c in ("height_m", "height") if c in row), "")
    weight_column = next((c for c in ("weight_kg", "weight") if c in row), "")
    if "bmi" not in row and not (height_column and weight_column):
        raise ValueError(
            f"{path} has neither a column bmi nor height and weight, but "
            f"{', '.join(row)}; add bmi in kg/m2"
        )
    bmi = _number(row.get("bmi", ""), "bmi", where, _BMI)
    if not math.isnan(bmi) or not (height_column and weight_column):
        return bmi
    height = _number(row[height_column], height_column, where, (0, 300))
    height = height / 100 if height > 3 else height
    low, high = _HEIGHT_M
    if not math.isnan(height) and not low <= height <= high:
        raise ValueError(
            f"{where}: {height_column} must be {low}-{high} m (or that in cm), got "
            f"{row[height_column]!r}; correct the row, or write n/a"
        )
    weight = _number(row[weight_column], weight_column, where, _WEIGHT_KG)
    bmi, (low, high) = weight / height**2, _BMI
    if bmi < low or bmi > high:
        raise ValueError(
            f"{where}: {row[height_column]} and {row[weight_column]} make a BMI of "
            f"{bmi:.0f} kg/m2, which must be {low}-{high}; {height_column} is in m or "
            f"cm and {weight_column} in kg (inches and pounds?): convert them, or "
            "write n/a"
        )
    return bmi


def _number(text: str, name: str, where: str, limits: tuple[float, float]) -> float:
    """A finite number within limits, or NaN for a missing one."""
    if text.casefold() in _MISSING:
        return math.nan
    low, high = limits
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if not (math.isfinite(value) and low <= value <= high):
        span = f"from {low:g} to {high:g}" if math.isfinite(high) else f">= {low:g}"
        raise ValueError(
            f"{where}: {name} must be a number {span}, got {text!r}; correct the row, "
            "or write n/a"
        )
    return value
