"""How far a measurement may be off: intervals from what it hangs on.

Two things are seen in every scan: how a number changes where the outline moves by a
voxel, and how the opinions differ that a segmentation was put together from (both sides
of test-time augmentation, members of an ensemble). Together they are the number's
spread. How large an error is for a spread is learnt on labelled scans, per muscle
(`fit`), and kept in a table of the weights; with it the interval holds the number of
the true outline in 95 of 100 scans such as these.
"""

from collections.abc import Mapping, Sequence
from math import exp, log, nan, sqrt
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Integer
from scipy.stats import t

from cervjax.anatomy import MUSCLES
from cervjax.measurement.composition import Rows

COVERAGE = 0.95
LEAST_MFI_POINTS, LEAST_VOLUME = 0.2, 0.02
"""Of a spread: the least in points of MFI, and as a share of a volume. Opinions may
agree, and fat inside and outside be the same, by chance."""
SHARED_VALUES = 12
"""Values of a muscle as which the mean variance of all muscles counts."""
SMALLEST_SHARE = 0.05
"""Of a volume, as which a smaller one counts: logarithms have no zero."""

Basis = Literal["calibrated", "uncalibrated", "outline"]
Factors = Mapping[str, Mapping[str, tuple[float, float]]]
"""By muscle (``MFSS``) and quantity ("mfi", "volume"): the ends of the interval, in
spreads from the number; of volumes, of logarithms."""


def measure_opinions(
    opinions: Sequence[Integer[np.ndarray, "x y z"]],
    fat: Float[np.ndarray, "x y z"],
    water: Float[np.ndarray, "x y z"],
    voxel_volume_ml: float,
) -> tuple[Float[np.ndarray, "n 14"], Float[np.ndarray, "n 14"]]:
    """MFI in percent and volume in ml of each muscle as each opinion has it.

    Args:
        opinions: labels 0-14.
        fat: fat signal.
        water: water signal, on the scale of fat.
        voxel_volume_ml: of one voxel.

    Returns:
        NaN is the MFI of a muscle that an opinion has not.
    """
    mfi, volume = [], []
    for labels in opinions:
        at = np.nonzero(labels)
        own = labels[at]
        sums = [
            np.bincount(own, image, len(MUSCLES) + 1)[1:]
            for image in (fat[at].astype(np.float64), water[at].astype(np.float64))
        ]
        total = sums[0] + sums[1]
        undefined = np.full(len(MUSCLES), nan)
        mfi.append(np.divide(100 * sums[0], total, out=undefined, where=total > 0))
        count = np.bincount(own, minlength=len(MUSCLES) + 1)[1:]
        volume.append(count * float(voxel_volume_ml))
    empty = (len(opinions), len(MUSCLES))
    return np.reshape(mfi, empty), np.reshape(volume, empty)


def with_intervals(
    rows: Rows,
    mfi: Float[np.ndarray, "n 14"],
    volume: Float[np.ndarray, "n 14"],
    *,
    basis: Basis,
    factors: Factors | None = None,
) -> Rows:
    """Rows of `scan.measure_scan` with spreads and intervals.

    ``mfi_spread_points`` is the root of the sum of three squares: the root mean squares
    of what MFI changes by where the outline moves and in the opinions, and the least
    spread. ``volume_spread_percent`` is 100 times the same of the volume's logarithm.

    Args:
        rows: one per muscle.
        mfi: of the opinions; none where there are none.
        volume: likewise.
        basis: "calibrated" with factors; else the ends are the smallest and the largest
            of what was seen.
        factors: of the weights.
    """
    found = []
    for k, row in enumerate(rows):
        if not row["voxels"]:
            empty = dict.fromkeys(_COLUMNS, nan)
            found.append(row | empty | {"interval_basis": None})
            continue
        fats = [row["mfi_outline_in_percent"], row["mfi_outline_out_percent"]]
        sizes = [row["volume_outline_in_ml"], row["volume_outline_out_ml"]]
        x, v = row["mfi_percent"], row["volume_ml"]
        spread = _spread(x, fats, mfi[:, k].tolist(), LEAST_MFI_POINTS)
        log_spread = _spread(
            log(v),
            [_log(size, v) for size in sizes],
            [_log(size, v) for size in volume[:, k].tolist()],
            LEAST_VOLUME,
        )
        own = None if factors is None else factors.get(row["muscle"])
        if own is not None:
            ends = *_ends(x, spread, own["mfi"]), *_volumes(v, log_spread, own)
        else:
            ends = (
                *_range([x, *fats, *mfi[:, k].tolist()]),
                *_range([v, *sizes, *volume[:, k].tolist()]),
            )
        values = (spread, 100 * log_spread, *ends)
        kind = basis if own is not None or basis != "calibrated" else "uncalibrated"
        columns = dict(zip(_COLUMNS, values, strict=True))
        found.append(row | columns | {"interval_basis": kind})
    return found


_COLUMNS = (
    "mfi_spread_points",
    "volume_spread_percent",
    "mfi_low_percent",
    "mfi_high_percent",
    "volume_low_ml",
    "volume_high_ml",
)


def apply(row: Mapping[str, Any], factors: Factors) -> dict[str, float]:
    """The four ends of a row that has spreads already.

    Args:
        row: of the table, numbers as numbers.
        factors: of the weights.
    """
    own = factors[row["muscle"]]
    ends = (
        *_ends(row["mfi_percent"], row["mfi_spread_points"], own["mfi"]),
        *_volumes(row["volume_ml"], row["volume_spread_percent"] / 100, own),
    )
    return dict(zip(_COLUMNS[2:], ends, strict=True))


def errors_in_spreads(
    row: Mapping[str, Any], mfi_percent: float, volume_ml: float
) -> tuple[float, float]:
    """How far the truth lies from a row of the table, in the row's spreads.

    Args:
        row: of the table, numbers as numbers.
        mfi_percent: what is true.
        volume_ml: likewise, above 0.
    """
    mfi = (mfi_percent - row["mfi_percent"]) / row["mfi_spread_points"]
    volume = log(volume_ml / row["volume_ml"])
    return mfi, volume / (row["volume_spread_percent"] / 100)


def fit(errors: Mapping[str, Float[np.ndarray, "n 2"]], people: int) -> Factors:
    """The prediction interval of a new person's error, in spreads.

    Mean error plus and minus Student's t times its standard deviation, as for normal
    values; both sides of a person count as one, for they are alike. Of few people some
    muscles' variances come out small by chance: each is drawn towards the mean of all
    muscles', as if that had been seen in `SHARED_VALUES` more.

    Args:
        errors: of each muscle, of all people and sides: `errors_in_spreads`.
        people: how many.

    Raises:
        ValueError: fewer than three people.
    """
    if people < 3:
        raise ValueError(f"intervals need at least 3 labelled scans, got {people}")
    wide = float(t.ppf((1 + COVERAGE) / 2, people - 1)) * sqrt(1 + 1 / people)
    shared = np.mean([values.var(0, ddof=1) for values in errors.values()], 0)
    found = {}
    for muscle, values in errors.items():
        middle, free = values.mean(0), len(values) - 1
        own = free * values.var(0, ddof=1) + SHARED_VALUES * shared
        sd = np.sqrt(own / (free + SHARED_VALUES))
        ends = np.stack([middle - wide * sd, middle + wide * sd], 1).tolist()
        pairs = zip(("mfi", "volume"), ends, strict=True)
        found[muscle] = {name: (float(a), float(b)) for name, (a, b) in pairs}
    return found


def _log(size: float, of: float) -> float:
    return log(max(size, SMALLEST_SHARE * of))


def _spread(
    value: float, moved: Sequence[float], opinions: Sequence[float], least: float
) -> float:
    parts = [_mean_square([v - value for v in vs]) for vs in (moved, opinions)]
    return sqrt(sum(parts) + least**2)


def _mean_square(values: Sequence[float]) -> float:
    known = [v * v for v in values if np.isfinite(v)]
    return sum(known) / len(known) if known else 0.0


def _ends(value: float, spread: float, ends: tuple[float, float]) -> list[float]:
    """The number itself is always within its interval."""
    low, high = ends
    return [value + min(low, 0.0) * spread, value + max(high, 0.0) * spread]


def _volumes(
    volume: float, spread: float, own: Mapping[str, tuple[float, float]]
) -> list[float]:
    return [exp(end) for end in _ends(log(volume), spread, own["volume"])]


def _range(values: Sequence[float]) -> tuple[float, float]:
    known = [v for v in values if np.isfinite(v)]
    return (min(known), max(known)) if known else (nan, nan)
