"""Whether two images are the in-phase and the out-of-phase echo of one scan.

Out of phase, water and fat subtract: nowhere in a body is that echo much brighter than
the in-phase one, and where there is water alone both are nearly equal. So the brightest
ratios tell the scale, whatever the person.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Real
from scipy.ndimage import uniform_filter

from cervjax.io.filenames import stem_of
from cervjax.io.files import read_json

EXCHANGED_FRACTION = 0.5
"""Of the body: out-of-phase brighter than in-phase in more of it is an exchange."""
WATER_RATIO = (0.87, 1.25)
"""98th percentile of out-of-phase / in-phase in a body, where it should be near 1."""
WRONG_WATER_RATIO = (0.8, 1.4)
"""Further off than this it is surely another scale."""
NO_PAIR_RATIO = 4.0
"""90th percentile above which the images are no echoes of one scan, at any scale."""
LEAST_SPREAD = 0.02
"""5th to 95th percentile of the ratio: below, one image is the other one, scaled."""
FEWEST_VOXELS = 1000
"""Of a body: with fewer nothing is told from their ratios."""
LEAST_LIKENESS = 0.3
"""Correlation of neighbouring voxels: noise has none, images have 0.9."""
# Sources: ratios of the digital necks (clinical) 0.93-0.97, of the real thigh 1.05 and
# calf 1.18 at p98; scaled by 0.7 they are 0.66, 0.73 and 0.83. Correlation: 0.90-0.96.

Severity = Literal["look", "do_not_use"]


class PairFault(NamedTuple):
    """What is wrong with a pair of echoes, and whether it may be measured."""

    severity: Severity
    reason: str


class Echoes(NamedTuple):
    """Echo times, and the field."""

    te_in_ms: float
    te_out_ms: float
    field_t: float


def echo_times(sidecars: Mapping[str, Mapping]) -> Echoes | None:
    """What dcm2niix's side-cars tell of a pair; None where something is missing."""
    pair: list[Mapping[str, Any]] = [
        sidecars.get(role, {}) for role in ("in_phase", "out_phase")
    ]
    told = [*(s.get("EchoTime") for s in pair), pair[0].get("MagneticFieldStrength")]
    numbers = [float(v) for v in told if isinstance(v, int | float) and 0 < v < 100]
    if len(numbers) < len(told):
        return None
    return Echoes(1000 * numbers[0], 1000 * numbers[1], numbers[2])


def check_pair(
    in_phase: Real[np.ndarray, "x y z"], out_phase: Real[np.ndarray, "x y z"]
) -> list[PairFault]:
    """What is wrong with the echoes of a scan, from their voxels.

    Args:
        in_phase: magnitudes, (x, y, z).
        out_phase: of the same shape.
    """
    if np.array_equal(in_phase, out_phase):
        reason = "in-phase and out-of-phase images are identical: every MFI will be 0 %"
        return [PairFault("do_not_use", reason)]
    total = in_phase + out_phase
    body = total > 0.1 * np.percentile(total, 99)
    if not body.any():
        return []
    exchanged = exchanged_phases(in_phase, out_phase)
    low, p90, p98 = _ratios(in_phase, out_phase)
    whole = np.count_nonzero(body) >= FEWEST_VOXELS
    found = []
    if whole and _likeness(total, body) < LEAST_LIKENESS:
        reason = "neighbouring voxels have nothing in common: noise, not an image"
        found.append(PairFault("do_not_use", reason))
    if whole and p90 > NO_PAIR_RATIO:
        reason = (
            f"out-of-phase is more than {p90:.1f} times as bright as in-phase in a "
            "tenth of the body: no pair of echoes (fat and water?)"
        )
        found.append(PairFault("do_not_use", reason))
    elif exchanged:
        found.append(PairFault("do_not_use", exchanged))
    elif whole and p98 - low < LEAST_SPREAD:
        reason = (
            f"out-of-phase is in-phase times {p98:.2f} everywhere: one contrast in both"
        )
        found.append(PairFault("do_not_use", reason))
    elif whole and not WATER_RATIO[0] <= p98 <= WATER_RATIO[1]:
        surely = not WRONG_WATER_RATIO[0] <= p98 <= WRONG_WATER_RATIO[1]
        found.append(PairFault("do_not_use" if surely else "look", _scaled(p98)))
    return found


def exchanged_phases(
    in_phase: Real[np.ndarray, "x y z"], out_phase: Real[np.ndarray, "x y z"]
) -> str:
    """A reason if out-of-phase is the brighter nearly everywhere, or nothing.

    Args:
        in_phase: magnitudes, (x, y, z).
        out_phase: of the same shape.
    """
    total = in_phase + out_phase
    body = total > 0.1 * np.percentile(total, 99)
    brighter = float(np.mean(out_phase[body] > in_phase[body])) if body.any() else 0.0
    if brighter <= EXCHANGED_FRACTION:
        return ""
    return (
        "in-phase and out-of-phase are probably exchanged: out-of-phase is the "
        f"brighter in {100 * brighter:.0f} % of the body"
    )


def check_scales(sidecars: Mapping[str, Mapping]) -> list[PairFault]:
    """What dcm2niix's side-cars say of the scales of the echoes.

    Args:
        sidecars: content by role; those that there are.
    """
    pair = [sidecars.get(role, {}) for role in ("in_phase", "out_phase")]
    slopes = [s.get("PhilipsScaleSlope") for s in pair]
    shown = any(s.get("UsePhilipsFloatNotDisplayScaling") == 0 for s in pair)
    numbers = [v for v in slopes if isinstance(v, int | float) and v > 0]
    if not shown or len(numbers) < 2 or np.isclose(*numbers, rtol=1e-3):
        return []
    reason = (
        f"in-phase and out-of-phase are stored on different scales (PhilipsScaleSlope "
        f"{numbers[0]:g} and {numbers[1]:g}, display values): MFI would be wrong; "
        "convert with dcm2niix -p y"
    )
    return [PairFault("do_not_use", reason)]


def read_sidecars(files: Mapping[str, Path]) -> dict[str, dict]:
    """The .json files beside the images of a scan, by role; what is damaged is not."""
    found = {}
    for role, path in files.items():
        sidecar = path.with_name(stem_of(path) + ".json")
        try:
            content = read_json(sidecar)
        except (OSError, ValueError):
            continue
        if isinstance(content, dict):
            found[role] = content
    return found


def _ratios(in_phase: np.ndarray, out_phase: np.ndarray) -> tuple[float, ...]:
    """5th, 90th and 98th percentile of out-of-phase / in-phase where there is signal.

    Of means over 3 x 3 voxels, so that noise widens them little.
    """
    ip, oop = (
        uniform_filter(v.astype(np.float32), (3, 3, 1)) for v in (in_phase, out_phase)
    )
    signal = in_phase > 0.25 * np.percentile(in_phase, 99)
    signal &= ip > 0
    if not signal.any():
        return 0.0, 1.0, 1.0
    return tuple(np.percentile(oop[signal] / ip[signal], (5, 90, 98)).tolist())


def _likeness(image: np.ndarray, body: np.ndarray) -> float:
    """Correlation of neighbours along x, within the body."""
    inside = body[:-1] & body[1:]
    one, other = image[:-1][inside], image[1:][inside]
    if one.size < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return 1.0
    return float(np.corrcoef(one, other)[0, 1])


def _scaled(ratio: float) -> str:
    what = "lower" if ratio < 1 else "higher"
    effect = "high" if ratio < 1 else "low"
    return (
        f"out-of-phase is on a {what} scale than in-phase (ratio {ratio:.2f} where "
        f"there is water alone, it should be near 1): MFI comes out too {effect}; "
        "convert both with the same scale factors (Philips: dcm2niix -p y)"
    )
