"""What a protocol will give: against closed forms, statsmodels, and a scanned neck."""

import csv

import numpy as np
import pytest
from statsmodels.stats.power import TTestIndPower, TTestPower

from cervjax.cli.main import main
from cervjax.cohort.planning import people_needed, plan
from cervjax.phantom import trial
from cervjax.phantom.trial import Protocol, people, sequence_of, trial_rows


@pytest.mark.parametrize("sd", [0.5, 1.0, 3.0])
def test_people_needed_are_statsmodels(sd):
    how = {"power": 0.8, "alpha": 0.05}
    paired = TTestPower().solve_power(1 / sd, **how)
    groups = TTestIndPower().solve_power(1 / sd, **how)
    for found, n in (
        (people_needed(sd, 1.0, groups=1, **how), paired),
        (people_needed(sd, 1.0, groups=2, **how), groups),
    ):
        assert found == max(2, int(np.ceil(float(np.squeeze(n)))))
    assert people_needed(1e6, 1.0, groups=1, **how) is None
    assert people_needed(0.0, 1.0, groups=1, **how) == 2


def test_a_known_bias_and_noise_come_back():
    rng = np.random.default_rng(0)
    true = np.repeat(rng.normal(12, 4, (4000, 1)), 2, 1)
    measured = true + 3 + rng.normal(0, 0.5, true.shape)
    (row,) = plan({"LC": measured}, {"LC": true}, effect=1.0)
    assert row["bias"] == pytest.approx(3, abs=0.03)
    assert row["limit_high"] - row["limit_low"] == pytest.approx(3.92 * 0.5, rel=0.03)
    assert row["repeat_sd"] == pytest.approx(0.5 * np.sqrt(2), rel=0.03)
    expected = 1.96 * 0.5 * np.sqrt(2)
    assert row["smallest_detectable_change"] == pytest.approx(expected, rel=0.03)
    assert row["people_sd"] == pytest.approx(4, rel=0.05)


def test_who_is_not_covered_is_not_counted():
    values = np.array([[1, 2], [np.nan, 2], [3, 4.5], [4, 4.0]])
    rows = plan(
        {"TR": values, "LS": values[:2]}, {"TR": values, "LS": values[:2]}, effect=1
    )
    assert [row["people"] for row in rows] == [3, 1] and "bias" not in rows[1]
    with pytest.raises(ValueError, match="effect must be positive"):
        plan({}, {}, effect=-1)


@pytest.mark.parametrize(
    ("te", "field", "swapped"),
    [((2.46, 3.69), 3, False), ((1.15, 2.3), 3, True), ((2.3, 4.6), 1.5, True)],
)
def test_echoes_may_come_in_any_order(te, field, swapped):
    sequence = sequence_of(te, field_t=field)
    pair = (sequence.te_in_ms, sequence.te_out_ms)
    assert pair == (te[::-1] if swapped else te)


@pytest.mark.parametrize("te", [(2.3, 4.6), (1.7, 2.3), (2.46, 2.46)])
def test_echoes_that_are_no_pair_are_refused(te):
    with pytest.raises(ValueError, match="not one out of phase and one in phase"):
        sequence_of(te)


@pytest.mark.slow
def test_a_person_scanned_twice(neck, monkeypatch):
    """Noise-free the two scans differ little; fat's peaks and T2* make a bias."""
    monkeypatch.setattr(trial, "build_neck", lambda subject, anatomy: neck)
    protocol = Protocol(sequence_of((2.46, 3.69)), (2.0, 6.0), 1e6, 110, "clean")
    rows = trial_rows(protocol, 0, 0)
    assert len(rows) == 28
    mfi, pdff = people(rows, "mfi_percent"), people(rows, "pdff_percent")
    for muscle in mfi:
        assert mfi[muscle].shape == (1, 2)
        assert abs(np.diff(mfi[muscle])[0, 0]) < 3
        assert 1 < (mfi[muscle] - pdff[muscle]).mean() < 8


def test_the_command(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)

    def quick(protocol, seed, index):
        row = {"label": 3, "muscle": "LC", "volume_ml": 5.0}
        return [
            row
            | {
                "scan": f"sub-{index}_ses-{s}",
                "side": side,
                "pdff_percent": 10.0,
                "mfi_percent": 13 + rng.normal(),
            }
            for s in (1, 2)
            for side in ("left", "right")
        ]

    monkeypatch.setattr(trial, "trial_rows", quick)
    out = tmp_path / "plan.csv"
    argv = ["protocol", "--people", "5", "--workers", "1", "-o", str(out)]
    assert main(argv) == 0
    assert "true outlines" in capsys.readouterr().out
    with open(out, newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert row["people"] == "5" and 1 < float(row["bias_points"]) < 5
    for bad in (("--te1", "9.9"), ("--spacing", "1", "2", "3"), ("--snr", "0")):
        assert main([*argv, "--overwrite", *bad]) == 2
        assert capsys.readouterr().err.count("\n") == 1
