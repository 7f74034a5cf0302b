"""Simulated cohorts: what is planted is found, and what is not is found by chance."""

import numpy as np
import pytest
from scipy import stats

from cervjax.anatomy import MUSCLES
from cervjax.cohort.analysis import MFI, VOLUME, analyse
from cervjax.cohort.ancova import sex_effect
from cervjax.cohort.assembly import MUSCLE_NAMES, assemble
from cervjax.cohort.inputs import Measurement, Participant
from cervjax.cohort.linear import participant_design
from cervjax.cohort.repeated import (
    ASSUMED,
    GREENHOUSE_GEISSER,
    HUYNH_FELDT,
    repeated_measures,
)
from cervjax.cohort.repeats import Repeats
from cervjax.phantom.subject import (
    AGE_SLOPE_POINTS_PER_YEAR,
    SEX_EFFECT_POINTS,
    draw_change,
    draw_subject,
)

PEOPLE, COHORTS = 84, 150
NULL_OF_AGE = [m for m in MUSCLE_NAMES if AGE_SLOPE_POINTS_PER_YEAR[m] == 0]


def cohort(seed, *, sessions=1, noise=0.0):
    rng = np.random.default_rng([seed, 99])
    rows, people = [], []
    for i in range(PEOPLE):
        who = draw_subject(seed, i)
        people.append(Participant(who.name, who.sex, who.age_years, who.bmi))
        for session in range(1, sessions + 1):
            mfi = who.mfi_percent + noise * rng.normal(size=14)
            if session == 2:
                mfi = mfi + draw_change(seed, who)
            scan = who.name + (f"_ses-{session}" if sessions == 2 else "")
            for m in MUSCLES:
                volume = 10 * float(who.muscle_area[m.label - 1])
                rows.append(
                    Measurement(
                        scan, m.abbreviation, m.side, float(mfi[m.label - 1]), volume
                    )
                )
    return assemble(rows, people)


@pytest.fixture(scope="module")
def tables():
    """The analyses of many cohorts of the paper's size."""
    return [analyse(cohort(seed), MFI) for seed in range(COHORTS)]


def nominal(p, level=0.05):
    """Whether as many p are below the level as chance gives, but for 1 in 1000."""
    low, high = stats.binom.ppf([0.0005, 0.9995], len(p), level)
    return low <= np.sum(np.asarray(p) < level) <= high


def column(tables, name, key, **where):
    return np.array(
        [
            [row[key] for row in t[name] if all(row[k] == v for k, v in where.items())]
            for t in tables
        ]
    ).squeeze(1)


def within(tables, term, key="p"):
    return column(tables, "within", key, term=term, correction=GREENHOUSE_GEISSER)


@pytest.mark.slow
def test_women_have_more_fat_by_what_was_planted(tables):
    for muscle in MUSCLE_NAMES:
        found = column(tables, "sex", "difference_points", muscle=muscle)
        error = found.std(ddof=1) / np.sqrt(COHORTS)
        # The clipping of what is drawn takes a little off.
        assert found.mean() == pytest.approx(SEX_EFFECT_POINTS, abs=4 * error + 0.1)
    assert np.mean(column(tables, "between", "p", term="sex") < 0.05) > 0.6


def test_intervals_of_the_sexes_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(3)
    covered = []
    for _ in range(400):
        female = (rng.random(40) < 0.7).astype(float)
        age, bmi = rng.normal(40, 9, 40), rng.normal(25, 4, 40)
        values = 10 + 1.8 * female + 0.1 * (age - age.mean()) + rng.normal(size=40)
        row = sex_effect(values, participant_design(female, age, bmi))
        covered.append(
            [
                row[f"{name}_ci_low"] <= true <= row[f"{name}_ci_high"]
                for name, true in (
                    ("difference", 1.8),
                    ("mean_female", 11.8),
                    ("mean_male", 10.0),
                )
            ]
        )
    for inside in np.transpose(covered):
        assert nominal(inside.astype(float))  # 0, below the level, is a miss


@pytest.mark.slow
def test_age_acts_on_the_deep_muscles_alone(tables):
    for muscle in MUSCLE_NAMES:
        where = {"covariate": "age_years", "muscle": muscle}
        slope = column(tables, "correlations", "slope_points_per_unit", **where)
        error = slope.std(ddof=1) / np.sqrt(COHORTS)
        true = AGE_SLOPE_POINTS_PER_YEAR[muscle]
        assert slope.mean() == pytest.approx(true, abs=4 * error + 0.01)
        p = column(tables, "correlations", "p", **where)
        if muscle in NULL_OF_AGE:
            assert nominal(p)
        else:
            assert np.mean(p < 0.05) > 0.75
    assert np.mean(within(tables, "muscle x age") < 0.05) > 0.9


@pytest.mark.slow
def test_muscles_differ(tables):
    assert (within(tables, "muscle") < 1e-10).all()
    p = column(tables, "pairs", "p_holm", muscle="MFSS", less_muscle="LS")
    assert (p < 0.001).all()


@pytest.mark.slow
def test_bmi_and_equal_effects_are_found_by_chance_only(tables):
    assert nominal(column(tables, "between", "p", term="bmi"))
    assert nominal(within(tables, "muscle x bmi"))
    for muscle in MUSCLE_NAMES:
        where = {"covariate": "bmi_kg_m2", "muscle": muscle}
        assert nominal(column(tables, "correlations", "p", **where))
        low, high = (
            column(tables, "correlations", f"r_ci_{end}", **where)
            for end in ("low", "high")
        )
        assert nominal(np.where((low < 0) & (high > 0), 1.0, 0.0))


@pytest.mark.slow
def test_holm_keeps_false_findings_of_a_family_rare(tables):
    smallest = np.min(
        [
            column(tables, "correlations", "p_holm", covariate="bmi_kg_m2", muscle=m)
            for m in MUSCLE_NAMES
        ],
        0,
    )
    uncorrected = np.min(
        [
            column(tables, "correlations", "p", covariate="bmi_kg_m2", muscle=m)
            for m in MUSCLE_NAMES
        ],
        0,
    )
    assert np.sum(smallest < 0.05) <= stats.binom.ppf(0.9995, COHORTS, 0.05)
    assert not nominal(uncorrected)


def test_corrections_of_sphericity_keep_the_rate_that_is_lost_without_them():
    rng = np.random.default_rng(1)
    spread = np.array([1, 1, 1, 1, 1, 4, 9.0])
    ps = {name: [] for name in (ASSUMED, GREENHOUSE_GEISSER, HUYNH_FELDT)}
    for _ in range(400):
        female = (np.arange(30) % 3 > 0).astype(float)
        design = participant_design(
            female, rng.normal(40, 9, 30), rng.normal(25, 4, 30)
        )
        values = rng.normal(size=(30, 7)) * spread + rng.normal(size=(30, 1))
        found = repeated_measures(values, design)
        assert found.sphericity.p < 1e-6
        for row in found.within:
            if row["term"] == "muscle x age":
                ps[row["correction"]].append(row["p"])
    assert nominal(ps[GREENHOUSE_GEISSER]) and nominal(ps[HUYNH_FELDT])
    assert not nominal(ps[ASSUMED])


def test_mauchly_is_nominal_where_spherical():
    rng = np.random.default_rng(2)
    design = participant_design(
        np.arange(20) % 2.0, rng.normal(40, 9, 20), rng.normal(25, 4, 20)
    )
    found = []
    for _ in range(400):
        values = rng.normal(size=(20, 7)) + rng.normal(size=(20, 1))
        found.append(repeated_measures(values, design))
    assert nominal([f.sphericity.p for f in found])
    assert nominal([f.within[0]["p"] for f in found])


def test_planted_change_is_found():
    seed, noise = 7, 0.4
    who = cohort(seed, sessions=2, noise=noise)
    found = analyse(who, MFI)
    true = np.array([draw_change(seed, draw_subject(seed, i)) for i in range(PEOPLE)])
    true = (true[:, ::2] + true[:, 1::2]) / 2  # sides
    for k, row in enumerate(found["change"]):
        error = noise / np.sqrt(PEOPLE)  # two sides, two sessions
        assert row["change_points"] == pytest.approx(true[:, k].mean(), abs=4 * error)
        spread = np.hypot(true[:, k].std(ddof=1), noise)
        assert row["change_sd_points"] == pytest.approx(spread, rel=0.25)
        assert row["smallest_detectable_change_points"] == pytest.approx(
            1.96 * row["change_sd_points"]
        )
        assert row["p_holm"] < 0.05
    worse = {f"sub-{i + 1:04d}" for i in np.flatnonzero(true[:, 0])}
    assert 15 < len(worse) < 45
    beyond = {
        r["participant_id"]
        for r in found["change_participants"]
        if r["exceeds"] and r["muscle"] == "MFSS"
    }
    assert beyond and beyond <= worse
    # Unchanged people tell the noise alone: more of the change is seen.
    rng = np.random.default_rng(0)
    pure = Repeats(40, float((noise * rng.normal(size=40)).std(ddof=1)))
    better = analyse(who, MFI, unchanged=dict.fromkeys(who.muscles, pure))
    seen = {
        r["participant_id"]
        for r in better["change_participants"]
        if r["exceeds"] and r["muscle"] == "MFSS"
    }
    assert beyond < seen and len(worse - seen) <= 3  # of those near the cap
    assert len(seen - worse) <= stats.binom.ppf(0.999, PEOPLE - len(worse), 0.07)
    # Baseline alone makes the other tables.
    alone = who._replace(sessions=("1",), mfi=who.mfi[:1], volume=who.volume[:1])
    assert found["sex"] == analyse(alone, MFI)["sex"]


@pytest.mark.slow
def test_no_change_is_found_by_chance_only():
    ps, base = [], cohort(0)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        first = rng.normal(10, 3, (1, PEOPLE, 7))
        both = np.concatenate([first, first]) + 0.5 * rng.normal(size=(2, PEOPLE, 7))
        fake = base._replace(sessions=("1", "2"), mfi=both, volume=both)
        ps += [row["p"] for row in analyse(fake, VOLUME)["change"]]
    assert nominal(ps)
