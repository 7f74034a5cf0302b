import cmath
import math

import numpy as np
import pytest
from scipy.special import ive

from cervjax.phantom.artefacts import add_noise
from cervjax.phantom.signal import (
    Sequence,
    fat_phasor,
    fat_weights,
    mfi_percent,
    steady_state,
    voxel_table,
    water_weights,
)
from cervjax.phantom.tissues import CODES, TISSUES

PEAKS = {
    -3.80: 0.087,
    -3.40: 0.693,
    -2.60: 0.128,
    -1.94: 0.004,
    -0.39: 0.039,
    0.60: 0.049,
}
TE = {"in": 2.46, "out": 3.69}
MUSCLE_T1, MUSCLE_T2STAR, FAT_T1, FAT_T2STAR = 1400, 26, 370, 16


def spoiled(t1, tr=7.05, flip=12.0):
    a, e = math.radians(flip), math.exp(-tr / t1)
    return math.sin(a) * (1 - e) / (1 - math.cos(a) * e)


def fat_signal(te, field=3.0):
    """Per proton, of the six peaks, one at a time."""
    total = 0j
    for ppm, amplitude in PEAKS.items():
        turns = ppm * 42.577 * field * te / 1000
        total += amplitude / sum(PEAKS.values()) * cmath.exp(2j * math.pi * turns)
    return spoiled(FAT_T1) * math.exp(-te / FAT_T2STAR) * total


def amplitude(q, te):
    """Of muscle's water and a share q of fat."""
    water = spoiled(MUSCLE_T1) * math.exp(-te / MUSCLE_T2STAR)
    return abs((1 - q) * water + q * fat_signal(te))


def mfi(q):
    fat, water = (
        amplitude(q, TE["in"]) + sign * amplitude(q, TE["out"]) for sign in (-1, 1)
    )
    return 100 * fat / (fat + water)


@pytest.mark.parametrize("echo", [0, 1], ids=["in", "out"])
@pytest.mark.parametrize("q", [0.0, 0.3, 0.7, 1.0])
def test_amplitudes_of_mixtures(q, echo):
    table = voxel_table(Sequence()).astype(np.float64)
    lean, fatty = table[256 * CODES["9"]], table[256 * CODES["9"] + 255]
    mean = (1 - q) * lean + q * fatty  # a voxel that holds both
    found = abs(mean[2 + echo] + mean[1] * fat_weights(Sequence())[echo])
    wanted = 0.80 * amplitude(q, list(TE.values())[echo])  # 0.80: muscle's density
    assert found == pytest.approx(wanted, rel=1e-6)


def test_fat_opposes_water_out_of_phase_only():
    inside, outside = (w / abs(w) for w in fat_weights(Sequence()))
    assert inside.real > 0.8
    assert outside.real < -0.7


def test_steady_state_by_hand():
    # E1 = exp(-7.05/370) = 0.981126, exp(-7.05/1400) = 0.994977; cos, sin 12 degrees
    fat = 0.207912 * 0.018874 / (1 - 0.978148 * 0.981126)
    muscle = 0.207912 * 0.005023 / (1 - 0.978148 * 0.994977)
    assert steady_state(370, Sequence()) == pytest.approx(fat, rel=1e-3)
    assert steady_state(1400, Sequence()) == pytest.approx(muscle, rel=1e-3)
    ratio = steady_state(370, Sequence()) / steady_state(1400, Sequence())
    assert ratio == pytest.approx(2.498, abs=0.005)


def test_steady_state_limits():
    slow = Sequence(tr_ms=1e7)
    sines = [math.sin(math.radians(12))] * 2
    assert steady_state(np.array([370, 1400]), slow) == pytest.approx(sines)
    assert steady_state(1400, Sequence(tr_ms=1e-9)) == pytest.approx(0, abs=1e-9)
    right = Sequence(flip_deg=90)
    assert steady_state(500, right) == pytest.approx(1 - math.exp(-7.05 / 500))
    ernst = math.degrees(math.acos(math.exp(-7.05 / 1400)))
    best, *others = (
        float(steady_state(1400, Sequence(flip_deg=ernst + d))) for d in (0, -0.5, 0.5)
    )
    assert best > max(others)


def test_fat_phasor_depends_on_turns_only():
    te = np.array([0.0, 1.1, 2.46, 3.69, 20.0])
    low = fat_phasor(2 * te, Sequence(field_t=1.5))
    np.testing.assert_allclose(fat_phasor(te, Sequence()), low, rtol=1e-12)
    assert fat_phasor(0.0, Sequence()) == pytest.approx(1)
    assert (np.abs(fat_phasor(te[1:], Sequence())) < 1).all()


@pytest.mark.parametrize("te", [1.23, 2.46, 3.69, 5.0])
def test_fat_weights_against_the_peaks(te):
    sequence = Sequence(te_in_ms=te)
    assert fat_weights(sequence)[0] == pytest.approx(fat_signal(te), rel=1e-9)


def test_longer_echo_time_decays():
    early, late = water_weights(Sequence()), water_weights(Sequence(te_in_ms=12.46))
    for name, tissue in TISSUES.items():
        ratio = late[CODES[name], 0] / early[CODES[name], 0]
        assert ratio == pytest.approx(math.exp(-10 / tissue.t2star_ms))
        assert late[CODES[name], 1] == early[CODES[name], 1]
    assert (early[:, 1] < early[:, 0]).all()


def test_table_of_tissues():
    table = voxel_table(Sequence()).reshape(len(TISSUES), 256, 5)
    assert [CODES[str(n)] for n in range(1, 15)] == list(range(1, 15))
    for name, tissue in TISSUES.items():
        rows = table[CODES[name]].astype(np.float64)
        q = np.array([k / 255 for k in range(256)])
        density = tissue.proton_density
        np.testing.assert_allclose(rows[:, 1], density * q, atol=1e-6)
        np.testing.assert_allclose(rows[:, 0] + rows[:, 1], density, atol=1e-6)
        for echo, te in enumerate(TE.values()):
            water = spoiled(tissue.t1_ms) * math.exp(-te / tissue.t2star_ms)
            wanted = density * (1 - q) * water
            np.testing.assert_allclose(rows[:, 2 + echo], wanted, atol=1e-6)
        assert (rows[:, 4] == (name == "artery")).all()


def test_mfi_is_a_ratio_of_means():
    # fat 2 and 10, water 8 and 20: 12 of 40; the mean of ratios would be 26.7
    assert mfi_percent(np.array([10, 30]), np.array([6, 10])) == pytest.approx(30)
    full = np.full(100_000, 30_000, np.int16)
    assert mfi_percent(full, full // 2) == pytest.approx(25)


def mfi_of_fat_fraction(fraction):
    """Of muscle, by the product's own weights."""
    sequence = Sequence()
    water, fat = water_weights(sequence)[CODES["9"]], fat_weights(sequence)
    q = np.asarray(fraction)[..., None]
    inside, outside = np.moveaxis(np.abs((1 - q) * water + q * fat), -1, 0)
    return 50 * (inside - outside) / inside


def test_mfi_of_fat_fraction_by_hand():
    q = np.linspace(0, 1, 41)
    found = mfi_of_fat_fraction(q)
    np.testing.assert_allclose(found, [mfi(v) for v in q], rtol=1e-9)
    # 0: T2* alone, (1 - exp(-1.23 / 26)) / 2
    assert found[0] == pytest.approx(2.3106, abs=1e-3)


def test_mfi_rises_until_fat_outweighs_water():
    """T1 weights fat, so that this is before 50 % of protons; then it folds back."""
    q = np.linspace(0, 0.5, 501)
    found = mfi_of_fat_fraction(q)
    peak = q[found.argmax()]
    assert 0.35 < peak < 0.5
    assert (np.diff(found[q <= peak]) > 0).all()
    assert (np.diff(found[q >= peak]) < 0).all()


@pytest.mark.parametrize("snr", [0, 0.5, 1, 3, 10])
def test_noise_is_rician(snr):
    sigma, n = 7.0, 400_000
    truth = snr * sigma * np.exp(0.7j)
    image = np.full((n, 1, 1), truth, np.complex64)
    noisy = np.abs(add_noise(image, sigma, np.random.default_rng(1)))
    x = snr**2 / 4
    # sigma sqrt(pi/2) L_1/2(-2x), with scaled Bessel functions
    laguerre = (1 + 2 * x) * ive(0, x) + 2 * x * ive(1, x)
    mean = sigma * math.sqrt(math.pi / 2) * laguerre
    square = (snr * sigma) ** 2 + 2 * sigma**2
    assert noisy.mean() == pytest.approx(mean, abs=5 * sigma / math.sqrt(n))
    assert np.mean(noisy.astype(np.float64) ** 2) == pytest.approx(square, rel=0.01)


def test_noise_of_the_two_channels_is_independent():
    noise = add_noise(
        np.zeros((300, 200, 4), np.complex64), 2.0, np.random.default_rng(0)
    )
    real, imaginary = noise.real.ravel(), noise.imag.ravel()
    assert (real.std(), imaginary.std()) == pytest.approx((2, 2), rel=0.01)
    assert np.corrcoef(real, imaginary)[0, 1] == pytest.approx(0, abs=0.01)
    neighbours = np.corrcoef(noise.real[1:].ravel(), noise.real[:-1].ravel())
    assert neighbours[0, 1] == pytest.approx(0, abs=0.01)
