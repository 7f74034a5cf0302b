"""What a Dixon sequence measures of water and fat: closed forms.

A spoiled gradient echo of one proton species is its density times
``sin(a) (1 - E1) / (1 - cos(a) E1)``, ``E1 = exp(-TR/T1)``, times ``exp(-TE/T2*)``.
Fat is a sum of peaks (Hamilton et al. 2011, liver triglycerides at 3 T): at no echo
time do all of them oppose water.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from cervjax.phantom.tissues import FAT_T1_MS, FAT_T2STAR_MS, TISSUES, column

_FAT_SHIFT_PPM = np.array([-3.80, -3.40, -2.60, -1.94, -0.39, 0.60])
_FAT_AMPLITUDE = np.array([0.087, 0.693, 0.128, 0.004, 0.039, 0.049])
GYROMAGNETIC_RATIO_MHZ_PER_T = 42.577


class Sequence(NamedTuple):
    """A two-point Dixon gradient echo; defaults are the paper's protocol."""

    te_in_ms: float = 2.46
    te_out_ms: float = 3.69
    tr_ms: float = 7.05
    flip_deg: float = 12.0
    field_t: float = 3.0

    @property
    def te_ms(self) -> np.ndarray:
        """Echo times, in-phase first."""
        return np.array([self.te_in_ms, self.te_out_ms])


def steady_state(t1_ms: ArrayLike, sequence: Sequence) -> np.ndarray:
    """Transverse magnetisation per proton of a spoiled gradient echo, at TE = 0."""
    flip = np.deg2rad(sequence.flip_deg)
    e1 = np.exp(-sequence.tr_ms / np.asarray(t1_ms, np.float64))
    return np.sin(flip) * (1 - e1) / (1 - np.cos(flip) * e1)


def fat_phasor(te_ms: ArrayLike, sequence: Sequence) -> np.ndarray:
    """Complex sum of fat's peaks relative to water, 1 at TE = 0."""
    hz = _FAT_SHIFT_PPM * GYROMAGNETIC_RATIO_MHZ_PER_T * sequence.field_t
    phase = 2j * np.pi * np.multiply.outer(np.asarray(te_ms) / 1000, hz)
    return np.exp(phase) @ (_FAT_AMPLITUDE / _FAT_AMPLITUDE.sum())


def water_weights(sequence: Sequence) -> np.ndarray:
    """``(tissues, 2)`` signal per unit density of water, in-phase and out-of-phase."""
    decay = np.exp(-sequence.te_ms / column("t2star_ms")[:, None])
    return steady_state(column("t1_ms"), sequence)[:, None] * decay


def fat_weights(sequence: Sequence) -> np.ndarray:
    """``(2,)`` complex signal per unit density of fat, in-phase and out-of-phase."""
    decay = np.exp(-sequence.te_ms / FAT_T2STAR_MS)
    return (
        steady_state(FAT_T1_MS, sequence) * decay * fat_phasor(sequence.te_ms, sequence)
    )


def mfi_percent(in_phase: np.ndarray, out_phase: np.ndarray) -> float:
    """The paper's MFI from magnitudes: ``100 mean(F) / (mean(F) + mean(W))``."""
    total = np.sum(in_phase, dtype=np.float64)
    return float(50 * (total - np.sum(out_phase, dtype=np.float64)) / total)


def voxel_table(sequence: Sequence) -> np.ndarray:
    """Linear contributions of a point of tissue, to be averaged over a voxel.

    Returns:
        ``(tissues * 256, 5)`` float32, row ``256 * tissue + fat fraction * 255``:
        density of water, density of fat, water's signal in and out of phase, artery.
    """
    q = np.arange(256) / 255
    density = column("proton_density")[:, None]
    water, fat = density * (1 - q), density * q
    weights = water_weights(sequence)
    artery = np.zeros_like(water)
    artery[list(TISSUES).index("artery")] = 1
    columns = [water, fat, water * weights[:, :1], water * weights[:, 1:], artery]
    return np.stack(columns, -1).reshape(-1, 5).astype(np.float32)
