"""One scan: the images a scanner would give, and the truth about them."""

from typing import NamedTuple

import numpy as np

from cervjax.anatomy import MUSCLES
from cervjax.phantom import artefacts
from cervjax.phantom.infiltration import NUM_MUSCLES
from cervjax.phantom.neck import Neck
from cervjax.phantom.pose import Pose, draw_pose, slice_levels, to_neck
from cervjax.phantom.protocol import Grid, Tier, draw_grid, draw_sequence
from cervjax.phantom.sampling import at_table_1, coarse_points, sample
from cervjax.phantom.signal import fat_weights, mfi_percent, voxel_table


class DigitalScan(NamedTuple):
    """Images and truth on one grid, ``(x, y, z)`` roughly in RAS.

    Attributes:
        grid: where the voxels lie.
        in_phase, out_phase, water, fat: int16 magnitudes, water + fat = in-phase.
        labels: uint8, the paper's rule: each muscle at its levels of Table 1.
        full_labels: uint8, every muscle wherever it is.
        pdff_percent: float32 proton-density fat fraction, 0 in air.
        levels: uint8, 2-7 for C2-C7, 8 for T1, 0 outside the body.
        truth: one row per muscle, see `truth_rows`.
        settings: how the scan was made.
    """

    grid: Grid
    in_phase: np.ndarray
    out_phase: np.ndarray
    water: np.ndarray
    fat: np.ndarray
    labels: np.ndarray
    full_labels: np.ndarray
    pdff_percent: np.ndarray
    levels: np.ndarray
    truth: list[dict]
    settings: dict


def make_scan(
    neck: Neck, tier: Tier, seed: tuple[int, ...], *, swap: bool | None = None
) -> DigitalScan:
    """Scans a neck.

    Args:
        neck: of `build_neck` or `with_mfi`.
        tier: how hard the scan is.
        seed: of everything that happens in this session.
        swap: whether the scanner exchanges water and fat somewhere; None to draw.
    """
    rng = np.random.default_rng(seed)
    pose = draw_pose(neck.subject, rng, tilt_deg=tier.tilt_deg, shift_mm=tier.shift_mm)
    grid, sequence = draw_grid(tier, rng), draw_sequence(tier, rng)
    wraps = rng.random() < tier.wrap
    extra = round(0.06 * grid.shape[1]) if wraps else 0
    sampled = sample(
        neck.codes, neck.body, pose, _extended(grid, extra), voxel_table(sequence)
    )
    weights = fat_weights(sequence)
    water, fat, *signal = np.moveaxis(sampled.mean, -1, 0)[:4]
    echoes = [s + fat * np.complex64(w) for s, w in zip(signal, weights, strict=True)]
    inner = (slice(None), slice(extra, -extra or None))
    noise_free = [np.abs(e[inner]) for e in echoes]
    echoes, settings = _spoil(
        echoes, sampled, neck, pose, _extended(grid, extra), sequence, tier, rng
    )
    echoes = [artefacts.fold(e, extra) for e in echoes]
    labels = sampled.labels[inner]
    images, more = _measure(echoes, noise_free, labels, tier, rng, swap)
    by_slice = slice_levels(pose, grid.affine, grid.shape)
    paper = at_table_1(labels, by_slice)
    at_levels = at_table_1(sampled.nearest[inner], by_slice)
    voxel_ml = float(np.prod(grid.spacing_mm)) / 1000
    tissue_ml = voxel_ml * np.bincount(
        at_levels.reshape(-1), sampled.share[inner].reshape(-1), NUM_MUSCLES + 1
    )
    water, fat = water[inner], fat[inner]
    total = water + fat
    pdff = np.divide(100 * fat, total, out=np.zeros_like(total), where=total > 1e-4)
    return DigitalScan(
        grid,
        *images,
        labels=paper,
        full_labels=labels,
        pdff_percent=pdff,
        levels=np.where(total > 0.05, by_slice, 0).astype(np.uint8),
        truth=[
            row
            | {
                "volume_tissue_ml": float(tissue_ml[row["label"]]),
                "pdff_tissue_percent": float(neck.pdff_percent[row["label"]]),
            }
            for row in truth_rows(paper, labels, grid, noise_free, images, water, fat)
        ],
        settings={
            **{k: round(float(v), 3) for k, v in sequence._asdict().items()},
            "wrap": bool(wraps),
            **settings,
            **more,
            "lordosis_added_deg": round(float(pose.lordosis_deg), 2),
        },
    )


def truth_rows(labels, full_labels, grid, noise_free, images, water, fat) -> list[dict]:
    """Volume and MFI of each muscle within its true mask, by the paper's rule.

    ``mfi_signal_percent`` is of the noise-free magnitudes, ``mfi_image_percent`` of
    the images as written, ``pdff_mask_percent`` of the densities of water and fat; all
    are ratios of means, partial volumes of the neighbours included.
    """
    voxel_ml = float(np.prod(grid.spacing_mm)) / 1000
    rows = []
    for m in MUSCLES:
        mask = labels == m.label
        voxels = int(np.count_nonzero(mask))
        row = {
            "label": m.label,
            "muscle": m.abbreviation,
            "side": m.side,
            "voxels": voxels,
            "volume_ml": voxels * voxel_ml,
            "volume_full_ml": int(np.count_nonzero(full_labels == m.label)) * voxel_ml,
            "mfi_signal_percent": np.nan,
            "mfi_image_percent": np.nan,
            "pdff_mask_percent": np.nan,
        }
        if voxels:
            w, f = (float(d[mask].sum(dtype=np.float64)) for d in (water, fat))
            row |= {
                "mfi_signal_percent": mfi_percent(*(e[mask] for e in noise_free)),
                "mfi_image_percent": mfi_percent(images[0][mask], images[1][mask]),
                "pdff_mask_percent": 100 * f / (w + f),
            }
        rows.append(row)
    return rows


def _extended(grid: Grid, extra: int) -> Grid:
    """The grid with `extra` rows more in front and behind."""
    affine = grid.affine.copy()
    affine[:3, 3] -= extra * affine[:3, 1]
    nx, ny, nz = grid.shape
    return grid._replace(shape=(nx, ny + 2 * extra, nz), affine=affine)


def _spoil(echoes, sampled, neck, pose, grid, sequence, tier, rng):
    """Field, coils, motion and ghosts, on the complex echoes."""
    body, settings = neck.body, {}
    if tier.field_ppm:
        hz = tier.field_ppm * artefacts.field_map_hz(body, sequence.field_t)
        fillings = neck.subject.dental_metal and tier.metal > 0
        if fillings:
            who = np.random.default_rng([*neck.subject.seed, 30])
            x, y = who.uniform(14, 26, 2) * (1, -1), who.uniform(30, 52, 2)
            centres = np.stack([x, y, who.uniform(50, 64, 2)], 1)
            hz = artefacts.add_metal(hz, body, centres, 2.5)
        settings["dental_metal"] = bool(fillings)
        points, spread = coarse_points(grid)
        neck_frame = pose.rotation.T @ (points.reshape(3, -1) - pose.shift_mm[:, None])
        at = np.stack(to_neck(pose, *neck_frame)[::-1]).reshape(points.shape)
        voxel_mm = float(grid.spacing_mm.max())
        strength = rng.uniform(*tier.shading)
        shade = artefacts.coil_shading(points, strength, rng)
        for i, te in enumerate(sequence.te_ms):
            left = artefacts.at_voxels(artefacts.dephasing(hz, te, voxel_mm), at, body)
            echoes[i] = echoes[i] * spread(left * shade)
        settings["shading"] = round(float(strength), 2)
    settings["motion_mm"] = 0.0
    if rng.random() < tier.motion:
        amount = float(rng.uniform(0.5, 3.0) * rng.choice([-1, 1]))
        stretch = rng.integers(2**31)
        echoes = [
            artefacts.move(
                e, np.random.default_rng(stretch), amount, grid.spacing_mm[1]
            )
            for e in echoes
        ]
        settings["motion_mm"] = round(amount, 2)
    settings["swallowing"] = bool(rng.random() < tier.swallowing)
    if settings["swallowing"]:
        where = _throat(grid, pose)
        amount, burst = rng.uniform(0.15, 0.5), rng.integers(2**31)
        echoes = [
            artefacts.swallow(e, where, np.random.default_rng(burst), amount)
            for e in echoes
        ]
    if tier.pulsation:
        beat, amount = rng.integers(2**31), rng.uniform(0.01, tier.pulsation)
        arteries = sampled.mean[..., 4]
        echoes = [
            artefacts.pulsate(e, arteries, np.random.default_rng(beat), amount)
            for e in echoes
        ]
    return echoes, settings


def _throat(grid: Grid, pose: Pose) -> np.ndarray:
    """Weights 0-1 of what swallowing moves: an ellipsoid about larynx and pharynx."""
    points, spread = coarse_points(grid)
    frame = pose.rotation.T @ (points.reshape(3, -1) - pose.shift_mm[:, None])
    x, y, z = (v.reshape(points.shape[1:]) for v in frame)
    inside = 1.5 - (x / 22) ** 2 - ((y - 26) / 16) ** 2 - ((z + 2) / 45) ** 2
    return spread(np.clip(inside, 0, 1))


def _measure(echoes, noise_free, labels, tier, rng, swap):
    """Noise, magnitudes, scanner-style water and fat, and the scale of storage."""
    muscle = noise_free[0][labels > 0]
    level = float(np.median(muscle)) if muscle.size else float(noise_free[0].max())
    settings: dict = {"snr": None}
    if tier.snr is not None:
        snr = float(rng.uniform(*tier.snr))
        echoes = [artefacts.add_noise(e, level / snr, rng) for e in echoes]
        settings["snr"] = round(snr, 1)
    magnitudes = [np.abs(e) for e in echoes]
    # The phase that the field gives is known to a perfect scanner.
    aligned = np.real(echoes[1] * np.conj(echoes[0]))
    sign = np.where(aligned < 0, -1, 1).astype(np.int16)
    gain = rng.uniform(0.8, 1.25) if tier.snr is not None else 1.0
    scale = 500.0 * gain / level
    in_phase, out_phase = (
        np.minimum(np.rint(m * scale), 32_000).astype(np.int16) for m in magnitudes
    )
    signed = np.clip(sign * out_phase, -in_phase, in_phase)
    water = (in_phase + signed + 1) // 2
    swaps = rng.random() < tier.swap if swap is None else swap
    if swaps:
        region = artefacts.swapped_region(in_phase.shape, rng)
        water = np.where(region, in_phase - water, water)
    settings["fat_water_swap"] = bool(swaps)
    water = water.astype(np.int16)
    return (in_phase, out_phase, water, in_phase - water), settings
