"""Agreement statistics against published examples, pingouin and hand calculation."""

import warnings

import numpy as np
import pytest

from cervjax.evaluation.agreement import (
    agreement,
    icc21,
    icc21_of,
    slope_through_origin,
)

# Shrout and Fleiss 1979, Table 2: six targets, four judges.
SHROUT_FLEISS = np.array(
    [
        [9, 2, 5, 8],
        [6, 1, 3, 2],
        [8, 4, 6, 8],
        [7, 1, 2, 6],
        [10, 5, 6, 9],
        [6, 2, 4, 7],
    ],
    float,
)


def test_shrout_and_fleiss():
    found = icc21_of(SHROUT_FLEISS)
    assert found.icc == pytest.approx(0.29, abs=0.005)  # as printed
    assert (found.df1, found.df2) == (5, 15)
    assert found.f == pytest.approx(11.24 / 1.02, rel=5e-3)
    assert (found.ci95_low, found.ci95_high) == pytest.approx((0.02, 0.76), abs=0.005)


@pytest.mark.parametrize("n", [3, 18, 60])
@pytest.mark.parametrize("bias", [0.0, 3.0])
def test_icc_is_pingouins(n, bias):
    pingouin = pytest.importorskip("pingouin", reason="pingouin is not installed")
    import pandas

    rng = np.random.default_rng(n)
    reference = rng.normal(15, 4, n)
    predicted = reference + bias + rng.normal(0, 1.5, n)
    long = pandas.DataFrame(
        {
            "scan": np.tile(np.arange(n), 2),
            "rater": np.repeat(["a", "b"], n),
            "value": np.concatenate([predicted, reference]),
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = pingouin.intraclass_corr(long, "scan", "rater", "value")
    names = table["Type"].isin(["ICC2", "ICC(A,1)"])
    row = table[names].iloc[0]
    found = icc21(predicted, reference)
    ci = next(row[c] for c in table.columns if c.startswith("CI95"))
    assert found.icc == pytest.approx(row["ICC"], abs=1e-10)
    assert found.f == pytest.approx(row["F"], rel=1e-9)
    p = next(row[c] for c in table.columns if c in ("pval", "p_val", "p-val"))
    assert found.p == pytest.approx(p, rel=1e-7)
    assert (found.ci95_low, found.ci95_high) == pytest.approx(tuple(ci), abs=0.0051)


def test_icc_covers_what_it_says():
    """The 95 % interval holds the true ICC in 95 % of simulated studies."""
    rng = np.random.default_rng(5)
    truth, hits, studies = 16 / (16 + 1 + 4), 0, 400
    for _ in range(studies):
        targets = rng.normal(0, 4, (30, 1))
        ratings = targets + rng.normal(0, 1, (1, 2)) + rng.normal(0, 2, (30, 2))
        found = icc21_of(ratings)
        hits += found.ci95_low <= truth <= found.ci95_high
    assert 0.91 < hits / studies < 0.985


def test_identical_constant_and_few():
    x = np.arange(5.0)
    same = icc21(x, x)
    assert (same.icc, same.ci95_low, same.ci95_high, same.p) == (1, 1, 1, 0)
    assert np.isnan(icc21(np.ones(5), np.ones(5)).icc)
    assert np.isnan(agreement(np.ones(5), np.ones(5)).r2)
    few = agreement(x[:2], x[:2])
    assert few.n == 2 and np.isnan(few.bias)
    assert np.isnan(icc21(x[:2], x[:2]).icc)


def test_bland_altman_by_hand():
    """Differences 1, 3, 2: mean 2, sd 1."""
    found = agreement(np.array([11.0, 15.0, 22.0]), np.array([10.0, 12.0, 20.0]))
    assert found.bias == 2
    assert (found.loa_low, found.loa_high) == pytest.approx((0.04, 3.96))
    assert found.mae == 2
    assert found.rmse == pytest.approx(np.sqrt(14 / 3))
    assert found.r2 == pytest.approx(np.corrcoef([11, 15, 22], [10, 12, 20])[0, 1] ** 2)
    assert (found.mean, found.reference_mean) == (16, 14)
    assert found.se == pytest.approx(np.std([11, 15, 22], ddof=1) / np.sqrt(3))
    assert found.slope == pytest.approx((110 + 180 + 440) / (121 + 225 + 484))


def test_missing_values_do_not_count():
    x = np.array([1, 2, np.nan, 4, 5.0])
    y = np.array([1, 2, 3, np.nan, 6.0])
    assert agreement(x, y).n == icc21(x, y).n == 3
    assert agreement(x, y).bias == pytest.approx(-1 / 3)
    assert np.isnan(slope_through_origin(np.zeros(4), np.ones(4)))


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="one length"):
        agreement(np.zeros(3), np.zeros(4))
