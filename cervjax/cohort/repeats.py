"""By how much measurements differ that were repeated while nothing changed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cervjax.cohort.assembly import assemble, participant_of
from cervjax.cohort.inputs import Measurement, Participant, read_measurements

_FEWEST = 3


class Repeats(NamedTuple):
    """Differences between two sessions of the same, unchanged participants.

    Attributes:
        n: how many participants.
        sd: of the differences, in the outcome's units.
    """

    n: int
    sd: float


def read_repeats(
    path: Path, *, mfi_column: str, all_rows: bool = False
) -> dict[str, Mapping[str, Repeats]]:
    """`repeats` of a table as `inputs.read_measurements` reads it.

    Raises:
        ValueError: naming the file: as there, and as `repeats`.
    """
    try:
        rows = read_measurements(path, mfi_column=mfi_column, all_rows=all_rows)
        return repeats(rows)
    except ValueError as error:
        name = "" if str(path) in str(error) else f"{path}: "
        raise ValueError(f"{name}{error}") from error


def repeats(measurements: Sequence[Measurement]) -> dict[str, Mapping[str, Repeats]]:
    """Per outcome (mfi, volume) and muscle: sides averaged, second session less first.

    Raises:
        ValueError: there are not two sessions, fewer than 3 participants have both, or
            nothing varies.
    """
    names = dict.fromkeys(participant_of(m.scan) for m in measurements)
    cohort = assemble(measurements, [Participant(n, "", np.nan, np.nan) for n in names])
    if len(cohort.sessions) != 2:
        raise ValueError(
            "repeated scans need two sessions of each participant, named _ses-1 and "
            "_ses-2; there is one"
        )
    found: dict[str, Mapping[str, Repeats]] = {}
    for key, (first, second) in (("mfi", cohort.mfi), ("volume", cohort.volume)):
        found[key] = {
            muscle: _repeats(muscle, second[:, k] - first[:, k])
            for k, muscle in enumerate(cohort.muscles)
        }
    return found


def _repeats(muscle: str, difference: np.ndarray) -> Repeats:
    difference = difference[np.isfinite(difference)]
    if difference.size < _FEWEST:
        raise ValueError(
            f"{muscle}: repeated scans of {_FEWEST} participants are needed, got "
            f"{difference.size}"
        )
    sd = float(difference.std(ddof=1))
    if sd == 0:
        raise ValueError(f"{muscle}: the repeated scans are the same; are they copies?")
    return Repeats(difference.size, sd)
