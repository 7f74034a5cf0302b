"""Digital people scanned twice in a protocol that nobody has been scanned in yet."""

import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from cervjax.phantom.dataset import anatomy_of, subject_of
from cervjax.phantom.neck import build_neck
from cervjax.phantom.protocol import TIERS, Tier
from cervjax.phantom.scan import make_scan
from cervjax.phantom.signal import GYROMAGNETIC_RATIO_MHZ_PER_T, Sequence

_FAT_SHIFT_PPM = 3.4
_NEAREST_CYCLES = 0.15
"""An echo is in phase or out of phase within this share of a turn of fat."""


class Protocol(NamedTuple):
    """How people will be scanned.

    Attributes:
        sequence: echo times, repetition time, flip angle, field.
        spacing_mm: in-plane, and of slices.
        snr: in-phase signal of muscle over the noise's standard deviation.
        slab_mm: height of the stack.
        severity: whose artefacts there are, a name of `protocol.TIERS`.
    """

    sequence: Sequence
    spacing_mm: tuple[float, float] = (0.7, 3.0)
    snr: float = 25.0
    slab_mm: float = 120.0
    severity: str = "clinical"

    @property
    def tier(self) -> Tier:
        """The severity with this protocol's voxels, noise and height."""
        in_plane, thick = self.spacing_mm
        return TIERS[self.severity]._replace(
            spacing_mm=(in_plane, in_plane, thick, thick),
            slices_mm=(self.slab_mm, self.slab_mm),
            snr=(self.snr, self.snr),
            pathology=0,
            any_orientation=0,
            wrap=0,
        )


def sequence_of(
    te_ms: tuple[float, float],
    *,
    field_t: float = 3.0,
    tr_ms: float = 7.05,
    flip_deg: float = 12.0,
) -> Sequence:
    """The sequence with two echoes, whichever of them is in phase.

    Raises:
        ValueError: one must be in phase and the other out of phase at that field.
    """
    turn_ms = 1000 / (_FAT_SHIFT_PPM * GYROMAGNETIC_RATIO_MHZ_PER_T * field_t)
    found = {}
    for te in te_ms:
        cycles = te / turn_ms
        off = abs(cycles - round(cycles))
        if off < _NEAREST_CYCLES:
            found["te_in_ms"] = te
        elif off > 0.5 - _NEAREST_CYCLES:
            found["te_out_ms"] = te
    if len(found) < 2:
        near = ", ".join(f"{k * turn_ms / 2:.2f}" for k in range(1, 5))
        raise ValueError(
            f"echo times {te_ms[0]:g} and {te_ms[1]:g} ms at {field_t:g} T are not one "
            f"out of phase and one in phase, which are in turn at {near} ms"
        )
    return Sequence(**found, tr_ms=tr_ms, flip_deg=flip_deg, field_t=field_t)


def trial_rows(protocol: Protocol, seed: int, index: int) -> list[dict[str, Any]]:
    """Measurements of one digital person, scanned twice while nothing changed.

    The person lies down anew for the second scan; the outlines are the true ones.

    Args:
        protocol: how.
        seed: of everything.
        index: number of the person.

    Returns:
        A row per session, muscle and side: ``scan`` (sub-0001_ses-1), ``mfi_percent``,
        ``volume_ml`` within the true mask of that scan, and ``pdff_percent``, the
        density of fat there; NaN where the stack does not reach.
    """
    subject = subject_of(seed, index, protocol.tier)
    neck = build_neck(subject, anatomy_of(seed, index))
    rows = []
    for session in (1, 2):
        scan = make_scan(
            neck,
            protocol.tier,
            (seed, index, 5, session),
            swap=False,
            sequence=protocol.sequence,
        )
        for row in scan.truth:
            rows.append(
                {
                    "scan": f"{subject.name}_ses-{session}",
                    "label": row["label"],
                    "muscle": row["muscle"],
                    "side": row["side"],
                    "mfi_percent": row["mfi_image_percent"],
                    "volume_ml": row["volume_ml"],
                    "pdff_percent": row["pdff_mask_percent"],
                }
            )
    return rows


def run_trial(
    protocol: Protocol,
    count: int,
    *,
    seed: int = 0,
    workers: int = 1,
    on_progress: Callable[[str], object] = lambda name: None,
) -> list[dict[str, Any]]:
    """`trial_rows` of many people.

    Args:
        protocol: how they are scanned.
        count: how many people.
        seed: of everything.
        workers: processes; they do not change a number.
        on_progress: called with the name of each person done.
    """
    make = partial(trial_rows, protocol, seed)
    if min(workers, count) == 1:
        return _collected(map(make, range(count)), on_progress)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, count), spawn) as pool:
        return _collected(pool.map(make, range(count)), on_progress)


def _collected(
    found: Iterable[list[dict[str, Any]]], on_progress: Callable[[str], object]
) -> list[dict[str, Any]]:
    rows = []
    for own in found:
        rows += own
        on_progress(own[0]["scan"])
    return rows


def people(rows: list[dict[str, Any]], key: str) -> dict[str, np.ndarray]:
    """Per muscle ``(person, session)``, the mean of both sides; NaN if one is missing.

    Args:
        rows: of `run_trial`.
        key: the column.
    """
    names = list(dict.fromkeys(r["scan"] for r in rows))
    found: dict[str, np.ndarray] = {}
    for muscle in dict.fromkeys(r["muscle"] for r in rows):
        own = {(r["scan"], r["side"]): r[key] for r in rows if r["muscle"] == muscle}
        sides = [[own[name, side] for side in ("left", "right")] for name in names]
        found[muscle] = np.mean(sides, 1).reshape(-1, 2)
    return found
