"""The linear model of one or several outcomes, and its Type III hypotheses."""

from typing import NamedTuple

import numpy as np


class Design(NamedTuple):
    """What participants differ in.

    Attributes:
        matrix: ``(n, p)``; factors are coded to sum to zero over their levels, which
            is what makes the tests of single terms Type III.
        terms: columns of each term but the intercept, which is column 0.
    """

    matrix: np.ndarray
    terms: dict[str, tuple[int, ...]]


class Fit(NamedTuple):
    """A fitted model.

    Attributes:
        coefficients: ``(p, k)``.
        residual_sscp: ``(k, k)`` sums of squares and cross-products of residuals.
        inverse: ``(p, p)`` inverse of X'X.
        error_df: n - p.
    """

    coefficients: np.ndarray
    residual_sscp: np.ndarray
    inverse: np.ndarray
    error_df: int


def participant_design(
    female: np.ndarray, age_years: np.ndarray, bmi: np.ndarray, *, centred: bool = True
) -> Design:
    """Intercept, sex (women +1, men -1), age and BMI.

    Args:
        female: ``(n,)`` 1 or 0.
        age_years: ``(n,)``.
        bmi: ``(n,)`` in kg/m2.
        centred: takes the means off age and BMI, so that the intercept belongs to the
            mean participant instead of one of age 0 and BMI 0.
    """
    covariates = np.stack([age_years, bmi], 1)
    if centred:
        covariates = covariates - covariates.mean(0)
    matrix = np.column_stack([np.ones(len(female)), 2 * female - 1, covariates])
    return Design(matrix, {"sex": (1,), "age": (2,), "bmi": (3,)})


def fit(outcomes: np.ndarray, matrix: np.ndarray) -> Fit:
    """Least squares.

    Args:
        outcomes: ``(n, k)``.
        matrix: ``(n, p)`` of full column rank, n > p.

    Raises:
        ValueError: there are too few rows, or the columns depend on each other.
    """
    n, p = matrix.shape
    if n <= p:
        raise ValueError(f"{p} coefficients need more than {p} participants, got {n}")
    scale = np.linalg.norm(matrix, axis=0)
    q, r = np.linalg.qr(matrix / np.where(scale > 0, scale, 1))
    if np.abs(np.diag(r)).min() < 1e-10:
        raise ValueError("the columns of the design are not linearly independent")
    back = np.linalg.inv(r) / scale[:, None]
    coefficients = back @ (q.T @ outcomes)
    residuals = outcomes - q @ (q.T @ outcomes)
    return Fit(coefficients, residuals.T @ residuals, back @ back.T, n - p)


def hypothesis_sscp(model: Fit, columns: tuple[int, ...]) -> np.ndarray:
    """``(k, k)`` SSCP of the hypothesis that these columns' coefficients are all 0."""
    index = list(columns)
    effect = model.coefficients[index]
    return effect.T @ np.linalg.solve(model.inverse[np.ix_(index, index)], effect)
