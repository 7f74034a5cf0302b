"""Divides participants into those trained on and those of the validation set."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from cervjax.data.cache import DataError
from cervjax.io.labels import LabelledScan


class Split(NamedTuple):
    """Scans to train on, and scans of other participants to validate on."""

    train: list[LabelledScan]
    validation: list[LabelledScan]


def split_participants(scans: Sequence[LabelledScan], num_validation: int) -> Split:
    """Divides the participants, each with all sessions.

    They are drawn in the order of a hash of their names: the same on every machine, and
    whoever is in the validation set stays there when others are added to it.

    Args:
        scans: all of them.
        num_validation: participants of the validation set; 0 for none.

    Returns:
        The scans of both parts, in the order given.

    Raises:
        DataError: nobody would be left to train on.
    """
    participants = _drawn_order(scans)
    if not 0 <= num_validation < len(participants):
        raise DataError(
            f"config.data.num_validation is {num_validation}, of {len(participants)} "
            f"participants ({len(scans)} scans; all scans of one stay together); "
            "give at least 0 and leave at least 1 to train on"
        )
    return _held_out(scans, participants[:num_validation])


def split_folds(scans: Sequence[LabelledScan], folds: int, fold: int) -> Split:
    """Divides the participants into folds, each with all sessions; one is held out.

    In the order of `split_participants`, they are dealt to the folds in turn: folds
    differ by one participant at most, and everybody is held out in one of them.

    Args:
        scans: all of them.
        folds: their number.
        fold: the one that validates, from 0.

    Raises:
        DataError: there are fewer participants than folds.
    """
    participants = _drawn_order(scans)
    if len(participants) < folds:
        raise DataError(
            f"config.data.folds is {folds}, of {len(participants)} participants "
            f"({len(scans)} scans; all scans of one stay together); give at most "
            f"{len(participants)}"
        )
    return _held_out(scans, participants[fold::folds])


def _drawn_order(scans: Sequence[LabelledScan]) -> list[str]:
    """The participants in the order of a hash of their names."""

    def rank(participant: str) -> bytes:
        return hashlib.sha256(participant.encode()).digest()

    return sorted({scan.participant for scan in scans}, key=rank)


def _held_out(scans: Sequence[LabelledScan], participants: Sequence[str]) -> Split:
    """All scans of these participants validate."""
    validation = set(participants)
    return Split(
        [scan for scan in scans if scan.participant not in validation],
        [scan for scan in scans if scan.participant in validation],
    )


def check_disjoint(split: Split) -> None:
    """Requires that nobody is trained on and validated on.

    Raises:
        DataError: names the participants.
    """
    shared = {s.participant for s in split.train} & {
        s.participant for s in split.validation
    }
    if shared:
        raise DataError(
            f"{', '.join(sorted(shared)[:5])} occur(s) in both data.root and "
            "data.validation_root; validation scans must be of other participants: "
            "take them away from one, or rename them if they are different people"
        )
