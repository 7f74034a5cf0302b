"""One cohort out of two tables: who is in it, and who is left out and why."""

import re
from collections.abc import Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from cervjax.anatomy import MUSCLES
from cervjax.cohort.inputs import Measurement, Participant

MUSCLE_NAMES = tuple(dict.fromkeys(m.abbreviation for m in MUSCLES))
"""The paper's 7 muscles, in order of their labels."""
_SCAN = re.compile(r"(?P<who>sub-[^_]+)(?:_ses-(?P<session>[^_]+))?(?:_.+)?")
_SIDES = ("left", "right")


class Exclusion(NamedTuple):
    """What is left out. An empty field means all: every muscle, every session."""

    participant_id: str
    session: str
    muscle: str
    left_out_of: str
    reason: str


class Cohort(NamedTuple):
    """Participants, their covariates and their muscles.

    Attributes:
        names: ``(n,)`` participants with at least one scan, sorted.
        sessions: labels; one, or first and second. "" where scans name none.
        female: ``(n,)`` 1 for women, 0 for men, NaN where it is not known.
        age_years: ``(n,)``, NaN where missing.
        bmi: ``(n,)`` in kg/m2, NaN where missing.
        muscles: abbreviations of the muscles that anybody has.
        mfi: ``(session, n, muscle)`` in percent, mean of both sides, NaN if missing.
        volume: the same in millilitres.
        exclusions: what is left out.
    """

    names: tuple[str, ...]
    sessions: tuple[str, ...]
    female: np.ndarray
    age_years: np.ndarray
    bmi: np.ndarray
    muscles: tuple[str, ...]
    mfi: np.ndarray
    volume: np.ndarray
    exclusions: list[Exclusion]


def assemble(
    measurements: Sequence[Measurement],
    participants: Sequence[Participant],
    *,
    sessions: Sequence[str] = (),
) -> Cohort:
    """Brings measurements and participants together.

    A muscle counts where both sides have a volume above 0, an MFI, and are usable.

    Args:
        measurements: rows of the measurements.
        participants: rows of the participants.
        sessions: one or two session labels, first the earlier; by default all there
            are, if these are one, or two numbers.

    Raises:
        ValueError: no scan is of a participant, two scans are of the same session, or
            it is not clear which session comes first.
    """
    scans = {s: _split(s) for s in dict.fromkeys(m.scan for m in measurements)}
    known = {p.name: p for p in participants}
    _check_scans(scans, known)
    used = _sessions({session for _, session in scans.values()}, tuple(sessions))
    present = sorted(
        {w for w, session in scans.values() if w in known and session in used}
    )
    excluded = _without_partner(scans, known, used, present)
    values, missing = _values(measurements, scans, used, present)
    kept = np.isfinite(values[0, 0]).any(0)
    absent = [str(muscle) for muscle in np.array(MUSCLE_NAMES)[~kept]]
    excluded += [e for e in missing if e.muscle not in absent]
    excluded += [
        Exclusion("", "", muscle, "everything", "muscle that nobody has")
        for muscle in absent
    ]
    who = [known[name] for name in present]
    excluded += [
        Exclusion(p.name, "", "", "models with covariates", f"missing {lacking}")
        for p in who
        if (lacking := _lacking(p))
    ]
    return Cohort(
        tuple(present),
        used,
        np.array([{"F": 1.0, "M": 0.0}.get(p.sex, np.nan) for p in who]),
        np.array([p.age_years for p in who]),
        np.array([p.bmi for p in who]),
        tuple(m for m, keep in zip(MUSCLE_NAMES, kept, strict=True) if keep),
        values[0][..., kept],
        values[1][..., kept],
        excluded,
    )


def _without_partner(
    scans: Mapping[str, tuple[str, str]],
    known: Mapping[str, Participant],
    used: Sequence[str],
    present: Sequence[str],
) -> list[Exclusion]:
    """Scans without a participant or of other sessions, participants without a scan."""
    excluded = []
    for who, session in scans.values():
        if who not in known or session not in used:
            reason = "session not asked for"
            reason = reason if who in known else "scan without a participant"
            excluded.append(Exclusion(who, session, "", "everything", reason))
    return excluded + [
        Exclusion(name, "", "", "everything", "participant without a scan")
        for name in known
        if name not in present
    ]


def _values(
    measurements: Sequence[Measurement],
    scans: Mapping[str, tuple[str, str]],
    used: Sequence[str],
    present: Sequence[str],
) -> tuple[Float[np.ndarray, "2 session n muscle"], list[Exclusion]]:
    """MFI and volume, means of both sides, and which of them are missing and why."""
    cells = {(m.scan, m.muscle, m.side): m for m in measurements}
    scan_of = {place: scan for scan, place in scans.items()}
    values = np.full((2, len(used), len(present), len(MUSCLE_NAMES)), np.nan)
    missing = []
    for (i, session), (j, who) in product(enumerate(used), enumerate(present)):
        scan = scan_of.get((who, session))
        if scan is None:
            missing.append(_no_session(who, session, first=i == 0))
            continue
        for k, muscle in enumerate(MUSCLE_NAMES):
            sides = [cells.get((scan, muscle, side)) for side in _SIDES]
            there = [m for m in sides if m is not None and _has(m) and m.usable]
            if len(there) == len(_SIDES):
                values[:, i, j, k] = np.mean([(m.mfi, m.volume) for m in there], 0)
                continue
            reason = _why_lacking([m for m in sides if m not in there], sides)
            of = "this muscle; models of all muscles"
            missing.append(Exclusion(who, session, muscle, of, reason))
    return values, missing


def modelled(cohort: Cohort, muscle: int | None = None) -> np.ndarray:
    """``(n,)`` who has sex, age, BMI and the muscle (by default: all muscles)."""
    values = cohort.mfi[0] if muscle is None else cohort.mfi[0][:, [muscle]]
    covariates = cohort.female + cohort.age_years + cohort.bmi
    return np.isfinite(covariates) & np.isfinite(values).all(1)


def participant_of(scan: str) -> str:
    """Whose scan it is, told from its name."""
    return _split(scan)[0]


def _split(scan: str) -> tuple[str, str]:
    """Participant and session of a BIDS name; another name is a participant's own."""
    match = _SCAN.fullmatch(scan)
    return (match["who"], match["session"] or "") if match else (scan, "")


def _check_scans(
    scans: Mapping[str, tuple[str, str]], known: Mapping[str, Participant]
) -> None:
    first = {}
    for scan, place in scans.items():
        if place in first:
            raise ValueError(
                f"{first[place]} and {scan} are scans of the same participant and "
                "session; remove one of them from the measurements"
            )
        first[place] = scan
    if not any(who in known for who, _ in scans.values()):
        raise ValueError(
            "no scan is of a participant: the measurements have scans such as "
            f"{next(iter(scans))}, the participants are such as {next(iter(known))}; "
            "a scan is called as its participant_id, with _ses-LABEL where there are "
            "sessions"
        )


def _sessions(found: set[str], asked: tuple[str, ...]) -> tuple[str, ...]:
    shown = ", ".join(sorted(s or "(none)" for s in found))
    if asked:
        asked = tuple(s.removeprefix("ses-") for s in asked)
        if not set(asked) <= found or len(set(asked)) != len(asked) or len(asked) > 2:
            raise ValueError(
                f"--sessions must be one or two different labels of {shown}, got "
                f"{', '.join(asked)}"
            )
        return asked
    if len(found) == 1:
        return tuple(found)
    if len(found) != 2 or not all(s.isdecimal() for s in found):
        raise ValueError(
            f"the scans have the sessions {shown}; say which to use, the earlier "
            "first: --sessions FIRST SECOND"
        )
    return tuple(sorted(found, key=int))


def _no_session(who: str, session: str, *, first: bool) -> Exclusion:
    of = "all but change; change" if first else "change"
    return Exclusion(who, session, "", of, "no scan at this session")


def _why_lacking(
    lacking: Sequence[Measurement | None], sides: Sequence[Measurement | None]
) -> str:
    """Why a muscle does not count: "muscle missing: left"; "verdict do_not_use: ...".

    Args:
        lacking: those of the sides that do not count.
        sides: left and right.
    """
    where = zip(_SIDES, sides, strict=True)
    named = " and ".join(s for s, m in where if m in lacking)
    unusable = any(m is not None and _has(m) and not m.usable for m in lacking)
    return f"{'verdict do_not_use' if unusable else 'muscle missing'}: {named}"


def _has(measurement: Measurement) -> bool:
    return measurement.volume > 0 and bool(np.isfinite(measurement.mfi))


def _lacking(participant: Participant) -> str:
    values = {
        "sex": participant.sex != "",
        "age": np.isfinite(participant.age_years),
        "BMI": np.isfinite(participant.bmi),
    }
    return " and ".join(name for name, there in values.items() if not there)
