"""Agreement of two sets of measurements of the same things: the paper's Tables 2 and 3.

Functions of paired numbers, ``predicted`` and ``reference``, both (n,). A pair with a
NaN on either side does not count. Too few pairs, or no variation where it is needed,
give NaN: not known, never 0.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

MIN_PAIRS = 3
"""Fewer pairs have no statistics."""


class Agreement(NamedTuple):
    """A row of Table 2, in the units of what is measured.

    Attributes:
        n: pairs.
        reference_mean, reference_se: of the reference.
        mean, se: of the prediction, and its standard error.
        bias: mean of prediction - reference.
        loa_low, loa_high: 95 % limits of agreement, bias -+ 1.96 sd (Bland, Altman).
        mae: mean absolute difference.
        rmse: root of the mean squared difference.
        r2: squared correlation.
        slope: of the line through the origin, reference = slope x prediction (Fig. 3).
    """

    n: int
    reference_mean: float
    reference_se: float
    mean: float
    se: float
    bias: float
    loa_low: float
    loa_high: float
    mae: float
    rmse: float
    r2: float
    slope: float


class Reliability(NamedTuple):
    """A row of Table 3: ICC(2,1), absolute agreement, of single measurements.

    Attributes:
        n: pairs.
        icc: the coefficient.
        ci95_low, ci95_high: its 95 % confidence interval.
        f, df1, df2, p: test that it is zero.
    """

    n: int
    icc: float
    ci95_low: float
    ci95_high: float
    f: float
    df1: float
    df2: float
    p: float


def agreement(predicted: np.ndarray, reference: np.ndarray) -> Agreement:
    """Bias, limits of agreement, errors and correlation of paired numbers."""
    predicted, reference = _pairs(predicted, reference)
    n = len(predicted)
    if n < MIN_PAIRS:
        return Agreement(n, *[np.nan] * 11)
    difference = predicted - reference
    bias, sd = difference.mean(), difference.std(ddof=1)
    return Agreement(
        n,
        float(reference.mean()),
        float(reference.std(ddof=1) / np.sqrt(n)),
        float(predicted.mean()),
        float(predicted.std(ddof=1) / np.sqrt(n)),
        float(bias),
        float(bias - 1.96 * sd),
        float(bias + 1.96 * sd),
        float(np.abs(difference).mean()),
        float(np.sqrt(np.square(difference).mean())),
        _correlation(predicted, reference) ** 2,
        slope_through_origin(predicted, reference),
    )


def slope_through_origin(predicted: np.ndarray, reference: np.ndarray) -> float:
    """Least-squares ``reference = slope x prediction``: the paper's calibration."""
    predicted, reference = _pairs(predicted, reference)
    power = float(predicted @ predicted)
    return float(predicted @ reference) / power if power > 0 else np.nan


def icc21(predicted: np.ndarray, reference: np.ndarray) -> Reliability:
    """ICC(2,1) of two raters with confidence interval and F test.

    Two-way random effects, absolute agreement, one measurement: Shrout and Fleiss 1979;
    interval and test as McGraw and Wong 1996. Not clipped at zero.
    """
    return icc21_of(np.stack(_pairs(predicted, reference), axis=1))


def icc21_of(ratings: np.ndarray) -> Reliability:
    """`icc21` of any number of raters, ``ratings`` (n, raters) without NaN."""
    n, k = ratings.shape
    if n < MIN_PAIRS:
        return Reliability(n, *[np.nan] * 7)
    grand = ratings.mean()
    between = k * np.square(ratings.mean(1) - grand).sum() / (n - 1)
    raters = n * np.square(ratings.mean(0) - grand).sum() / (k - 1)
    rows, columns = ratings.mean(1, keepdims=True), ratings.mean(0, keepdims=True)
    df1, df2 = n - 1, (n - 1) * (k - 1)
    error = np.square(ratings - rows - columns + grand).sum() / df2
    total = between + (k - 1) * error + k * (raters - error) / n
    if total <= 1e-12 * max(grand**2, 1e-300):  # nothing varies
        return Reliability(n, *[np.nan] * 7)
    icc = (between - error) / total
    if error == 0:
        f, p = np.inf, 0.0
    else:
        f = between / error
        p = float(stats.f.sf(f, df1, df2))
    low, high = _interval(float(icc), float(between), float(raters), float(error), n, k)
    return Reliability(n, float(icc), low, high, float(f), float(df1), float(df2), p)


def _interval(
    icc: float, between: float, raters: float, error: float, n: int, k: int
) -> tuple[float, float]:
    """McGraw and Wong's Table 7, case 2A; Satterthwaite's degrees of freedom."""
    if error == 0 and raters == 0:
        return 1.0, 1.0
    if icc >= 1:
        return np.nan, np.nan
    a = k * icc / (n * (1 - icc))
    b = 1 + k * icc * (n - 1) / (n * (1 - icc))
    spread = a * raters + b * error
    parts = (a * raters) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1))
    if parts == 0:
        return np.nan, np.nan
    df = spread**2 / parts
    upper, lower = stats.f.ppf(0.975, n - 1, df), stats.f.ppf(0.975, df, n - 1)
    rest = k * raters + (k * n - k - n) * error
    low = n * (between - upper * error) / (upper * rest + n * between)
    high = n * (lower * between - error) / (rest + n * lower * between)
    return float(low), float(high)


def _pairs(
    predicted: np.ndarray, reference: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    predicted, reference = (np.asarray(v, np.float64) for v in (predicted, reference))
    if predicted.shape != reference.shape or predicted.ndim != 1:
        raise ValueError(
            "paired numbers must have one length, got shapes "
            f"{predicted.shape} and {reference.shape}"
        )
    known = np.isfinite(predicted) & np.isfinite(reference)
    return predicted[known], reference[known]


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    spread = a.std() * b.std()
    if spread <= 1e-12 * max(abs(a.mean() * b.mean()), 1e-300):
        return np.nan
    return float(((a - a.mean()) * (b - b.mean())).mean() / spread)
