"""Nobody is trained on and validated on."""

from pathlib import Path

import pytest

from cervjax.data.cache import DataError
from cervjax.data.split import (
    Split,
    check_disjoint,
    split_folds,
    split_participants,
)
from cervjax.io.labels import LabelledScan
from cervjax.io.scans import Scan


def people(*sessions: int) -> list[LabelledScan]:
    """Scans of as many participants, in an order that mixes them."""
    scans = [
        LabelledScan(Scan(f"sub-{i}_ses-{s}"), Path(), f"sub-{i}")
        for i, number in enumerate(sessions)
        for s in range(number)
    ]
    return scans[::2] + scans[1::2]


def test_split_keeps_sessions_together():
    scans = people(2, 1, 3, 2, 1, 2, 2, 2)
    for number in range(8):
        train, validation = split_participants(scans, number)
        assert len(train + validation) == len(scans)
        assert {*train, *validation} == {*scans}
        assert len({s.participant for s in validation}) == number
        assert not {s.participant for s in train} & {s.participant for s in validation}
        assert train == [s for s in scans if s in train]


def test_the_validation_set_stays_when_participants_are_added():
    """Whatever the order of the scans."""
    scans = people(*[1] * 30)
    few = {s.participant for s in split_participants(scans, 5).validation}
    many = {s.participant for s in split_participants(scans[::-1], 10).validation}
    assert few < many


def test_everybody_is_held_out_in_one_fold():
    """With all sessions, in folds of nearly one size, whatever the order."""
    scans = people(2, 1, 3, 2, 1, 2, 2, 2, 1, 1, 4)
    held = []
    for fold in range(4):
        split = split_folds(scans, 4, fold)
        assert split_folds(scans[::-1], 4, fold).validation == split.validation[::-1]
        assert {*split.train, *split.validation} == {*scans}
        check_disjoint(split)
        people_held = {s.participant for s in split.validation}
        assert len(people_held) in (2, 3)
        held += people_held
    assert sorted(held) == sorted({s.participant for s in scans})


def test_folds_need_as_many_people():
    with pytest.raises(DataError, match="folds is 4, of 3 participants .*at most 3"):
        split_folds(people(2, 2, 2), 4, 0)


@pytest.mark.parametrize("number", [4, 5, -1])
def test_split_needs_enough_participants(number):
    with pytest.raises(DataError, match=r"of 4 participants \(8 scans"):
        split_participants(people(2, 2, 2, 2), number)


def test_participants_of_both_folders_are_refused():
    scans = people(2, 1, 1)
    check_disjoint(Split(scans[:1], people(1, 1, 1)[1:2]))
    with pytest.raises(DataError, match=r"sub-0 occur\(s\) in both data.root and"):
        check_disjoint(Split(scans, people(1)))
