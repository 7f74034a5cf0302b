import numpy as np
import pytest
from scipy.stats import norm, truncnorm

from cervjax.anatomy import MUSCLES
from cervjax.phantom.subject import (
    HIGHEST_MFI_PERCENT,
    MEAN_MFI_PERCENT,
    draw_change,
    draw_subject,
)

pytestmark = pytest.mark.xdist_group("phantom")
AGE_SLOPE = {"MFSS": 0.16, "LC": 0.15, "SSCap": 0.16}
COHORT = 3000


@pytest.fixture(scope="module")
def subjects():
    return [draw_subject(5, i) for i in range(COHORT)]


def column(subjects, name):
    return np.array([getattr(p, name) for p in subjects])


def test_same_seed_same_subject():
    first, again = draw_subject(3, 8), draw_subject(3, 8)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    for other in (draw_subject(3, 9), draw_subject(4, 8)):
        assert other.height_m != first.height_m or other.bmi != first.bmi
        assert not np.isin(other.mfi_percent, first.mfi_percent).any()
        assert not np.isin(other.muscle_area, first.muscle_area).any()
    assert first.name == "sub-0009"


def test_age_sex_and_size_of_the_cohort(subjects):
    age, bmi = column(subjects, "age_years"), column(subjects, "bmi")
    female, height = column(subjects, "sex") == "F", column(subjects, "height_m")
    cut = truncnorm((18 - 34.2) / 10.7, (65 - 34.2) / 10.7, 34.2, 10.7)
    assert age.mean() == pytest.approx(cut.mean(), abs=4 * 10.7 / COHORT**0.5)
    assert age.std() == pytest.approx(cut.std(), rel=0.05)
    assert female.mean() == pytest.approx(61 / 84, abs=0.03)
    assert bmi.mean() == pytest.approx(25 * np.exp(0.17**2 / 2), abs=0.3)
    assert height[female].mean() == pytest.approx(1.64, abs=0.01)
    assert height[~female].mean() == pytest.approx(1.77, abs=0.01)
    for a, b in ((age, bmi), (age, female), (bmi, female), (bmi, height)):
        assert np.corrcoef(a, b)[0, 1] == pytest.approx(0, abs=4 / COHORT**0.5)


def test_infiltration_of_the_cohort(subjects):
    mfi, age = column(subjects, "mfi_percent"), column(subjects, "age_years")
    for m in MUSCLES:
        # 34.2 years is the mode of the cut normal distribution, not its mean
        wanted = MEAN_MFI_PERCENT[m.key]
        wanted += AGE_SLOPE.get(m.abbreviation, 0) * (age.mean() - 34.2)
        assert mfi[:, m.label - 1].mean() == pytest.approx(wanted, abs=0.3), m.key
    assert mfi.min() >= 3.8


def test_effects_on_infiltration(subjects):
    female = column(subjects, "sex") == "F"
    x = np.stack(
        [
            np.ones(COHORT),
            female,
            column(subjects, "age_years") - 34.2,
            column(subjects, "bmi") - 25,
        ],
        1,
    )
    effects, *_ = np.linalg.lstsq(x, column(subjects, "mfi_percent"), rcond=None)
    _, sex, slope, bmi = effects
    assert sex.mean() == pytest.approx(1.8, abs=0.3)
    np.testing.assert_allclose(sex, 1.8, atol=0.6)
    np.testing.assert_allclose(bmi, 0, atol=0.07)
    for m in MUSCLES:
        wanted = AGE_SLOPE.get(m.abbreviation, 0)
        assert slope[m.label - 1] == pytest.approx(wanted, abs=0.035), m.key


def test_areas_of_the_cohort(subjects):
    area = column(subjects, "muscle_area")
    female = column(subjects, "sex") == "F"
    np.testing.assert_allclose(area.mean(0), 1, atol=0.03)
    ratio = area[female].mean(0) / area[~female].mean(0)
    np.testing.assert_allclose(ratio, 0.78, atol=0.04)
    sides = np.log(area[:, 1::2] / area[:, ::2])  # left over right
    assert (sides.std(0) > 0.05).all()
    error = sides.std(0) / COHORT**0.5
    assert (np.abs(sides.mean(0)) < 4 * error).all()


def test_pathology_is_more_fat_and_less_muscle(subjects):
    ill = [draw_subject(5, i, pathology=True) for i in range(1000)]
    more = column(ill, "mfi_percent").mean(0) - column(subjects, "mfi_percent").mean(0)
    less = column(ill, "muscle_area").mean(0) / column(subjects, "muscle_area").mean(0)
    assert (more > 1.5).all() and (less < 0.99).all()
    assert more[:2].min() > 2 * more[8:].max() > 0  # multifidus above all
    fused = column(ill, "fused_level")
    assert np.mean(fused >= 0) == pytest.approx(0.3, abs=0.06)
    assert (column(subjects, "fused_level") == -1).all()


def test_a_third_worsens(subjects):
    change = np.array([draw_change(5, p) for p in subjects])
    assert np.array_equal(change, [draw_change(5, p) for p in subjects])
    worse = change.any(1)
    share = norm.interval(0.9999, 1 / 3, (2 / 9 / COHORT) ** 0.5)
    assert share[0] < worse.mean() < share[1]
    mfi = column(subjects, "mfi_percent")
    assert (mfi + change <= HIGHEST_MFI_PERCENT + 1e-9).all()
    free = worse & (mfi + 4 < HIGHEST_MFI_PERCENT).all(1)  # nothing is cut off
    assert (change[free] > 0).all()
    mfss, lc, sscap, scm = change[free][:, [0, 2, 6, 8]].T
    assert 1.5 <= mfss.min() < 1.6 and 3.9 < mfss.max() <= 4
    np.testing.assert_allclose(sscap, 0.8 * mfss)
    assert (lc < sscap).all() and (scm < lc).all()
