"""Is it a neck that a network knows?"""

import numpy as np
import pytest

from cervjax.anatomy import MUSCLES
from cervjax.inference.levels import LEVEL_NUMBERS, SliceLevels
from cervjax.inference.verdict import judge, verdict_warnings

SPACING_MM = (2.0, 2.0, 3.0)
# Places as in a neck: distance from the midline, and forwards, in voxels.
PLACES = {
    "MFSS": (4, 12),
    "LC": (4, 34),
    "SPCap": (10, 8),
    "SSCap": (7, 10),
    "SCM": (18, 32),
    "TR": (12, 4),
    "LS": (15, 18),
}


def neck(left_out=()):
    labels = np.zeros((44, 40, 10), np.uint8)
    for m in MUSCLES:
        if m.key not in left_out:
            lateral, y = PLACES[m.abbreviation]
            x = 22 + lateral if m.side == "right" else 21 - lateral
            labels[x - 1 : x + 2, y : y + 3, 1:9] = m.label
    return labels


def levels(names=("C3", "C4", "C5", "C6", "C7"), confidence=0.9):
    number = np.repeat([LEVEL_NUMBERS[n] for n in reversed(names)], 2).astype(np.uint8)
    return SliceLevels(number, np.full(len(number), confidence, np.float32))


def verdict(labels, *, found=None, confidence=0.9):
    sure = np.full(labels.shape, confidence, np.float32)
    return judge(labels, sure, found or levels(), SPACING_MM)


def test_a_neck_is_known():
    known = verdict(neck())
    assert known.familiarity == "known" and not known.reasons
    assert not verdict_warnings(known)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"labels": neck(["TR_L"])}, "not found: TR_L"),
        ({"found": levels(("C3", "C4", "C5"))}, "not surely found: C6"),
        ({"found": levels(confidence=0.3)}, "no vertebral level"),
        ({"confidence": 0.4}, "unsure"),
        ({"labels": neck([m.key for m in MUSCLES[:8]])}, "6 of 14"),
        ({"labels": neck()[::-1]}, "% of muscles' places"),
        ({"labels": neck()[:, ::-1]}, "% of muscles' places"),
        ({"labels": np.zeros((8, 8, 4), np.uint8)}, "0 of 14"),
    ],
)
def test_what_is_wrong_is_said(changed, reason):
    found = verdict(changed.pop("labels", neck()), **changed)
    assert found.familiarity != "known" and reason in "; ".join(found.reasons)
    (warning,) = verdict_warnings(found)
    assert reason in warning


@pytest.mark.parametrize("turn", [np.s_[:, ::-1], np.s_[::-1]])
def test_upside_down_or_mirrored_is_a_stranger(turn):
    """A wrong header: front and back, or left and right, exchanged."""
    found = verdict(neck()[turn])
    assert found.familiarity == "stranger"


def test_muscles_anywhere_are_a_stranger():
    rng = np.random.default_rng(0)
    labels = np.zeros((44, 40, 10), np.uint8)
    for label in rng.permutation(14) + 1:
        x, y = rng.integers(2, 36, 2)
        labels[x : x + 4, y : y + 4] = label
    assert verdict(labels).familiarity == "stranger"
