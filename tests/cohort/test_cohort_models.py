"""The models against published results, statsmodels, pingouin and scipy."""

import warnings

import numpy as np
import pandas as pd
import pingouin
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from scipy import stats
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.multitest import multipletests

from cervjax.cohort.ancova import sex_effect
from cervjax.cohort.correlation import partial_correlation
from cervjax.cohort.linear import Design, fit, hypothesis_sscp, participant_design
from cervjax.cohort.multiplicity import holm, with_corrections
from cervjax.cohort.page import f_sentence, f_text
from cervjax.cohort.paired import (
    agreement_limits,
    paired_test,
    smallest_detectable_change,
)
from cervjax.cohort.repeated import (
    ASSUMED,
    GREENHOUSE_GEISSER,
    HUYNH_FELDT,
    repeated_measures,
)

# O'Brien and Kaiser, Psychological Bulletin 1985;97:316, Table 7: treatment, gender,
# then hours 1-5 of pretest, posttest and follow-up.
OBRIEN_KAISER = """
c M 1 2 4 2 1 3 2 5 3 2 2 3 2 4 4
c M 4 4 5 3 4 2 2 3 5 3 4 5 6 4 1
c M 5 6 5 7 7 4 5 7 5 4 7 6 9 7 6
c F 5 4 7 5 4 2 2 3 5 3 4 4 5 3 4
c F 3 4 6 4 3 6 7 8 6 3 4 3 6 4 3
A M 7 8 7 9 9 9 9 10 8 9 9 10 11 9 6
A M 5 5 6 4 5 7 7 8 10 8 8 9 11 9 8
A F 2 3 5 3 2 2 4 8 6 5 6 6 7 5 6
A F 3 3 4 6 4 4 5 6 4 1 5 4 7 5 4
B M 4 4 5 3 4 6 7 6 8 8 8 8 9 7 8
B M 3 3 4 2 3 5 4 7 5 4 5 6 8 6 5
B M 6 7 8 6 3 9 10 11 9 6 8 7 10 8 7
B F 5 5 6 8 6 4 6 6 8 6 7 7 8 10 8
B F 2 2 3 1 2 5 6 7 5 2 6 7 8 6 3
B F 2 2 3 4 4 6 6 7 9 7 7 7 8 6 7
B F 4 5 7 5 4 7 7 8 6 7 7 8 10 8 7
"""
# The covariate that R's afex adds to them (data set obk.long).
AGE = [
    -4.75,
    -2.75,
    1.25,
    7.25,
    -5.75,
    7.25,
    8.25,
    2.25,
    2.25,
    -7.75,
    -5.75,
    -5.75,
    3.25,
    -2.75,
    4.25,
    -0.75,
]
# afex's examples, univariate Type III tests of treatment * gender + age (R, car):
# SS, df, F, p, p after Greenhouse-Geisser, p after Huynh-Feldt.
HOUR = {
    "hour": (108.513510, 4, 20.5192290, 7.001584e-09, 1.302016e-05, 8.046331e-07),
    "hour x treatment": (7.547869, 8, 0.7136275, 0.6779072, 0.6010781, 0.6342676),
    "hour x gender": (3.746135, 4, 0.7083708, 0.5915285, 0.5137213, 0.5478398),
    "hour x age": (14.904567, 4, 2.8183608, 3.926421e-02, 8.155027e-02, 6.211130e-02),
    "hour x both": (6.235198, 8, 0.5895186, 0.7798264, 0.6843526, 0.7263729),
}
PHASE = {
    "phase": (134.586005, 2, 20.2810632, 2.448505e-05, 8.383485e-05, 2.448505e-05),
    "phase x treatment": (
        80.604542,
        4,
        6.0732385,
        2.826803e-03,
        5.159591e-03,
        2.826803e-03,
    ),
    "phase x gender": (1.634246, 2, 0.2462681, 0.7843036, 0.7493990, 0.7843036),
    "phase x age": (20.553392, 2, 3.0972362, 6.982439e-02, 8.073373e-02, 6.982439e-02),
    "phase x both": (21.254421, 4, 1.6014379, 0.2170946, 0.2279698, 0.2170946),
}
BETWEEN = {
    "treatment": (171.399953, 2, 3.5765187, 7.193619e-02),
    "gender": (94.598340, 1, 3.9478742, 7.818280e-02),
    "age": (12.398975, 1, 0.5174466, 0.4901885),
    "both": (61.531858, 2, 1.2839551, 0.3231798),
}


def obrien_kaiser():
    """Values (16, phase, hour) and the design, factors coded to sum to zero."""
    rows = [line.split() for line in OBRIEN_KAISER.split("\n") if line]
    values = np.array([row[2:] for row in rows], float).reshape(16, 3, 5)
    codes = {"c": (1, 0), "A": (0, 1), "B": (-1, -1)}
    treatment = np.array([codes[row[0]] for row in rows], float)
    gender = np.array([{"F": 1.0, "M": -1.0}[row[1]] for row in rows])
    matrix = np.column_stack(
        [np.ones(16), treatment, gender, AGE, treatment * gender[:, None]]
    )
    terms = {"treatment": (1, 2), "gender": (3,), "age": (4,), "both": (5, 6)}
    return values, Design(matrix, terms)


def people(n=40, k=7, seed=0):
    """Unbalanced sexes, correlated covariates, muscles of unequal spread."""
    rng = np.random.default_rng(seed)
    female = (rng.random(n) < 0.7).astype(float)
    age = rng.normal(40, 11, n)
    bmi = 20 + 0.1 * age + 2 * female + rng.normal(0, 3, n)
    noise = rng.normal(0, 1, (n, k)) * np.linspace(1, 4, k) + rng.normal(0, 2, (n, 1))
    effect = np.outer(female, np.linspace(0, 2, k)) + np.outer(
        age, np.linspace(0, 0.1, k)
    )
    return female, age, bmi, 10 + np.arange(k) + effect + noise


def frame(female, age, bmi, y):
    sex = np.where(female == 1, "F", "M")
    return pd.DataFrame({"y": y, "sex": sex, "age": age, "bmi": bmi})


def long_form(values, **columns):
    n, k = values.shape
    data = {"who": np.repeat(np.arange(n), k), "muscle": np.tile(np.arange(k), n)}
    data |= {name: np.repeat(column, k) for name, column in columns.items()}
    return pd.DataFrame(data | {"y": values.ravel()})


def quietly(function, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)


# --- repeated measures


@pytest.mark.parametrize(
    "axis, within, published, w, p, gg, hf",
    [
        (1, "hour", HOUR, 0.0966749877, 0.04923980, 0.5341747, 0.7054545),
        (2, "phase", PHASE, 0.8217571566, 0.45600959, 0.8487215, 1.0252867),
    ],
)
def test_obrien_kaiser_with_age_as_published(axis, within, published, w, p, gg, hf):
    values, design = obrien_kaiser()
    # Tests of one factor are those of the means over the other's levels.
    averaged, levels = values.mean(axis), values.shape[axis]
    found = repeated_measures(averaged, design, within=within)
    sphericity = found.sphericity
    assert sphericity.mauchly_w == pytest.approx(w, rel=1e-7)
    # R puts 15, the number of columns, for one of the d in the second-order term.
    d = averaged.shape[1] - 1
    first, second = stats.chi2.sf(sphericity.chi2, [sphericity.df, sphericity.df + 4])
    rho = -sphericity.chi2 / (9 * np.log(w))
    weight = (d + 2) * (d - 1) * (d - 2) / (288 * (9 * d * rho) ** 2)
    weight *= 2 * d**3 + 6 * d**2 + 2 + 3 * np.array([d, 15])
    ours, theirs = first + weight * (second - first)
    assert theirs == pytest.approx(p, rel=1e-6)
    assert sphericity.p == pytest.approx(ours, rel=1e-6)
    assert sphericity.epsilon_greenhouse_geisser == pytest.approx(gg, rel=1e-6)
    assert sphericity.epsilon_huynh_feldt == pytest.approx(min(hf, 1), rel=1e-6)
    rows = {(r["term"], r["correction"]): r for r in found.within}
    assert len(rows) == 15 == len(found.within)
    for term, (ss, df, f, *ps) in published.items():
        plain = rows[term, ASSUMED]
        assert plain["sum_of_squares"] * levels == pytest.approx(ss, rel=1e-6)
        assert plain["df"] == df and plain["error_df"] == 9 * (averaged.shape[1] - 1)
        for name, wanted in zip(
            (ASSUMED, GREENHOUSE_GEISSER, HUYNH_FELDT), ps, strict=True
        ):
            assert rows[term, name]["f"] == pytest.approx(f, rel=1e-6)
            assert rows[term, name]["p"] == pytest.approx(wanted, rel=1e-5)


def test_mauchly_p_is_what_chance_does():
    """Of O'Brien and Kaiser's hours: 4 contrasts, 9 degrees of freedom."""
    values, design = obrien_kaiser()
    s = repeated_measures(values.mean(1), design).sphericity
    noise = np.random.default_rng(0).normal(size=(200_000, 9, 4))
    sscp = np.einsum("rni,rnj->rij", noise, noise)
    spread = np.trace(sscp, axis1=1, axis2=2) / 4
    share = np.mean(np.linalg.det(sscp) / spread**4 < s.mauchly_w)
    assert share == pytest.approx(s.p, abs=0.0015)  # 0.048; first order alone: 0.0438


def test_obrien_kaiser_between_people_as_published():
    values, design = obrien_kaiser()
    found = repeated_measures(values.mean(1), design)
    assert [r["term"] for r in found.between] == list(BETWEEN)
    for row in found.between:
        ss, df, f, p = BETWEEN[row["term"]]
        assert row["sum_of_squares"] * 3 == pytest.approx(ss, rel=1e-6)
        assert (row["df"], row["error_df"]) == (df, 9)
        assert row["f"] == pytest.approx(f, rel=1e-6)
        assert row["p"] == pytest.approx(p, rel=1e-6)
        assert row["error_sum_of_squares"] * 3 == pytest.approx(215.65658, rel=1e-6)


def test_as_published_in_an_f_string():
    values, design = obrien_kaiser()
    found = repeated_measures(values.mean(1), design, within="hour")
    row = found.within[1]
    assert (row["term"], row["correction"]) == ("hour", GREENHOUSE_GEISSER)
    assert f_text(row) == "F(2.1, 19.2) = 20.52"
    eta = 108.513510 / (108.513510 + 47.59543)
    assert row["partial_eta_squared"] == pytest.approx(eta, rel=1e-6)
    assert f_sentence(row).endswith(f"p <0.001, partial eta squared {eta:.2f}")


def test_one_group_equals_pingouin():
    values = people(15, 5)[3]
    data = long_form(values)
    table = quietly(
        pingouin.rm_anova,
        data,
        dv="y",
        within="muscle",
        subject="who",
        correction=True,
        detailed=True,
        effsize="np2",
    ).iloc[0]
    w = quietly(pingouin.sphericity, data, dv="y", within="muscle", subject="who")
    hf = quietly(
        pingouin.epsilon, data, dv="y", within="muscle", subject="who", correction="hf"
    )
    plain, gg, _ = (
        found := repeated_measures(values, Design(np.ones((15, 1)), {}))
    ).within
    assert plain["f"] == pytest.approx(table["F"])
    assert plain["p"] == pytest.approx(table["p_unc"])
    assert plain["partial_eta_squared"] == pytest.approx(table["np2"])
    assert gg["p"] == pytest.approx(table["p_GG_corr"])
    s = found.sphericity
    assert s.epsilon_greenhouse_geisser == pytest.approx(table["eps"])
    assert (s.mauchly_w, s.chi2, s.df) == pytest.approx((w.W, w.chi2, w.dof))
    assert s.p == pytest.approx(w.pval, rel=2e-3)  # as R: see above
    # With one group Lecoutre's correction changes nothing.
    assert s.epsilon_huynh_feldt == pytest.approx(hf)
    assert s.epsilon_huynh_feldt_1976 == pytest.approx(hf)


def test_two_groups_equal_pingouin():
    values = people(20, 4, seed=3)[3]
    group = np.arange(20) % 2
    data = long_form(values, group=group)
    table = quietly(
        pingouin.mixed_anova,
        data,
        dv="y",
        within="muscle",
        subject="who",
        between="group",
    ).set_index("Source")
    design = Design(np.column_stack([np.ones(20), 2 * group - 1]), {"group": (1,)})
    found = repeated_measures(values, design)
    rows = {r["term"]: r for r in found.within if r["correction"] == ASSUMED}
    rows |= {r["term"]: r for r in found.between}
    for ours, theirs in (
        ("muscle", "muscle"),
        ("muscle x group", "Interaction"),
        ("group", "group"),
    ):
        row, wanted = rows[ours], table.loc[theirs]
        assert row["f"] == pytest.approx(wanted["F"])
        assert (row["df"], row["error_df"]) == (wanted["DF1"], wanted["DF2"])
        assert row["p"] == pytest.approx(wanted["p_unc"])
        assert row["partial_eta_squared"] == pytest.approx(wanted["np2"])
        assert row["sum_of_squares"] == pytest.approx(wanted["SS"])


@pytest.mark.parametrize("term", ["", "sex", "age", "bmi"])
def test_covariates_equal_a_long_model_with_a_column_per_person(term):
    female, age, bmi, values = people()
    design = participant_design(female, age, bmi)
    n, k = values.shape
    steps = np.vstack([np.eye(k - 1), -np.ones(k - 1)])  # sum coding
    people_columns = {
        "": np.ones(n),
        "sex": np.where(female == 1, 1, -1),
        "age": age - age.mean(),
        "bmi": bmi - bmi.mean(),
    }
    blocks = {
        key: np.einsum("n,kd->nkd", column, steps).reshape(n * k, -1)
        for key, column in people_columns.items()
    }
    who = np.repeat(np.eye(n), k, 0)
    full = sm.OLS(values.ravel(), np.hstack([who, *blocks.values()])).fit()
    rest = [block for name, block in blocks.items() if name != term]
    reduced = sm.OLS(values.ravel(), np.hstack([who, *rest])).fit()
    f, p, df = full.compare_f_test(reduced)
    name = f"muscle x {term}" if term else "muscle"
    (row,) = [
        r
        for r in repeated_measures(values, design).within
        if r["term"] == name and r["correction"] == ASSUMED
    ]
    assert (row["f"], row["p"], row["df"]) == pytest.approx((f, p, df))
    assert row["error_df"] == full.df_resid == (n - 4) * (k - 1)


def test_between_people_equals_statsmodels_of_the_mean():
    female, age, bmi, values = people()
    found = repeated_measures(values, participant_design(female, age, bmi))
    model = smf.ols(
        "y ~ C(sex, Sum) + age + bmi", frame(female, age, bmi, values.mean(1))
    )
    table = anova_lm(model.fit(), typ=3)
    for row, name in zip(found.between, ("C(sex, Sum)", "age", "bmi"), strict=True):
        assert row["f"] == pytest.approx(table.loc[name, "F"])
        assert row["p"] == pytest.approx(table.loc[name, "PR(>F)"])


def test_two_levels_are_a_paired_test_and_always_spherical():
    values = people(12, 2)[3]
    found = repeated_measures(values, Design(np.ones((12, 1)), {}))
    t = stats.ttest_rel(values[:, 1], values[:, 0])
    for row in found.within:
        assert (row["f"], row["p"]) == pytest.approx((t.statistic**2, t.pvalue))
    assert found.sphericity[:2] == (1, 0) and found.sphericity[4:] == (1, 1, 1)


def test_degrees_of_freedom_of_the_paper():
    female, age, bmi, values = people(84, 7)
    found = repeated_measures(values, participant_design(female, age, bmi))
    epsilon = found.sphericity.epsilon_greenhouse_geisser
    assert 1 / 6 < epsilon < 1 and found.sphericity.df == 20
    for row in found.within:
        assert row["error_df"] == pytest.approx(480 * row["epsilon"])
        assert row["df"] == pytest.approx(6 * row["epsilon"])
    assert found.within[1]["epsilon"] == epsilon
    assert [row["error_df"] for row in found.between] == [80, 80, 80]
    # The paper's own: epsilon 0.75375.
    row = {"df": 6 * 0.75375, "error_df": 480 * 0.75375, "f": 1.0}
    assert f_text(row) == "F(4.5, 361.8) = 1.00"


def test_huynh_feldt_by_hand():
    female, age, bmi, values = people(30, 7)
    s = repeated_measures(values, participant_design(female, age, bmi)).sphericity
    e = 6 * s.epsilon_greenhouse_geisser
    assert s.epsilon_huynh_feldt == pytest.approx((27 * e - 2) / (6 * (26 - e)))
    assert s.epsilon_huynh_feldt_1976 == pytest.approx((30 * e - 2) / (6 * (26 - e)))


def test_centring_changes_the_muscles_main_effect_only():
    female, age, bmi, values = people()
    a, b = (
        repeated_measures(values, participant_design(female, age, bmi, centred=c))
        for c in (True, False)
    )
    assert a.sphericity == pytest.approx(b.sphericity)
    for x, y in zip(a.within[3:] + a.between, b.within[3:] + b.between, strict=True):
        assert x == pytest.approx(y, rel=1e-7)
    assert a.within[0]["f"] > 10 * b.within[0]["f"]
    # At the mean person: weighted means of the sexes, not of the people.
    design = participant_design(female, age, bmi)
    moved = participant_design(female, age + 100, 2 * bmi)
    assert design.matrix[:, 2] == pytest.approx(moved.matrix[:, 2])


def test_order_and_unit_of_the_muscles_do_not_matter():
    female, age, bmi, values = people()
    design = participant_design(female, age, bmi)
    a = repeated_measures(values, design)
    b = repeated_measures(1000 * values[:, [3, 1, 6, 0, 2, 5, 4]] + 7, design)
    assert a.sphericity == pytest.approx(b.sphericity)
    for x, y in zip(a.within, b.within, strict=True):
        assert (x["f"], x["p"]) == pytest.approx((y["f"], y["p"]))


def test_fewer_people_than_muscles_have_no_mauchly_test():
    female, age, bmi, values = people(9, 7, seed=2)
    s = repeated_measures(values, participant_design(female, age, bmi)).sphericity
    assert np.isnan([s.mauchly_w, s.chi2, s.p]).all()
    assert 1 / 6 <= s.epsilon_greenhouse_geisser <= 1


def test_repeated_measures_refuses():
    female, age, bmi, values = people(10, 3)
    design = participant_design(female, age, bmi)
    with pytest.raises(ValueError, match="of 10 participants, got .9, 3."):
        repeated_measures(values[:9], design)
    with pytest.raises(ValueError, match="complete"):
        repeated_measures(np.where(values == values[4, 1], np.nan, values), design)
    with pytest.raises(ValueError, match="nothing varies within participants"):
        repeated_measures(values[:, :1] + np.arange(3.0), design)
    with pytest.raises(ValueError, match="linearly independent"):
        repeated_measures(values, participant_design(female, age, 2 * age + 1))
    with pytest.raises(ValueError, match="more than 4 participants, got 4"):
        repeated_measures(values[:4], Design(design.matrix[:4], design.terms))


def test_linear_model_equals_numpy():
    female, age, bmi, values = people()
    matrix = participant_design(female, age, bmi, centred=False).matrix
    model = fit(values, matrix)
    wanted, residual, *_ = np.linalg.lstsq(matrix, values, rcond=None)
    np.testing.assert_allclose(model.coefficients, wanted, rtol=1e-8)
    np.testing.assert_allclose(np.diag(model.residual_sscp), residual, rtol=1e-9)
    np.testing.assert_allclose(
        model.inverse, np.linalg.inv(matrix.T @ matrix), rtol=1e-6
    )
    # Two columns at once: what the fit loses without them.
    without = np.linalg.lstsq(matrix[:, :2], values, rcond=None)[1]
    gained = np.diag(hypothesis_sscp(model, (2, 3)))
    np.testing.assert_allclose(gained, without - residual, rtol=1e-7)


# --- one muscle


def test_sex_effect_equals_statsmodels():
    female, age, bmi, values = people()
    y = values[:, 3]
    data = frame(female, age, bmi, y)
    result = smf.ols("y ~ C(sex, Sum) + age + bmi", data).fit()
    table = anova_lm(result, typ=3)
    for centred in (True, False):
        row = sex_effect(y, participant_design(female, age, bmi, centred=centred))
        assert row["f"] == pytest.approx(table.loc["C(sex, Sum)", "F"])
        assert row["p"] == pytest.approx(table.loc["C(sex, Sum)", "PR(>F)"])
        ss = table.loc["C(sex, Sum)", "sum_sq"]
        eta = ss / (ss + table.loc["Residual", "sum_sq"])
        assert row["partial_eta_squared"] == pytest.approx(eta)
        assert (row["n_female"], row["n_male"]) == (female.sum(), 40 - female.sum())
        at = pd.DataFrame({"sex": ["F", "M"], "age": age.mean(), "bmi": bmi.mean()})
        means = result.get_prediction(at).summary_frame()
        for i, name in enumerate(("mean_female", "mean_male")):
            found = [
                row[f"{name}{part}"] for part in ("", "_se", "_ci_low", "_ci_high")
            ]
            wanted = means[["mean", "mean_se", "mean_ci_lower", "mean_ci_upper"]].iloc[
                i
            ]
            assert found == pytest.approx(list(wanted))
        # Women less men: treatment coding with men as the reference.
        other = smf.ols("y ~ C(sex, Treatment('M')) + age + bmi", data).fit()
        name = other.params.index[1]
        found = [row[f"difference{p}"] for p in ("", "_se", "_ci_low", "_ci_high")]
        wanted = [other.params[name], other.bse[name], *other.conf_int().loc[name]]
        assert found == pytest.approx(wanted)


def test_outcome_without_rest_is_refused():
    design = participant_design(np.arange(8) % 2.0, np.arange(8.0), np.arange(8.0) ** 2)
    with pytest.raises(ValueError, match="without rest"):
        sex_effect(3 + np.arange(8.0) / 7, design)
    mirrored = np.outer(np.random.default_rng(0).normal(size=8), [1, -1])
    with pytest.raises(ValueError, match="without rest"):
        repeated_measures(mirrored, design)


@pytest.mark.parametrize("n", [8, 60])
def test_partial_correlation_equals_pingouin_and_statsmodels(n):
    female, age, bmi, values = people(n)
    y = values[:, 5]
    data = frame(female, age, bmi, y).assign(female=female)
    row = partial_correlation(y, age, np.stack([female, bmi], 1))
    table = quietly(pingouin.partial_corr, data, "age", "y", ["female", "bmi"]).iloc[0]
    assert row["r"] == pytest.approx(table["r"])
    assert row["p"] == pytest.approx(table["p_val"])
    assert [row["r_ci_low"], row["r_ci_high"]] == pytest.approx(
        table["CI95"], abs=0.006
    )
    z = np.arctanh(row["r"]) + 1.959964 / np.sqrt(n - 2 - 3) * np.array([-1, 1])
    assert [row["r_ci_low"], row["r_ci_high"]] == pytest.approx(np.tanh(z), rel=1e-5)
    model = smf.ols("y ~ female + age + bmi", data).fit()
    found = [row["slope"], row["slope_ci_low"], row["slope_ci_high"], row["p"]]
    wanted = [model.params["age"], *model.conf_int().loc["age"], model.pvalues["age"]]
    assert found == pytest.approx(wanted)


def test_perfect_partial_correlation_is_no_accident():
    female, age, bmi, _ = people()
    row = partial_correlation(3 - age + bmi, age, np.stack([female, bmi], 1))
    assert row["r"] == pytest.approx(-1) and row["p"] < 1e-100
    assert row["slope"] == pytest.approx(-1)
    with pytest.raises(ValueError, match="follows from the held"):
        partial_correlation(age, bmi + female, np.stack([female, bmi], 1))
    with pytest.raises(ValueError, match="more than 5 participants, got 5"):
        partial_correlation(age[:5], bmi[:5], np.ones((5, 2)))


# --- pairs


def test_paired_test_equals_scipy():
    values = people(25)[3]
    first, second = values[:, 0].copy(), values[:, 1].copy()
    first[3], second[7] = np.nan, np.nan
    row = paired_test(first, second)
    t = stats.ttest_rel(second, first, nan_policy="omit")
    assert (row["n"], row["df"]) == (23, 22) == (23, t.df)
    assert (row["t"], row["p"]) == pytest.approx((t.statistic, t.pvalue))
    low, high = t.confidence_interval(0.95)
    assert (row["difference_ci_low"], row["difference_ci_high"]) == pytest.approx(
        (low, high)
    )
    assert row["cohens_dz"] == pytest.approx(row["t"] / np.sqrt(23))
    assert row["difference_sd"] == pytest.approx(np.nanstd(second - first, ddof=1))


def test_paired_test_refuses():
    with pytest.raises(ValueError, match="3 participants with both values, got 2"):
        paired_test(np.array([1.0, 2, np.nan]), np.array([2.0, 1, 3]))
    with pytest.raises(ValueError, match="difference is 0.1 in all 3"):
        paired_test(np.array([0.1, 0.2, 0.3]), np.array([0.2, 0.3, 0.4]))


def test_limits_by_hand():
    # SD of repeated measurements 2: SEM = 2 / sqrt 2, SDC = 1.96 sqrt 2 SEM.
    row = agreement_limits(0.5, 2.0)
    assert (row["limit_low"], row["limit_high"]) == pytest.approx((-3.42, 4.42))
    sem = 2 / np.sqrt(2)
    assert smallest_detectable_change(2.0) == pytest.approx(1.96 * np.sqrt(2) * sem)


# --- many tests


def test_corrections_equal_statsmodels_and_pingouin():
    p = np.random.default_rng(0).beta(0.3, 2, 21)
    p[4] = p[9] = 0.0123  # Holm: the second one of a tie may not go below the first
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])
    np.testing.assert_allclose(
        holm(p), pingouin.multicomp(p.tolist(), method="holm")[1]
    )
    rows = with_corrections([{"p": float(v), "x": 1} for v in p])
    found = [row["p_fdr"] for row in rows]
    np.testing.assert_allclose(found, multipletests(p, method="fdr_bh")[1])
    np.testing.assert_allclose([row["p_holm"] for row in rows], holm(p))
    assert list(rows[0]) == ["p", "p_holm", "p_fdr", "x"]


def test_families_are_corrected_on_their_own():
    rows = [{"f": name, "p": p} for p in (0.01, 0.03, 0.04) for name in "ab"]
    rows = with_corrections(rows, lambda row: row["f"])
    assert [r["p_holm"] for r in rows] == pytest.approx([0.03, 0.03] + [0.06] * 4)
    assert [r["p_fdr"] for r in rows] == pytest.approx([0.03, 0.03] + [0.04] * 4)
