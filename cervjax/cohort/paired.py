"""Paired comparisons: of two muscles, or of two sessions.

The smallest detectable change of a participant is 1.96 SD of the differences between
two measurements (de Vet et al., J Clin Epidemiol 2006;59:1033), half the width of
Bland and Altman's limits of agreement (Lancet 1986;327:307).
"""

import numpy as np
from scipy import stats

_NORMAL = 1.96


def paired_test(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Student's t-test of ``second - first``, over participants who have both.

    Args:
        first: ``(n,)``, NaN where missing.
        second: ``(n,)``, NaN where missing.

    Returns:
        n, mean and SD of the difference with 95 % confidence interval of the mean, t,
        df, p and Cohen's dz (mean over SD of the difference).

    Raises:
        ValueError: fewer than 3 participants have both, or nothing varies.
    """
    difference = second - first
    difference = difference[np.isfinite(difference)]
    n = difference.size
    if n < 3:
        raise ValueError(
            f"a paired test needs 3 participants with both values, got {n}"
        )
    mean, sd = float(difference.mean()), float(difference.std(ddof=1))
    size = np.abs(first[np.isfinite(first)]).max() + abs(mean)
    if sd <= 1e-12 * size:
        raise ValueError(f"the difference is {mean:g} in all {n} participants")
    se = sd / np.sqrt(n)
    half = stats.t.ppf(0.975, n - 1) * se
    return {
        "n": n,
        "difference": mean,
        "difference_sd": sd,
        "difference_ci_low": float(mean - half),
        "difference_ci_high": float(mean + half),
        "t": float(mean / se),
        "df": n - 1,
        "p": float(2 * stats.t.sf(abs(mean / se), n - 1)),
        "cohens_dz": mean / sd,
    }


def agreement_limits(mean: float, sd: float) -> dict[str, float]:
    """95 % limits of agreement (Bland and Altman 1986)."""
    return {"limit_low": mean - _NORMAL * sd, "limit_high": mean + _NORMAL * sd}


def smallest_detectable_change(sd: float) -> float:
    """Of one participant, from the SD of differences between two measurements."""
    return _NORMAL * sd
