"""A subject's neck with the fat in it, set to the MFI that a scan should show."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from cervjax.anatomy import MUSCLES
from cervjax.phantom.atlas import Anatomy
from cervjax.phantom.body import Body, build_body
from cervjax.phantom.infiltration import (
    HIGHEST_FRACTION,
    NUM_MUSCLES,
    Texture,
    fat_fraction,
    muscle_texture,
    with_muscle_fat,
)
from cervjax.phantom.pose import slice_levels, upright
from cervjax.phantom.protocol import PAPER_GRID_MM, Grid
from cervjax.phantom.sampling import at_table_1, sample
from cervjax.phantom.signal import Sequence, fat_weights, mfi_percent, voxel_table
from cervjax.phantom.subject import Subject

_LEANEST = 0.01  # mean fat fraction of a muscle that shows more MFI than wanted


class Neck(NamedTuple):
    """A subject's neck, with the fat in it.

    Attributes:
        body: tissues.
        fraction: fat fraction outside the muscles, 0-255, same grid.
        texture: of the fat within the muscles.
        mean_fraction: ``(15,)`` mean fat fraction wanted of each label's muscle.
        subject: whose it is.
        anatomy: whose outlines it was deformed from.
    """

    body: Body
    fraction: np.ndarray
    texture: Texture
    mean_fraction: np.ndarray
    subject: Subject
    anatomy: Anatomy

    @property
    def codes(self) -> np.ndarray:
        """``256 * tissue + fat fraction`` on the body's grid, uint16."""
        filled = with_muscle_fat(self.fraction, self.texture, self.mean_fraction)
        return (self.body.tissue.astype(np.uint16) << 8) | filled

    @property
    def pdff_percent(self) -> np.ndarray:
        """``(15,)`` true mean fat fraction of each muscle's own tissue."""
        value = self.mean_fraction[self.texture.label] * self.texture.relative
        value = np.minimum(value, HIGHEST_FRACTION)
        count = np.maximum(np.bincount(self.texture.label, minlength=15), 1)
        return 100 * np.bincount(self.texture.label, value, 15) / count


def build_neck(subject: Subject, anatomy: Anatomy) -> Neck:
    """Builds the neck and sets the muscles' fat to the subject's MFI."""
    body = build_body(subject, anatomy)
    neck = Neck(
        body,
        fat_fraction(body, subject),
        muscle_texture(body, subject),
        np.full(NUM_MUSCLES + 1, np.nan),
        subject,
        anatomy,
    )
    return with_mfi(neck, subject.mfi_percent)


def with_mfi(neck: Neck, mfi: np.ndarray) -> Neck:
    """The same neck with other fat.

    Args:
        neck: of `build_neck`.
        mfi: ``(14,)`` MFI in percent that the paper's sequence would show, without
            noise, in masks by the paper's rule on the paper's grid of the neck lying
            straight. Where the fat around a thin muscle alone exceeds it, the muscle
            gets a hundredth of fat.
    """
    return neck._replace(mean_fraction=_calibrate(neck, mfi))


def _calibrate(neck: Neck, wanted: np.ndarray) -> np.ndarray:
    """Mean fat fractions that give the wanted MFI, by the rule of `with_mfi`."""
    sequence, pose = Sequence(), upright(neck.subject, neck.anatomy)
    shape = (230, 190, 30)
    affine = np.diag([*PAPER_GRID_MM, 1.0])
    affine[:3, 3] = -np.array([115, 115, 15]) * PAPER_GRID_MM + (0.0, -6.0, 7.5)
    grid = Grid(shape, affine, "RAS")
    # The muscles' fat is linear in its mean: sample it for a mean of 1/8 and of none.
    scale = 1 / 8
    codes = neck._replace(mean_fraction=np.full(NUM_MUSCLES + 1, scale)).codes
    table = voxel_table(sequence)
    size = 256 * (NUM_MUSCLES + 1)
    own = np.zeros((len(table), 2), np.float32)  # fat at this scale, density
    own[256:size, 0] = table[256:size, 1]
    own[256:size, 1] = table[256:size, :2].sum(1)
    others = table[:, 1:4].copy()
    others[256:size] = 0
    sampled = sample(codes, neck.body, pose, grid, np.concatenate([own, others], 1))
    labels = at_table_1(sampled.labels, slice_levels(pose, affine, shape))
    weights, fat_weight = _muscle_weights(table), fat_weights(sequence)
    result = np.full(NUM_MUSCLES + 1, _LEANEST)
    for m in MUSCLES:
        v = sampled.mean[labels == m.label].astype(np.float64)
        if len(v):
            mfi = partial(_mfi_of_mean, v, scale, weights, fat_weight)
            result[m.label] = _solve(mfi, wanted[m.label - 1])
    return result


def _mfi_of_mean(
    v: np.ndarray,
    scale: float,
    weights: np.ndarray,
    fat_weights: np.ndarray,
    mean: float,
) -> float:
    """MFI in percent of a muscle's voxels if its mean fat fraction were `mean`.

    Args:
        v: ``(n, 5)`` density of the muscle's fat at `scale`, of the muscle, and of
            others' fat, others' water in and out of phase.
        scale: mean fat fraction at which `v` was sampled.
        weights: ``(2,)`` signal of the muscle's water.
        fat_weights: ``(2,)`` complex signal of fat.
        mean: fat fraction, 0-1.
    """
    fat = np.minimum(v[:, 0] * mean / scale, HIGHEST_FRACTION * v[:, 1])
    inside, outside = (
        np.abs((v[:, 1] - fat) * w + v[:, 3 + i] + (fat + v[:, 2]) * f)
        for i, (w, f) in enumerate(zip(weights, fat_weights, strict=True))
    )
    return mfi_percent(inside, outside)


def _solve(mfi: Callable[[float], float], wanted: float) -> float:
    """The mean fat fraction that gives an MFI, by halving; beyond its peak it falls."""
    means = np.linspace(_LEANEST, 0.6, 60)
    low, high = _LEANEST, float(means[np.argmax([mfi(mean) for mean in means])])
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if mfi(middle) < wanted else (low, middle)
    return low


def _muscle_weights(table: np.ndarray) -> np.ndarray:
    """Signal of a muscle's water per unit density, both echoes."""
    row = table[256].astype(np.float64)  # label 1, no fat
    return row[2:4] / row[0]
