"""What a scanner makes of a neck: echoes with their artefacts, then stored images."""

from collections.abc import Sequence as List
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cervjax.phantom import artefacts
from cervjax.phantom.neck import Neck
from cervjax.phantom.pose import Pose, to_neck
from cervjax.phantom.protocol import Grid, Tier
from cervjax.phantom.sampling import coarse_points
from cervjax.phantom.signal import Sequence

Settings = dict[str, float | bool | None]
"""How a scan was made, for its record."""

_MUSCLE_SIGNAL = 500.0  # stored median in muscle, before the gain
_HIGHEST_SIGNAL = 32_000


@dataclass(frozen=True, eq=False)
class Setup:
    """Who lies how in the scanner, and what is recorded.

    Attributes:
        neck: who.
        pose: how.
        grid: all voxels that give signal, before fold-over.
        sequence: echo times and contrast.
        tier: how hard the scan is.
    """

    neck: Neck
    pose: Pose
    grid: Grid
    sequence: Sequence
    tier: Tier


class Images(NamedTuple):
    """int16 magnitudes ``(x, y, z)``; water + fat = in-phase."""

    in_phase: np.ndarray
    out_phase: np.ndarray
    water: np.ndarray
    fat: np.ndarray


def spoil(
    echoes: List[np.ndarray],
    arteries: np.ndarray,
    setup: Setup,
    rng: np.random.Generator,
) -> tuple[list[np.ndarray], Settings]:
    """Field, coils, motion and ghosts, as likely and as strong as the tier says.

    Args:
        echoes: complex ``(x, y, z)``, in-phase and out-of-phase.
        arteries: share of each voxel, 0-1.
        setup: of the scan.
        rng: draws what goes wrong.

    Returns:
        The echoes, and what was drawn.
    """
    tier, settings = setup.tier, {}
    echoes = list(echoes)
    if tier.field_ppm:
        echoes, settings = _field_and_coils(echoes, setup, rng)
    settings["motion_mm"] = 0.0
    if rng.random() < tier.motion:
        amount = float(rng.uniform(0.5, 3.0) * rng.choice([-1, 1]))
        stretch, step_mm = rng.integers(2**31), setup.grid.spacing_mm[1]
        echoes = [
            artefacts.move(e, np.random.default_rng(stretch), amount, step_mm)
            for e in echoes
        ]
        settings["motion_mm"] = round(amount, 2)
    settings["swallowing"] = bool(rng.random() < tier.swallowing)
    if settings["swallowing"]:
        where = _throat(setup.grid, setup.pose)
        amount, burst = rng.uniform(0.15, 0.5), rng.integers(2**31)
        echoes = [
            artefacts.swallow(e, where, np.random.default_rng(burst), amount)
            for e in echoes
        ]
    if tier.pulsation:
        beat, amount = rng.integers(2**31), rng.uniform(0.01, tier.pulsation)
        echoes = [
            artefacts.pulsate(e, arteries, np.random.default_rng(beat), amount)
            for e in echoes
        ]
    return echoes, settings


def measure(
    echoes: List[np.ndarray],
    muscle_signal: float,
    tier: Tier,
    rng: np.random.Generator,
    swap: bool | None = None,
) -> tuple[Images, Settings]:
    """Noise, magnitudes, scanner-style water and fat, and the scale of storage.

    Args:
        echoes: complex ``(x, y, z)``, in-phase and out-of-phase.
        muscle_signal: median in-phase magnitude of muscle, without noise.
        tier: how hard the scan is.
        rng: draws noise, gain and swap.
        swap: whether water and fat are exchanged somewhere; None to draw.
    """
    settings: Settings = {"snr": None}
    if tier.snr is not None:
        snr = float(rng.uniform(*tier.snr))
        echoes = [artefacts.add_noise(e, muscle_signal / snr, rng) for e in echoes]
        settings["snr"] = round(snr, 1)
    magnitudes = [np.abs(e) for e in echoes]
    # The phase that the field gives is known to a perfect scanner.
    aligned = np.real(echoes[1] * np.conj(echoes[0]))
    sign = np.where(aligned < 0, -1, 1).astype(np.int16)
    gain = rng.uniform(0.8, 1.25) if tier.snr is not None else 1.0
    scale = _MUSCLE_SIGNAL * gain / muscle_signal
    in_phase, out_phase = (
        np.minimum(np.rint(m * scale), _HIGHEST_SIGNAL).astype(np.int16)
        for m in magnitudes
    )
    signed = np.clip(sign * out_phase, -in_phase, in_phase)
    water = (in_phase + signed + 1) // 2
    swaps = rng.random() < tier.swap if swap is None else swap
    if swaps:
        region = artefacts.swapped_region(in_phase.shape, rng)
        water = np.where(region, in_phase - water, water)
    settings["fat_water_swap"] = bool(swaps)
    water = water.astype(np.int16)
    return Images(in_phase, out_phase, water, in_phase - water), settings


def _field_and_coils(
    echoes: List[np.ndarray], setup: Setup, rng: np.random.Generator
) -> tuple[list[np.ndarray], Settings]:
    """Signal lost to the field's slope, and the coils' shading."""
    neck, tier, grid, pose = setup.neck, setup.tier, setup.grid, setup.pose
    hz = tier.field_ppm * artefacts.field_map_hz(neck.body, setup.sequence.field_t)
    fillings = neck.subject.dental_metal and tier.metal > 0
    if fillings:
        own = np.random.default_rng([*neck.subject.seed, 30])
        x, y = own.uniform(14, 26, 2) * (1, -1), own.uniform(30, 52, 2)
        centres = np.stack([x, y, own.uniform(50, 64, 2)], 1)
        hz = artefacts.add_metal(hz, neck.body, centres, 2.5)
    points, spread = coarse_points(grid)
    neck_frame = pose.rotation.T @ (points.reshape(3, -1) - pose.shift_mm[:, None])
    at = np.stack(to_neck(pose, *neck_frame)[::-1]).reshape(points.shape)
    voxel_mm = float(grid.spacing_mm.max())
    strength = rng.uniform(*tier.shading)
    shade = artefacts.coil_shading(points, strength, rng)
    spoilt = []
    for echo, te in zip(echoes, setup.sequence.te_ms, strict=True):
        kept = artefacts.dephasing(hz, te, voxel_mm)
        kept = artefacts.at_voxels(kept, at, neck.body)
        spoilt.append(echo * spread(kept * shade))
    settings: Settings = {"dental_metal": bool(fillings)}
    settings["shading"] = round(float(strength), 2)
    return spoilt, settings


def _throat(grid: Grid, pose: Pose) -> np.ndarray:
    """Weights 0-1 of what swallowing moves: an ellipsoid about larynx and pharynx."""
    points, spread = coarse_points(grid)
    frame = pose.rotation.T @ (points.reshape(3, -1) - pose.shift_mm[:, None])
    x, y, z = (v.reshape(points.shape[1:]) for v in frame)
    inside = 1.5 - (x / 22) ** 2 - ((y - 26) / 16) ** 2 - ((z + 2) / 45) ** 2
    return spread(np.clip(inside, 0, 1))
