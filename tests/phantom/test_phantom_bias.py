"""What T2* and the peaks of fat add to two-point MFI."""

import numpy as np
import pytest

from cervjax.phantom.bias import mfi_bias, two_point_percent
from cervjax.phantom.signal import Sequence, fat_weights, mfi_percent, water_weights

LATE = Sequence()  # the paper's: out of phase after in phase
EARLY = Sequence(te_in_ms=2.3, te_out_ms=1.15)


def test_without_decay_and_peaks_two_points_are_exact():
    for fraction in (0.0, 0.1, 0.4):
        exact = two_point_percent(fraction, LATE, decay=False, peaks=False)
        assert exact == pytest.approx(100 * fraction)
    folded = two_point_percent(0.7, LATE, decay=False, peaks=False)
    assert folded == pytest.approx(30)


@pytest.mark.parametrize("sequence", [LATE, EARLY])
def test_the_phantoms_echoes_give_the_same(sequence):
    """Its signal equations, T1 divided out: an independent way to the two echoes."""
    long = sequence._replace(tr_ms=1e7, flip_deg=90)  # full recovery: no T1
    water, fat = water_weights(long)[1], fat_weights(long)
    for fraction in (0.05, 0.2, 0.4):
        echoes = np.abs((1 - fraction) * water + fraction * fat)
        expected = mfi_percent(echoes[:1], echoes[1:])
        assert two_point_percent(fraction, sequence) == pytest.approx(expected)


def test_a_late_out_of_phase_echo_makes_muscle_fatter():
    """And an early one leaner: it has decayed less."""
    late, early = mfi_bias(12, LATE), mfi_bias(8, EARLY)
    assert 0.5 < late.t2star < 5 and -5 < early.t2star < -0.5
    # The paper's echoes are 7 % and 20 % of a turn off: little of fat opposes water.
    assert -8 < late.peaks < early.peaks < 0


def test_the_bias_is_that_of_the_fraction_that_gives_the_measured_mfi():
    fraction = 0.15
    measured = two_point_percent(fraction, LATE)
    bias = mfi_bias(measured, LATE)
    alone = two_point_percent(fraction, LATE, peaks=False) - 15
    assert bias.t2star == pytest.approx(alone)
    alone = two_point_percent(fraction, LATE, decay=False) - 15
    assert bias.peaks == pytest.approx(alone)


@pytest.mark.parametrize(
    ("mfi", "sequence"),
    [(np.nan, LATE), (-3, LATE), (60, LATE), (12, LATE._replace(field_t=1.5))],
)
def test_what_cannot_be_told_is_nan(mfi, sequence):
    assert np.isnan(mfi_bias(mfi, sequence)).all()
