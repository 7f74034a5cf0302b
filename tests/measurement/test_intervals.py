"""Spreads, intervals, what is learnt of them, and the table that keeps it."""

from math import exp, log, sqrt

import numpy as np
import pytest
from block_neck import block_neck, echoes

from cervjax.anatomy import MUSCLES
from cervjax.io.dixon import fat_water
from cervjax.measurement.composition import measure
from cervjax.measurement.interval_table import (
    Intervals,
    beside,
    read_intervals,
    write_intervals,
)
from cervjax.measurement.intervals import (
    LEAST_MFI_POINTS,
    LEAST_VOLUME,
    apply,
    errors_in_spreads,
    fit,
    measure_opinions,
    with_intervals,
)

NAMES = [m.abbreviation for m in MUSCLES[::2]]
FACTORS = {name: {"mfi": (-1.0, 2.0), "volume": (-3.0, 1.0)} for name in NAMES}
NOTHING = np.zeros((0, 14))


def rows(**changes):
    """Each muscle 10 % of fat and 20 ml, 9 and 12 %, 10 and 40 ml in and out."""
    row = {
        "voxels": 100,
        "mfi_percent": 10.0,
        "mfi_outline_in_percent": 9.0,
        "mfi_outline_out_percent": 12.0,
        "volume_ml": 20.0,
        "volume_outline_in_ml": 10.0,
        "volume_outline_out_ml": 40.0,
    }
    return [{"muscle": m.abbreviation} | row | changes for m in MUSCLES]


def test_opinions_are_measured_as_muscles_are():
    neck = block_neck()
    both = fat_water(*echoes(neck))
    fewer = np.where(neck == 3, 0, neck)
    fewer[:, :, : neck.shape[2] // 2] = 0
    mfi, volume = measure_opinions([neck, fewer], both.fat, both.water, 0.003)
    assert mfi.shape == volume.shape == (2, 14)
    for k, labels in enumerate((neck, fewer)):
        expected = measure(labels, both.fat, both.water, voxel_volume_ml=0.003)
        for i, row in enumerate(expected):
            assert volume[k, i] == pytest.approx(row["volume_ml"])
            assert mfi[k, i] == pytest.approx(row["mfi_percent"], nan_ok=True)
    assert np.isnan(mfi[1, 2]) and not volume[1, 2]


def test_spread_is_the_root_of_the_sum_of_squares():
    opinions = np.full((2, 14), 10.0), np.full((2, 14), 20.0)
    opinions[0][:, 4] = 7, 13  # SPCap right
    opinions[1][:, 4] = 16, 25
    found = with_intervals(rows(), *opinions, basis="uncalibrated")
    moved, least = (1**2 + 2**2) / 2, LEAST_MFI_POINTS**2
    assert found[0]["mfi_spread_points"] == pytest.approx(sqrt(moved + least))
    assert found[4]["mfi_spread_points"] == pytest.approx(sqrt(moved + 9 + least))
    logs = log(2) ** 2 + (log(0.8) ** 2 + log(1.25) ** 2) / 2 + LEAST_VOLUME**2
    assert found[4]["volume_spread_percent"] == pytest.approx(100 * sqrt(logs))
    row = found[4]
    assert (row["mfi_low_percent"], row["mfi_high_percent"]) == (7, 13)
    assert (row["volume_low_ml"], row["volume_high_ml"]) == (10, 40)
    assert {r["interval_basis"] for r in found} == {"uncalibrated"}


def test_calibrated_intervals_are_factors_times_spread():
    found = with_intervals(
        rows(), NOTHING, NOTHING, basis="calibrated", factors=FACTORS
    )
    for row in found:
        spread, share = row["mfi_spread_points"], row["volume_spread_percent"] / 100
        assert row["mfi_low_percent"] == pytest.approx(10 - spread)
        assert row["mfi_high_percent"] == pytest.approx(10 + 2 * spread)
        assert row["volume_low_ml"] == pytest.approx(20 * exp(-3 * share))
        assert row["volume_high_ml"] == pytest.approx(20 * exp(share))
        assert row["interval_basis"] == "calibrated"
        assert apply(row, FACTORS).items() <= row.items()


def test_a_number_is_within_its_interval_however_biased():
    factors = {name: {"mfi": (1.0, 2.0), "volume": (-3.0, -1.0)} for name in NAMES}
    found = with_intervals(
        rows(), NOTHING, NOTHING, basis="calibrated", factors=factors
    )
    assert found[0]["mfi_low_percent"] == 10
    assert found[0]["volume_high_ml"] == pytest.approx(20)


def test_muscles_that_are_absent_tiny_or_not_in_the_table():
    absent = with_intervals(rows(voxels=0), NOTHING, NOTHING, basis="outline")
    assert np.isnan(absent[0]["mfi_low_percent"]) and not absent[0]["interval_basis"]
    nothing_left = {"mfi_outline_in_percent": np.nan, "volume_outline_in_ml": 0.0}
    tiny = with_intervals(rows(**nothing_left), NOTHING, NOTHING, basis="outline")
    assert tiny[0]["mfi_spread_points"] == pytest.approx(sqrt(4 + 0.04))
    assert np.isfinite(tiny[0]["volume_spread_percent"])
    assert tiny[0]["volume_low_ml"] == 0 and tiny[0]["mfi_low_percent"] == 10
    some = {"LC": FACTORS["LC"]}
    found = with_intervals(rows(), NOTHING, NOTHING, basis="calibrated", factors=some)
    of = {row["muscle"]: row["interval_basis"] for row in found}
    assert of == dict.fromkeys(NAMES, "uncalibrated") | {"LC": "calibrated"}


def test_learnt_intervals_hold_95_of_100_new_errors():
    """Normal errors, biased, of few people; and far fewer with a third of the width."""
    rng, held, short = np.random.default_rng(0), [], []
    for _ in range(300):
        errors = rng.normal([0.5, -1], [1, 2], (8, 2))
        ends = np.array(list(fit({"LC": errors}, 8)["LC"].values()))
        new = rng.normal([0.5, -1], [1, 2], (50, 2))
        middle, half = ends.mean(1), np.ptp(ends, 1) / 2
        away = np.abs(new - middle)
        held.append(away <= half)
        short.append(away <= half / 3)
    np.testing.assert_allclose(np.mean(held, (0, 1)), 0.95, atol=0.01)
    assert np.mean(short) < 0.65


def test_variances_of_few_values_are_drawn_towards_those_of_all_muscles():
    rng = np.random.default_rng(0)
    errors = {name: rng.normal(0, 1, (6, 2)) for name in NAMES}
    errors["TR"] *= 1e-6  # by chance alike
    widths = {k: np.ptp(list(v.values()), 1) for k, v in fit(errors, 3).items()}
    shared = np.mean([v.var(0, ddof=1) for v in errors.values()], 0)
    ratio = np.sqrt(12 / 17 * shared) / np.sqrt(
        (12 * shared + 5 * errors["LC"].var(0, ddof=1)) / 17
    )
    np.testing.assert_allclose(widths["TR"] / widths["LC"], ratio, rtol=1e-4)


def test_errors_are_in_the_spreads_of_the_row():
    (row, *_) = with_intervals(rows(), NOTHING, NOTHING, basis="outline")
    mfi = row["mfi_percent"] + 2 * row["mfi_spread_points"]
    volume = row["volume_ml"] * exp(-row["volume_spread_percent"] / 100)
    assert errors_in_spreads(row, mfi, volume) == pytest.approx((2, -1))


def test_too_few_people_are_refused():
    with pytest.raises(ValueError, match="at least 3 labelled scans, got 2"):
        fit({"LC": np.ones((4, 2))}, 2)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "a.intervals.json"
    write_intervals(path, Intervals(FACTORS, "ab cd", {"tta": 2}, "6 necks"))
    return path


def test_the_table_is_read_as_it_was_written(table):
    found = read_intervals(table)
    assert found.factors == FACTORS and found.source == "6 necks"
    assert found.fit_to("ab cd", {"tta": 2})
    assert not found.fit_to("ab", {"tta": 2}) and not found.fit_to("ab cd", {"tta": 4})
    assert beside(table.with_name("a.safetensors")) == table
    assert beside(table.parent) == table.parent / "weights.intervals.json"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"LC"', '"XX"'),
        ("-1.0", '"a"'),
        ("-1.0", "9"),
        ('"settings"', '"other"'),
        ("{", "["),
    ],
)
def test_what_is_no_table_is_one_line(table, old, new):
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(ValueError, match="not a table of intervals") as error:
        read_intervals(table)
    assert "\n" not in str(error.value)
