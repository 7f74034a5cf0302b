"""The paper's Tables 2, 3 and 4 from compared scans, and differences of two sets."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from cervjax.evaluation.agreement import MIN_PAIRS, agreement, icc21
from cervjax.evaluation.multiplicity import holm
from cervjax.evaluation.overlap import MEASURES
from cervjax.evaluation.surface_distance import SURFACE_MEASURES

Row = Mapping[str, Any]

QUANTITIES = {"mfi_percent": "MFI (%)", "volume_ml": "volume (ml)"}
ORDER = ("MFSS", "LC", "SSCap", "SPCap", "LS", "SCM", "TR")
"""Of the muscles in the paper's tables."""


class Tables(NamedTuple):
    """Rows of the paper's tables, a muscle each (Table 2 and 3: and quantity)."""

    table2: list[dict[str, Any]]
    table3: list[dict[str, Any]]
    table4: list[dict[str, Any]]


def make_tables(rows: Sequence[Row]) -> Tables:
    """Tables from the rows of `comparison.compare` of all scans.

    Each scan counts as one observation, also where a participant has two.
    """
    table2, table3, table4 = [], [], []
    for key, own in by_muscle(rows).items():
        for name in QUANTITIES:
            pairs = column(own, f"predicted_{name}"), column(own, f"reference_{name}")
            who = {"muscle": key, "quantity": name}
            table2.append(who | agreement(*pairs)._asdict())
            table3.append(who | icc21(*pairs)._asdict())
        row: dict[str, Any] = {"muscle": key, "scans": len(own)}
        for name in (*MEASURES, *SURFACE_MEASURES):
            values = column(own, name)
            values = values[np.isfinite(values)]
            row[f"{name}_mean"] = float(values.mean()) if len(values) else np.nan
            row[f"{name}_se"] = _standard_error(values)
            row[f"{name}_n"] = len(values)
        table4.append(row)
    return Tables(table2, table3, table4)


def differences(rows: Sequence[Row], others: Sequence[Row]) -> list[dict[str, Any]]:
    """Two sets of predictions of the same scans: Dice and absolute errors, paired.

    Args:
        rows: of the first set, `comparison.compare`.
        others: of the second.

    Returns:
        A row per muscle and measure: both means, mean difference (first - second)
        with 95 % confidence interval, p of the paired t-test and of Wilcoxon's test,
        and the t-test's p after Holm over all rows.
    """
    theirs = {(r["scan"], r["label"]): r for r in others}
    found: list[dict[str, Any]] = []
    for key, own in by_muscle(rows).items():
        matched = [
            (r, theirs[r["scan"], r["label"]])
            for r in own
            if (r["scan"], r["label"]) in theirs
        ]
        for name, measure in _ERRORS.items():
            pairs = np.array([[measure(r) for r in both] for both in matched])
            pairs = pairs[np.isfinite(pairs).all(1)] if len(pairs) else pairs
            found.append({"muscle": key, "measure": name} | _paired(pairs))
    corrected = holm(column(found, "p_t_test"))
    return [r | {"p_holm": float(p)} for r, p in zip(found, corrected, strict=True)]


def by_muscle(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows of each muscle and side that occurs, in the order of the paper's tables."""
    keys = [f"{muscle}_{side}" for muscle in ORDER for side in "LR"]
    found: dict[str, list[Row]] = {key: [] for key in keys}
    for row in rows:
        found[f"{row['muscle']}_{row['side'][0].upper()}"].append(row)
    return {key: own for key, own in found.items() if own}


def column(rows: Sequence[Row], name: str) -> np.ndarray:
    """A column as float64."""
    return np.array([row[name] for row in rows], np.float64)


_ERRORS = {
    "dice": lambda row: row["dice"],
    "mfi_absolute_error_points": lambda row: abs(
        row["predicted_mfi_percent"] - row["reference_mfi_percent"]
    ),
    "volume_absolute_error_ml": lambda row: abs(
        row["predicted_volume_ml"] - row["reference_volume_ml"]
    ),
}


def _paired(pairs: np.ndarray) -> dict[str, Any]:
    names = (
        "mean",
        "mean_other",
        "difference",
        "ci95_low",
        "ci95_high",
        "p_t_test",
        "p_wilcoxon",
    )
    if len(pairs) < MIN_PAIRS:
        return {"n": len(pairs)} | dict.fromkeys(names, np.nan)
    difference = pairs[:, 0] - pairs[:, 1]
    mean, error = difference.mean(), _standard_error(difference)
    reach = float(stats.t.ppf(0.975, len(pairs) - 1)) * error
    if error > 0:
        p_t = float(stats.ttest_rel(*pairs.T).pvalue)
        p_w = float(stats.wilcoxon(difference).pvalue)
    else:
        p_t = p_w = 1.0 if mean == 0 else np.nan
    values = (*pairs.mean(0), mean, mean - reach, mean + reach, p_t, p_w)
    return {"n": len(pairs)} | {n: float(v) for n, v in zip(names, values, strict=True)}


def _standard_error(values: np.ndarray) -> float:
    if len(values) < 2:
        return np.nan
    return float(values.std(ddof=1) / np.sqrt(len(values)))
