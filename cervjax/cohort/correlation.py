"""Partial correlation: how two quantities go together when others are held."""

import numpy as np
from scipy import stats


def partial_correlation(
    outcome: np.ndarray, covariate: np.ndarray, held: np.ndarray
) -> dict[str, float]:
    """Pearson's r of what is left of both after regression on the held columns.

    Args:
        outcome: ``(n,)``.
        covariate: ``(n,)``.
        held: ``(n, c)`` columns to hold; n > c + 3.

    Returns:
        r with its 95 % confidence interval (Fisher's z, standard error
        ``1 / sqrt(n - c - 3)``), p of the t-test with n - c - 2 degrees of freedom, and
        the partial regression slope with its 95 % confidence interval.

    Raises:
        ValueError: participants are too few, or nothing is left of one of the two.
    """
    n, c = held.shape
    if n <= c + 3:
        raise ValueError(
            f"{c} held columns need more than {c + 3} participants, got {n}"
        )
    q = np.linalg.qr(np.column_stack([np.ones(n), held]))[0]
    both = np.stack([outcome, covariate], 1)
    y, x = (both - q @ (q.T @ both)).T
    yy, xx, xy = y @ y, x @ x, x @ y
    if min(yy / (outcome @ outcome + 1e-300), xx / (covariate @ covariate)) < 1e-20:
        raise ValueError("outcome or covariate follows from the held columns")
    r = float(np.clip(xy / np.sqrt(xx * yy), -1, 1))
    df = n - c - 2
    slope = float(xy / xx)
    slope_se = float(np.sqrt(max(yy - slope * xy, 0) / df / xx))
    unexplained = max(1 - r**2, 1e-300)
    t = r * np.sqrt(df / unexplained)
    z = np.arctanh(min(abs(r), 1 - 1e-16)) * np.sign(r)
    margin = stats.norm.ppf(0.975) / np.sqrt(n - c - 3)
    half = stats.t.ppf(0.975, df) * slope_se
    return {
        "n": n,
        "r": r,
        "r_ci_low": float(np.tanh(z - margin)),
        "r_ci_high": float(np.tanh(z + margin)),
        "df": df,
        "p": float(2 * stats.t.sf(abs(t), df)),
        "slope": slope,
        "slope_ci_low": float(slope - half),
        "slope_ci_high": float(slope + half),
    }
