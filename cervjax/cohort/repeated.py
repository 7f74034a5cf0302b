"""Repeated-measures analysis of covariance; tests of sphericity and corrections.

One factor within participants (the muscle), any design between them. The univariate
tests come from the multivariate linear model of orthonormal contrasts over the levels,
whose sums of squares are traces of SSCP matrices.

Sources: Mauchly 1940 (W) with the chi-square approximation to second order (Anderson,
An Introduction to Multivariate Statistical Analysis), Geisser and Greenhouse 1958,
Huynh and Feldt 1976 with the correction of Lecoutre 1991. R's mauchly.test puts the
number of levels for one of the numbers of contrasts in the second-order term, so its p
differs in the second or third digit.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from cervjax.cohort.linear import Design, fit, hypothesis_sscp

ASSUMED, GREENHOUSE_GEISSER, HUYNH_FELDT = (
    "sphericity assumed",
    "Greenhouse-Geisser",
    "Huynh-Feldt",
)


class Sphericity(NamedTuple):
    """Mauchly's test and the two epsilons.

    Attributes:
        mauchly_w: 0-1; 1 is spherical. NaN if there are too few participants.
        chi2: its chi-square approximation.
        df: degrees of freedom of chi2.
        p: of chi2.
        epsilon_greenhouse_geisser: epsilon, from 1 / (levels - 1) to 1.
        epsilon_huynh_feldt: epsilon after Lecoutre, at most 1.
        epsilon_huynh_feldt_1976: epsilon after the original formula, at most 1.
    """

    mauchly_w: float
    chi2: float
    df: int
    p: float
    epsilon_greenhouse_geisser: float
    epsilon_huynh_feldt: float
    epsilon_huynh_feldt_1976: float


class RepeatedMeasures(NamedTuple):
    """Tests within and between participants, and the sphericity of the former."""

    within: list[dict[str, Any]]
    between: list[dict[str, Any]]
    sphericity: Sphericity


def repeated_measures(
    values: np.ndarray, design: Design, *, within: str = "muscle"
) -> RepeatedMeasures:
    """Type III tests of the within-participant factor, its interactions, and the terms.

    Args:
        values: ``(n, k)`` outcome of n participants at k >= 2 levels, complete.
        design: of the participants.
        within: name of the factor.

    Returns:
        Within participants, three rows per term: sphericity assumed, Greenhouse-Geisser
        and Huynh-Feldt. Sums of squares are those of k values each, as in SPSS.

    Raises:
        ValueError: a shape is wrong, values are missing, participants are too few, or
            nothing is left to vary within or between participants.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or values.shape[1] < 2 or len(values) != len(design.matrix):
        raise ValueError(
            f"values must be (n, levels >= 2) of {len(design.matrix)} participants, "
            f"got {values.shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError(
            "values must be complete: leave participants with missing ones out"
        )
    steps = values.shape[1] - 1
    model = fit(values @ _contrasts_and_mean(steps + 1), design.matrix)
    error = model.residual_sscp[:steps, :steps]
    rounding = 1e-20 * np.square(values).sum()
    if not np.trace(error) > rounding:
        raise ValueError(
            f"nothing varies within participants beyond the {within}'s means"
        )
    if not model.residual_sscp[-1, -1] > rounding:
        raise ValueError("the participants' means follow from the design without rest")
    sphericity = _sphericity(error, model.error_df, design.matrix.shape[1])
    epsilons = {
        ASSUMED: 1.0,
        GREENHOUSE_GEISSER: sphericity.epsilon_greenhouse_geisser,
        HUYNH_FELDT: sphericity.epsilon_huynh_feldt,
    }
    inside, between = [], []
    for term, columns in {"": (0,), **design.terms}.items():
        sscp = hypothesis_sscp(model, columns)
        effect, rest = float(np.trace(sscp[:steps, :steps])), float(np.trace(error))
        df, error_df = len(columns) * steps, model.error_df * steps
        name = f"{within} x {term}" if term else within
        inside += [
            {"term": name, "correction": correction, "epsilon": epsilon}
            | _test(effect, rest, df, error_df, epsilon)
            for correction, epsilon in epsilons.items()
        ]
        if term:
            effect, rest = float(sscp[-1, -1]), float(model.residual_sscp[-1, -1])
            test = _test(effect, rest, len(columns), model.error_df)
            between.append({"term": term} | test)
    return RepeatedMeasures(inside, between, sphericity)


def _contrasts_and_mean(levels: int) -> np.ndarray:
    """``(levels, levels)`` orthonormal columns: contrasts, and last the mean's."""
    basis = np.eye(levels)
    basis[:, 0] = 1
    return np.roll(np.linalg.qr(basis)[0], -1, axis=1)


def _test(
    effect: float, error: float, df: int, error_df: int, epsilon: float = 1.0
) -> dict[str, float]:
    f = (effect / df) / (error / error_df)
    return {
        "sum_of_squares": effect,
        "error_sum_of_squares": error,
        "f": f,
        "df": df * epsilon,
        "error_df": error_df * epsilon,
        "p": float(stats.f.sf(f, df * epsilon, error_df * epsilon)),
        "partial_eta_squared": effect / (effect + error),
    }


def _sphericity(error: np.ndarray, error_df: int, coefficients: int) -> Sphericity:
    """Of the contrasts' ``(d, d)`` residual SSCP."""
    d = len(error)
    trace = np.trace(error)
    gg = float(trace**2 / (d * np.square(error).sum()))
    hf = _huynh_feldt(gg, d, error_df, error_df + 1)
    original = _huynh_feldt(gg, d, error_df, error_df + coefficients)
    if d == 1:
        return Sphericity(1.0, 0.0, 0, 1.0, 1.0, 1.0, 1.0)
    if error_df < d:
        nan = float("nan")
        return Sphericity(nan, nan, d * (d + 1) // 2 - 1, nan, gg, hf, original)
    w = float(np.exp(np.linalg.slogdet(error)[1] - d * np.log(trace / d)))
    rho = 1 - (2 * d**2 + d + 2) / (6 * d * error_df)
    df, chi2 = d * (d + 1) // 2 - 1, float(-rho * error_df * np.log(w))
    weight = (d + 2) * (d - 1) * (d - 2) * (2 * d**3 + 6 * d**2 + 3 * d + 2)
    weight /= 288 * (d * error_df * rho) ** 2
    first, second = stats.chi2.sf(chi2, [df, df + 4])
    p = float(np.clip(first + weight * (second - first), 0, 1))
    return Sphericity(w, chi2, df, p, gg, hf, original)


def _huynh_feldt(gg: float, d: int, error_df: int, participants: int) -> float:
    """``participants`` is n in 1976 and ``error_df + 1`` after Lecoutre."""
    below = d * (error_df - d * gg)
    return min(1.0, (participants * d * gg - 2) / below) if below > 0 else 1.0
