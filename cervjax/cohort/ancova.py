"""Women against men in one muscle: one-way analysis of covariance."""

import numpy as np
from scipy import stats

from cervjax.cohort.linear import Design, fit, hypothesis_sscp


def sex_effect(values: np.ndarray, design: Design) -> dict[str, float]:
    """Tests sex with the covariates held, and estimates the marginal means.

    Args:
        values: ``(n,)`` outcome.
        design: of `linear.participant_design`, women +1 and men -1 in its sex column.

    Returns:
        Type III F of sex with p and partial eta squared; means of women and men at the
        means of the covariates, and women less men, with standard errors and 95 %
        confidence intervals.

    Raises:
        ValueError: as `linear.fit`, or nothing is left to vary.
    """
    model = fit(values[:, None], design.matrix)
    (sex,) = design.terms["sex"]
    effect = float(hypothesis_sscp(model, (sex,))[0, 0])
    error = float(model.residual_sscp[0, 0])
    if not error > 1e-20 * values @ values:
        raise ValueError("the outcome follows from the design without rest")
    f = effect / (error / model.error_df)
    at = design.matrix.mean(0)
    row = {
        "n_female": int((design.matrix[:, sex] > 0).sum()),
        "n_male": int((design.matrix[:, sex] < 0).sum()),
        "f": f,
        "df": 1,
        "error_df": model.error_df,
        "p": float(stats.f.sf(f, 1, model.error_df)),
        "partial_eta_squared": effect / (effect + error),
    }
    step = np.zeros_like(at)
    step[sex] = 2.0
    female, male = at.copy(), at.copy()
    female[sex], male[sex] = 1.0, -1.0
    half = stats.t.ppf(0.975, model.error_df)
    for name, weights in (
        ("mean_female", female),
        ("mean_male", male),
        ("difference", step),
    ):
        value = float(weights @ model.coefficients[:, 0])
        variance = weights @ model.inverse @ weights * error / model.error_df
        se = float(np.sqrt(variance))
        row |= {
            name: value,
            f"{name}_se": se,
            f"{name}_ci_low": value - half * se,
            f"{name}_ci_high": value + half * se,
        }
    return row
