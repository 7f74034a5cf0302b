"""How far two-point MFI is off for what the method leaves out: T2*, and fat's peaks.

The method takes fat for one line that opposes water exactly, and signals for undecayed.
What two echoes make of a fat fraction is a closed form (see `signal`); it is inverted
for the fraction that gives the measured MFI, and told for each of the two causes alone.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq

from cervjax.phantom.signal import Sequence, fat_phasor
from cervjax.phantom.tissues import FAT_T2STAR_MS, column

FIELD_T = (2.5, 3.5)
"""T2* is known for 3 T only."""
_MUSCLE_T2STAR_MS = float(column("t2star_ms")[1])
_HIGHEST = 0.45
"""Fat fraction up to which two-point MFI grows with it."""


class Bias(NamedTuple):
    """In points of MFI, at the measured MFI; NaN where it cannot be told.

    Attributes:
        t2star: from the decay between the echoes alone.
        peaks: from the peaks of fat alone, and from echoes that are not quite in phase
            and out of phase.
    """

    t2star: float
    peaks: float


def mfi_bias(mfi_percent: float, sequence: Sequence) -> Bias:
    """What T2* and the peaks of fat add to a measured MFI.

    Args:
        mfi_percent: measured, by ``(IP - OOP) / 2`` and ``(IP + OOP) / 2``.
        sequence: its echo times and field.
    """
    unknown = Bias(np.nan, np.nan)
    if not FIELD_T[0] <= sequence.field_t <= FIELD_T[1]:
        return unknown

    def excess(fraction: float) -> float:
        return two_point_percent(fraction, sequence) - mfi_percent

    low, high = excess(0.0), excess(_HIGHEST)
    if not low <= 0 <= high:
        return unknown
    fraction = float(brentq(excess, 0.0, _HIGHEST))
    t2star = two_point_percent(fraction, sequence, peaks=False) - 100 * fraction
    peaks = two_point_percent(fraction, sequence, decay=False) - 100 * fraction
    return Bias(t2star, peaks)


def two_point_percent(
    fraction: float, sequence: Sequence, *, decay: bool = True, peaks: bool = True
) -> float:
    """The MFI that two magnitude echoes give of a fat fraction, without T1.

    Args:
        fraction: of the signal at TE = 0, 0-1.
        sequence: echo times and field.
        decay: with T2* of muscle and of fat.
        peaks: with the peaks of fat; else one line in phase and out of phase exactly.
    """
    te = sequence.te_ms
    phase = fat_phasor(te, sequence) if peaks else np.array([1.0, -1.0])
    water = np.exp(-te / _MUSCLE_T2STAR_MS) if decay else np.ones(2)
    fat = np.exp(-te / FAT_T2STAR_MS) if decay else np.ones(2)
    in_phase, out_phase = np.abs((1 - fraction) * water + fraction * fat * phase)
    return float(50 * (in_phase - out_phase) / in_phase)
