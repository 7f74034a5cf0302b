"""Where a person stands within their own cohort: z-scores and percentiles."""

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

from cervjax.about import NOTICE
from cervjax.cohort.analysis import MFI, VOLUME, Outcome, Rows
from cervjax.cohort.assembly import Cohort, assemble, modelled
from cervjax.cohort.inputs import read_measurements, read_participants
from cervjax.cohort.linear import participant_design
from cervjax.io.tables import write_rows

_SPARE = 3  # people beyond the coefficients


def reference_rows(cohort: Cohort) -> Rows:
    """Each person's MFI and volume beside what their sex, age and BMI lead to expect.

    A person is compared with all others: the regression on sex, age and BMI leaves him
    or her out (externally studentised residuals), so that ``z`` follows Student's t
    with n - 5 degrees of freedom where residuals are normal, and ``percentile`` is its
    distribution. Of the first session.

    Returns:
        A row per person and muscle who has sex, age, BMI and the muscle, with the mean
        and the standard deviation of the paper's rater (18 scans) for context.

    Raises:
        ValueError: too few people, or sex, age and BMI that do not vary.

    Reference: Cook and Weisberg 1982, Residuals and influence in regression.
    """
    rows: Rows = []
    for k, muscle in enumerate(cohort.muscles):
        who = modelled(cohort, k)
        covariates = (cohort.female[who], cohort.age_years[who], cohort.bmi[who])
        design = participant_design(*covariates).matrix
        n, p = design.shape
        if n < p + _SPARE or np.linalg.matrix_rank(design) < p:
            raise ValueError(
                f"{n} people have {muscle}, sex, age and BMI; at least {p + _SPARE} "
                "are needed, of both sexes, of several ages and BMIs"
            )
        of_outcome: dict[Outcome, tuple[np.ndarray, ...]] = {}
        for outcome in (MFI, VOLUME):
            values = getattr(cohort, outcome.key)[0][who, k]
            of_outcome[outcome] = (values, *_against_others(values, design))
        names = np.array(cohort.names)[who]
        for i, name in enumerate(names.tolist()):
            row: dict[str, Any] = {"participant_id": name, "muscle": muscle, "n": n}
            for outcome, found in of_outcome.items():
                value, expected, z, percentile = (float(v[i]) for v in found)
                key, unit = outcome.key, outcome.unit
                row |= {
                    f"{key}_{unit}": value,
                    f"{key}_expected_{unit}": expected,
                    f"{key}_z": z,
                    f"{key}_percentile": percentile,
                }
            rows.append(row | _papers(muscle))
    return sorted(rows, key=lambda row: row["participant_id"])


def write_reference(
    measurements: Path,
    participants: Path,
    out: Path,
    *,
    mfi_column: str = "mfi_percent",
    sessions: Sequence[str] = (),
    all_rows: bool = False,
) -> Rows:
    """Writes `reference_rows` of two tables, see `report.analyse_cohort`.

    Raises:
        ValueError: the tables cannot be read, or too few people are in them.
    """
    cohort = assemble(
        read_measurements(measurements, mfi_column=mfi_column, all_rows=all_rows),
        read_participants(participants),
        sessions=sessions,
    )
    try:
        rows = reference_rows(cohort)
    except ValueError as error:
        raise ValueError(f"{measurements}, {participants}: {error}") from error
    write_rows(out, [row | {"limits": NOTICE} for row in rows])
    return rows


def _against_others(
    values: Float[np.ndarray, " n"], design: Float[np.ndarray, "n p"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Expected from the others, studentised residual, percentile."""
    n, p = design.shape
    q, _ = np.linalg.qr(design)
    leverage = (q**2).sum(1)
    residual = values - q @ (q.T @ values)
    left = np.maximum(1 - leverage, 1e-12)
    others = residual / left  # from the regression without this person
    spread = (residual @ residual - residual * others) / (n - p - 1)
    z = residual / np.sqrt(np.maximum(spread, 1e-300) * left)
    return values - others, z, 100 * stats.t.cdf(z, n - p - 1)


def _papers(muscle: str) -> dict[str, float]:
    """Means and standard deviations of the paper's raters: 18 scans, Table 2."""
    text = files("cervjax.cohort").joinpath("paper_table2.json").read_text("utf-8")
    own = json.loads(text)["muscles"][muscle]
    return {f"paper_rater_{name}": value for name, value in own.items()}
