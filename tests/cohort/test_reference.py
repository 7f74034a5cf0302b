"""A person beside the others of the cohort: z-scores and percentiles."""

import csv
import json

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from test_cohort_report import load, made_up, write

from cervjax.cli.main import main
from cervjax.cohort.reference import reference_rows


def test_z_scores_are_statsmodels_studentised_residuals(tmp_path):
    rows, people = made_up(24)
    cohort = load(write(tmp_path, rows, people))
    found = reference_rows(cohort)
    assert len(found) == 24 * 7
    covariates = np.stack([cohort.female, cohort.age_years, cohort.bmi], 1)
    for k, muscle in enumerate(cohort.muscles):
        own = [row for row in found if row["muscle"] == muscle]
        for key, values in (("mfi", cohort.mfi), ("volume", cohort.volume)):
            fit = sm.OLS(values[0][:, k], sm.add_constant(covariates)).fit()
            z = fit.get_influence().resid_studentized_external
            np.testing.assert_allclose([r[f"{key}_z"] for r in own], z, rtol=1e-6)
            expected = 100 * stats.t.cdf(z, 24 - 5)
            percentiles = [r[f"{key}_percentile"] for r in own]
            np.testing.assert_allclose(percentiles, expected, rtol=1e-6)
    alone = next(r for r in found if r["muscle"] == "LS")
    others = slice(1, None)
    fit = sm.OLS(cohort.mfi[0][others, -1], sm.add_constant(covariates[others])).fit()
    predicted = fit.predict(np.r_[1, covariates[0]][None])[0]
    assert alone["mfi_expected_percent"] == pytest.approx(predicted)


def test_the_command_writes_the_table_with_the_paper_beside(tmp_path, capsys):
    rows, people = made_up(24)
    paths = write(tmp_path, rows, people)
    out = tmp_path / "reference.csv"
    assert main(["reference", *map(str, paths), "-o", str(out)]) == 0
    with open(out, newline="") as stream:
        table = list(csv.DictReader(stream))
    assert len(table) == 24 * 7 and "no norm" in capsys.readouterr().out
    row = next(r for r in table if r["muscle"] == "LC")
    # Table 2: MFI 13.7 - 1.3 and 13.3 - 0.8; volume 8.4 - 3.0 and 7.3 - 1.8
    assert float(row["paper_rater_mfi_mean_percent"]) == pytest.approx(12.45)
    assert float(row["paper_rater_volume_mean_ml"]) == pytest.approx(5.45)
    assert main(["reference", *map(str, paths), "-o", str(out)]) == 2  # it is there


def test_too_few_people_are_told(tmp_path):
    rows, people = made_up(6)
    with pytest.raises(ValueError, match="6 people have MFSS.*at least 7"):
        reference_rows(load(write(tmp_path, rows, people)))


def test_papers_values_are_those_of_its_table(golden):
    """From the numbers of the paper, where they are at hand."""
    shared = golden.parent / "reference" / "paper_tables.json"
    if not shared.is_file():
        pytest.skip("needs ../shared/reference, which is not part of the product")
    paper = json.loads(shared.read_text())["table2_accuracy"]
    from cervjax.cohort.reference import _papers

    for muscle in ("MFSS", "TR"):
        sides = [paper[f"{muscle}_{s}"]["mfi_percent"] for s in "LR"]
        mean = np.mean([s["mean"] - s["bias"] for s in sides])
        assert _papers(muscle)["paper_rater_mfi_mean_percent"] == pytest.approx(mean)
