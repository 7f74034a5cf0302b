"""One cohort out of two tables: who is in it, and who is left out and why."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cervjax.anatomy import MUSCLES
from cervjax.cohort.inputs import Measurement, Person

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
    """People, their covariates and their muscles.

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
    people: Sequence[Person],
    *,
    sessions: Sequence[str] = (),
) -> Cohort:
    """Brings measurements and people together.

    A muscle counts where both sides have a volume above 0 and an MFI.

    Args:
        measurements: rows of the measurements.
        people: rows of the participants.
        sessions: one or two session labels, first the earlier; by default all there
            are, if these are one, or two numbers.

    Raises:
        ValueError: no scan is of a participant, two scans are of the same session, or
            it is not clear which session comes first.
    """
    scans = {s: _split(s) for s in dict.fromkeys(m.scan for m in measurements)}
    known = {p.name: p for p in people}
    _check_scans(scans, known)
    used = _sessions({session for _, session in scans.values()}, tuple(sessions))
    out = []
    for who, session in scans.values():
        if who not in known:
            out.append(
                Exclusion(who, session, "", "everything", "scan without a participant")
            )
        elif session not in used:
            out.append(
                Exclusion(who, session, "", "everything", "session not asked for")
            )
    index = {place: scan for scan, place in scans.items()}
    present = sorted(
        {w for w, session in scans.values() if w in known and session in used}
    )
    for person in people:
        if person.name not in present:
            out.append(
                Exclusion(
                    person.name, "", "", "everything", "participant without a scan"
                )
            )
    cells = {(m.scan, m.muscle, m.side): m for m in measurements}
    shape = (2, len(used), len(present), len(MUSCLE_NAMES))
    values = np.full(shape, np.nan)
    for i, session in enumerate(used):
        for j, who in enumerate(present):
            scan = index.get((who, session))
            if scan is None:
                out.append(_no_session(who, session, first=i == 0))
                continue
            for k, muscle in enumerate(MUSCLE_NAMES):
                sides = [cells.get((scan, muscle, side)) for side in _SIDES]
                lacking = [s for s, m in zip(_SIDES, sides, strict=True) if not _has(m)]
                if lacking:
                    reason = f"muscle missing: {' and '.join(lacking)}"
                    out.append(
                        Exclusion(
                            who,
                            session,
                            muscle,
                            "this muscle; models of all muscles",
                            reason,
                        )
                    )
                    continue
                values[:, i, j, k] = np.mean([(m.mfi, m.volume) for m in sides if m], 0)
    kept = np.isfinite(values[0, 0]).any(0)
    for muscle in np.array(MUSCLE_NAMES)[~kept]:
        out = [e for e in out if e.muscle != muscle]
        out.append(
            Exclusion("", "", str(muscle), "everything", "muscle that nobody has")
        )
    for person in (known[name] for name in present):
        lacking = _lacking(person)
        if lacking:
            out.append(
                Exclusion(
                    person.name, "", "", "models with covariates", f"missing {lacking}"
                )
            )
    who = [known[name] for name in present]
    return Cohort(
        tuple(present),
        used,
        np.array([{"F": 1.0, "M": 0.0}.get(p.sex, np.nan) for p in who]),
        np.array([p.age_years for p in who]),
        np.array([p.bmi for p in who]),
        tuple(m for m, keep in zip(MUSCLE_NAMES, kept, strict=True) if keep),
        values[0][..., kept],
        values[1][..., kept],
        out,
    )


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


def _check_scans(scans: dict[str, tuple[str, str]], known: dict[str, Person]) -> None:
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


def _has(measurement: Measurement | None) -> bool:
    return (
        measurement is not None
        and measurement.volume > 0
        and np.isfinite(measurement.mfi)
    )


def _lacking(person: Person) -> str:
    values = {
        "sex": person.sex != "",
        "age": np.isfinite(person.age_years),
        "BMI": np.isfinite(person.bmi),
    }
    return " and ".join(name for name, there in values.items() if not there)
