"""How a scan is made at each severity: geometry, noise, artefacts, disease."""

from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from cervjax.phantom.signal import Sequence


class Tier(NamedTuple):
    """The stated parameters of a severity. Pairs are ranges, drawn uniformly.

    Attributes:
        spacing_mm: lowest and highest in-plane spacing, lowest and highest thickness.
        slices_mm: range of the slab's thickness.
        field_of_view_mm: range of the width; the depth is 190/320 of it.
        slab_tilt_deg: standard deviation of the slab's rotation against the scanner.
        tilt_deg, shift_mm: standard deviations of how subjects lie.
        snr: in-phase signal of muscle over the noise's standard deviation; None for
            no noise.
        shading: range of the coils' relative strength of falling off.
        echo_jitter: relative standard deviation of TE, TR and flip angle.
        field_ppm: the field's strength relative to what susceptibility gives.
        swap, motion, swallowing, metal, wrap, any_orientation: probabilities.
        pulsation: highest relative amplitude of vessel ghosts.
        pathology: probability of a diseased subject.
    """

    spacing_mm: tuple[float, float, float, float]
    slices_mm: tuple[float, float]
    field_of_view_mm: tuple[float, float]
    slab_tilt_deg: float
    tilt_deg: float
    shift_mm: float
    snr: tuple[float, float] | None
    shading: tuple[float, float]
    echo_jitter: float
    field_ppm: float
    swap: float
    motion: float
    swallowing: float
    metal: float
    wrap: float
    any_orientation: float
    pulsation: float
    pathology: float


TIERS: dict[str, Tier] = {
    "clean": Tier(
        spacing_mm=(0.7, 0.7, 3.0, 3.0),
        slices_mm=(120, 120),
        field_of_view_mm=(320, 320),
        slab_tilt_deg=0,
        tilt_deg=3,
        shift_mm=3,
        snr=None,
        shading=(0, 0),
        echo_jitter=0,
        field_ppm=0,
        swap=0,
        motion=0,
        swallowing=0,
        metal=0,
        wrap=0,
        any_orientation=0,
        pulsation=0,
        pathology=0,
    ),
    "clinical": Tier(
        spacing_mm=(0.7, 0.7, 3.0, 3.0),
        slices_mm=(120, 120),
        field_of_view_mm=(320, 320),
        slab_tilt_deg=2,
        tilt_deg=4,
        shift_mm=4,
        snr=(16, 40),
        shading=(0.3, 1.0),
        echo_jitter=0,
        field_ppm=1,
        swap=0.10,
        motion=0.3,
        swallowing=0.6,
        metal=1,
        wrap=0,
        any_orientation=0,
        pulsation=0.08,
        pathology=0,
    ),
    "hard": Tier(
        spacing_mm=(0.5, 1.2, 2.0, 5.0),
        slices_mm=(80, 130),
        field_of_view_mm=(230, 340),
        slab_tilt_deg=7,
        tilt_deg=6,
        shift_mm=8,
        snr=(7, 20),
        shading=(0.5, 1.6),
        echo_jitter=0.12,
        field_ppm=1.6,
        swap=0.15,
        motion=0.6,
        swallowing=0.8,
        metal=1,
        wrap=0.5,
        any_orientation=1,
        pulsation=0.15,
        pathology=0.7,
    ),
}
"""The severities. ``clean`` has neither noise nor artefacts."""


class Grid(NamedTuple):
    """Where the voxels lie.

    Attributes:
        shape: x, y, z; the axes run roughly right, forwards, upwards.
        affine: ``(4, 4)`` from voxel indices to scanner millimetres.
        stored_axes: axis codes of the file, such as ``LAS``.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    stored_axes: str

    @property
    def spacing_mm(self) -> np.ndarray:
        """Along x, y, z."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)


PAPER_GRID_MM = (0.7, 0.7, 3.0)


def draw_grid(tier: Tier, rng: np.random.Generator) -> Grid:
    """Draws the field of view, centred a little behind the C5 body."""
    if tier.spacing_mm[0] == tier.spacing_mm[1]:
        in_plane, thickness = tier.spacing_mm[0], tier.spacing_mm[2]
    else:
        in_plane = round(rng.uniform(*tier.spacing_mm[:2]), 2)
        thickness = round(rng.uniform(*tier.spacing_mm[2:]), 1)
    width, slab = rng.uniform(*tier.field_of_view_mm), rng.uniform(*tier.slices_mm)
    shape = (
        round(width / in_plane),
        round(width * 190 / 320 / in_plane),
        round(slab / thickness),
    )
    angles = rng.normal(0, 1, 3) * tier.slab_tilt_deg * (1, 0.5, 0.5)
    rotation = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    spacing = np.array([in_plane, in_plane, thickness])
    slack = 0.2 * max(0.0, 120 - slab)
    centre = np.array([0, -12, rng.uniform(-slack, slack) if slack else 0.0])
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing
    affine[:3, 3] = centre - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    axes = "LAS"  # as dcm2niix stores axial slices
    if rng.random() < tier.any_orientation:
        order = rng.permutation(3)
        axes = "".join(("LR", "PA", "IS")[i][rng.integers(2)] for i in order)
    return Grid(shape, affine, axes)


def draw_sequence(tier: Tier, rng: np.random.Generator) -> Sequence:
    """The paper's sequence, with the tier's variation of contrast."""
    jitter = np.exp(rng.normal(0, tier.echo_jitter, 3) if tier.echo_jitter else [0] * 3)
    base = Sequence()
    echoes = 1 + (jitter[0] - 1) * 0.35  # echo times hold the phases, or it fails
    return base._replace(
        te_in_ms=base.te_in_ms * echoes,
        te_out_ms=base.te_out_ms * echoes,
        tr_ms=base.tr_ms * jitter[1],
        flip_deg=base.flip_deg * jitter[2] ** 2,
    )
