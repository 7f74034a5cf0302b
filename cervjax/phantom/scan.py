"""One scan: the images a scanner would give, and the truth about them."""

from typing import NamedTuple

import numpy as np

from cervjax.anatomy import MUSCLES
from cervjax.phantom import artefacts
from cervjax.phantom.acquisition import Setup, measure, spoil
from cervjax.phantom.infiltration import NUM_MUSCLES
from cervjax.phantom.neck import Neck
from cervjax.phantom.pose import draw_pose, slice_levels
from cervjax.phantom.protocol import Grid, Tier, draw_grid, draw_sequence
from cervjax.phantom.sampling import at_table_1, sample
from cervjax.phantom.signal import Sequence, fat_weights, mfi_percent, voxel_table


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
    neck: Neck,
    tier: Tier,
    seed: tuple[int, ...],
    *,
    swap: bool | None = None,
    sequence: Sequence | None = None,
) -> DigitalScan:
    """Scans a neck.

    Args:
        neck: of `build_neck` or `with_mfi`.
        tier: how hard the scan is.
        seed: of everything that happens in this session.
        swap: whether the scanner exchanges water and fat somewhere; None to draw.
        sequence: echo times and contrast; None to draw.
    """
    rng = np.random.default_rng(seed)
    pose = draw_pose(
        neck.subject,
        neck.anatomy,
        rng,
        tilt_deg=tier.tilt_deg,
        shift_mm=tier.shift_mm,
    )
    grid, sequence = draw_grid(tier, rng), sequence or draw_sequence(tier, rng)
    extra = round(0.06 * grid.shape[1]) if rng.random() < tier.wrap else 0
    setup = Setup(neck, pose, _extended(grid, extra), sequence, tier)
    table = voxel_table(sequence)
    sampled = sample(neck.codes, neck.body, pose, setup.grid, table)
    water, fat, *signal = np.moveaxis(sampled.mean, -1, 0)[:4]
    weights = fat_weights(sequence)
    echoes = [s + fat * np.complex64(w) for s, w in zip(signal, weights, strict=True)]
    inner = (slice(None), slice(extra, -extra or None))
    noise_free = np.abs(echoes[0][inner]), np.abs(echoes[1][inner])
    echoes, settings = spoil(echoes, sampled.mean[..., 4], setup, rng)
    echoes = [artefacts.fold(e, extra) for e in echoes]
    labels = sampled.labels[inner]
    level = _muscle_signal(noise_free[0], labels)
    images, more = measure(echoes, level, tier, rng, swap)
    by_slice = slice_levels(pose, grid.affine, grid.shape)
    masks = at_table_1(labels, by_slice), labels
    voxel_ml = float(np.prod(grid.spacing_mm)) / 1000
    at_levels = at_table_1(sampled.nearest[inner], by_slice)
    tissue_ml = _tissue_ml(at_levels, sampled.share[inner], voxel_ml)
    water, fat = water[inner], fat[inner]
    total = water + fat
    pdff = np.divide(100 * fat, total, out=np.zeros_like(total), where=total > 1e-4)
    pdff_tissue = neck.pdff_percent
    rows = truth_rows(masks, voxel_ml, noise_free, images[:2], (water, fat))
    for row in rows:
        row["volume_tissue_ml"] = float(tissue_ml[row["label"]])
        row["pdff_tissue_percent"] = float(pdff_tissue[row["label"]])
    return DigitalScan(
        grid,
        *images,
        labels=masks[0],
        full_labels=masks[1],
        pdff_percent=pdff,
        levels=np.where(total > 0.05, by_slice, 0).astype(np.uint8),
        truth=rows,
        settings={
            **{k: round(float(v), 3) for k, v in sequence._asdict().items()},
            "wrap": extra > 0,
            **settings,
            **more,
            "lordosis_added_deg": round(float(pose.lordosis_deg), 2),
        },
    )


Pair = tuple[np.ndarray, np.ndarray]


def truth_rows(
    masks: Pair, voxel_ml: float, noise_free: Pair, written: Pair, density: Pair
) -> list[dict]:
    """Volume and MFI of each muscle within its true mask, by the paper's rule.

    ``mfi_signal_percent`` is of the noise-free magnitudes, ``mfi_image_percent`` of
    the images as written, ``pdff_mask_percent`` of the densities of water and fat; all
    are ratios of means, partial volumes of the neighbours included.

    Args:
        masks: labels by the paper's rule, and of all of each muscle.
        voxel_ml: volume of a voxel.
        noise_free: in-phase and out-of-phase magnitudes.
        written: the images, in-phase and out-of-phase.
        density: of water and of fat.
    """
    labels, full_labels = masks
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
            w, f = (float(d[mask].sum(dtype=np.float64)) for d in density)
            row |= {
                "mfi_signal_percent": mfi_percent(*(e[mask] for e in noise_free)),
                "mfi_image_percent": mfi_percent(*(e[mask] for e in written)),
                "pdff_mask_percent": 100 * f / (w + f),
            }
        rows.append(row)
    return rows


def _muscle_signal(in_phase: np.ndarray, labels: np.ndarray) -> float:
    """Median in-phase magnitude of muscle; the highest of all without a muscle."""
    muscle = in_phase[labels > 0]
    return float(np.median(muscle)) if muscle.size else float(in_phase.max())


def _tissue_ml(nearest: np.ndarray, share: np.ndarray, voxel_ml: float) -> np.ndarray:
    """``(15,)`` millilitres of each muscle's own tissue."""
    return voxel_ml * np.bincount(
        nearest.reshape(-1), share.reshape(-1), NUM_MUSCLES + 1
    )


def _extended(grid: Grid, extra: int) -> Grid:
    """The grid with `extra` rows more in front and behind."""
    affine = grid.affine.copy()
    affine[:3, 3] -= extra * affine[:3, 1]
    nx, ny, nz = grid.shape
    return grid._replace(shape=(nx, ny + 2 * extra, nz), affine=affine)
