"""The paper's Tables 2, 3 and 4 from compared scans, as CSV, Markdown and LaTeX."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from cervjax import NOTICE
from cervjax.anatomy import MUSCLES
from cervjax.evaluation.agreement import MIN_PAIRS, agreement, icc21
from cervjax.evaluation.overlap import MEASURES
from cervjax.evaluation.surface_distance import SURFACE_MEASURES
from cervjax.io.files import write_atomically, write_csv

Row = Mapping[str, Any]

QUANTITIES = {"mfi_percent": "MFI (%)", "volume_ml": "volume (ml)"}
ORDER = ("MFSS", "LC", "SSCap", "SPCap", "LS", "SCM", "TR")
"""Of the muscles in the paper's tables."""


_IN_BRIEF = {
    "table2": ("bias", "mae", "rmse"),
    "table3": ("icc",),
    "table4": ("dice_mean", "volume_ratio_mean", "scans"),
}


class Tables(NamedTuple):
    """Rows of the paper's tables, a muscle each (Table 2 and 3: and quantity)."""

    table2: list[dict[str, Any]]
    table3: list[dict[str, Any]]
    table4: list[dict[str, Any]]


def make_tables(rows: Sequence[Row]) -> Tables:
    """Tables from the rows of `comparison.compare` of all scans.

    Each scan counts as one observation, also where a person has two.
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
    _add_holm(found)
    return found


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


def write_tables(out: Path, tables: Tables, title: str) -> None:
    """Writes ``table2.csv`` ... ``table4.csv``, ``tables.md`` and ``tables.tex``."""
    for name, table in tables._asdict().items():
        write_csv(out / f"{name}.csv", table)
    texts = [
        (caption, *_readable(table, columns))
        for caption, table, columns in _layouts(tables)
    ]
    write_atomically(
        out / "tables.md", lambda part: part.write_text(_markdown(title, texts))
    )
    write_atomically(
        out / "tables.tex", lambda part: part.write_text(_latex(title, texts))
    )


def in_brief(folder: Path) -> dict[str, Any]:
    """What a model card says of an evaluation: a few columns of its three tables.

    Args:
        folder: written by `write_tables`.

    Raises:
        ValueError: a table is missing there, or is not one.
    """
    brief: dict[str, dict[str, float | None]] = {}
    try:
        for name, wanted in _IN_BRIEF.items():
            with open(folder / f"{name}.csv", newline="") as stream:
                for row in csv.DictReader(stream):
                    own = brief.setdefault(row["muscle"], {})
                    prefix = row.get("quantity", "").partition("_")[0]
                    for column_name in wanted:
                        key = "_".join(filter(None, (prefix, column_name)))
                        text = row[column_name]
                        own[key] = round(float(text), 4) if text else None
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"{folder}: no tables of 'cervjax evaluate' there ({error!r})"
        ) from error
    return brief


def write_summary(out: Path, rows: Sequence[Row], files: Mapping[str, Row]) -> None:
    """Writes ``summary.json`` in the form of nnU-Net's evaluation.

    Args:
        out: folder.
        rows: of `comparison.compare`, all scans.
        files: scan to ``{"prediction_file": ..., "reference_file": ...}``.
    """
    names = {"tp": "TP", "fp": "FP", "fn": "FN", "tn": "TN"}

    def metrics(own: Sequence[Row]) -> dict[str, float | None]:
        mean = {new: float(column(own, old).mean()) for old, new in names.items()}
        known = {
            new: _mean_of_known(column(own, old))
            for old, new in (("dice", "Dice"), ("jaccard", "IoU"))
        }
        sizes = {"n_pred": mean["TP"] + mean["FP"], "n_ref": mean["TP"] + mean["FN"]}
        return known | mean | sizes

    per_label = {
        str(m.label): metrics([r for r in rows if r["label"] == m.label])
        for m in MUSCLES
    }
    keys = per_label["1"].keys()
    values = {key: [v[key] for v in per_label.values()] for key in keys}
    content = {
        "foreground_mean": {
            key: _mean_of_known(np.array(v, np.float64)) for key, v in values.items()
        },
        "mean": per_label,
        "metric_per_case": [
            {
                "metrics": {
                    str(r["label"]): metrics([r]) for r in rows if r["scan"] == scan
                }
            }
            | dict(file)
            for scan, file in files.items()
        ],
    }
    text = json.dumps(content, indent=1, allow_nan=False)
    write_atomically(out / "summary.json", lambda part: part.write_text(text))


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


def _add_holm(rows: list[dict[str, Any]]) -> None:
    """Holm's adjusted p of the t-tests, of those that have one."""
    known = sorted(
        (r for r in rows if np.isfinite(r["p_t_test"])), key=lambda r: r["p_t_test"]
    )
    for row in rows:
        row["p_holm"] = np.nan
    highest = 0.0
    for i, row in enumerate(known):
        highest = max(highest, min(1.0, row["p_t_test"] * (len(known) - i)))
        row["p_holm"] = highest


def _layouts(tables: Tables):
    """Caption, rows and (heading, format) of the tables that people read."""
    for name, label in QUANTITIES.items():
        caption = f"Table 2. Accuracy: {label}, prediction against reference"
        rows = [r for r in tables.table2 if r["quantity"] == name]
        yield (
            caption,
            rows,
            {
                "n": "{n}",
                "reference mean (SE)": "{reference_mean:.1f} ({reference_se:.1f})",
                "mean (SE)": "{mean:.1f} ({se:.1f})",
                "bias": "{bias:.2f}",
                "95 % limits of agreement": "{loa_low:.2f} to {loa_high:.2f}",
                "MAE": "{mae:.2f}",
                "RMSE": "{rmse:.2f}",
                "r2": "{r2:.3f}",
                "slope": "{slope:.3f}",
            },
        )
    for name, label in QUANTITIES.items():
        caption = f"Table 3. Reliability: {label}, ICC(2,1)"
        rows = [r for r in tables.table3 if r["quantity"] == name]
        yield (
            caption,
            rows,
            {
                "n": "{n}",
                "ICC(2,1)": "{icc:.3f}",
                "95 % CI": "{ci95_low:.3f} to {ci95_high:.3f}",
                "F (df)": "{f:.1f} ({df1:g}, {df2:g})",
                "p": "{p:.2g}",
            },
        )
    columns = {
        name.replace("_", " "): f"{{{name}_mean:.2f}} ({{{name}_se:.2f}})"
        for name in (*MEASURES, *SURFACE_MEASURES)
    }
    yield (
        "Table 4. Overlap, mean (SE) of the scans where defined",
        tables.table4,
        ({"scans": "{scans}"} | columns),
    )


def _readable(
    rows: list[dict[str, Any]], columns: dict[str, str]
) -> tuple[list[str], list[list[str]]]:
    cells = [
        [row["muscle"], *(text.format(**row) for text in columns.values())]
        for row in rows
    ]
    cells = [[c if "nan" not in c else "-" for c in line] for line in cells]
    return ["muscle", *columns], cells


def _markdown(title: str, texts) -> str:
    lines = [f"# {title}", "", NOTICE]
    for caption, heading, cells in texts:
        lines += ["", f"**{caption}**", ""]
        for line in (heading, ["---"] * len(heading), *cells):
            lines.append(f"| {' | '.join(line)} |")
    return "\n".join(lines) + "\n"


def _latex(title: str, texts) -> str:
    """Tables for ``booktabs``."""
    lines = [f"% {title}. {NOTICE}"]
    for caption, heading, cells in texts:
        lines += ["\\begin{table}", f"\\caption{{{_escaped(caption)}}}"]
        columns = "l" + "r" * (len(heading) - 1)
        lines += [f"\\begin{{tabular}}{{{columns}}}", "\\toprule"]
        body = [" & ".join(map(_escaped, line)) + " \\\\" for line in cells]
        lines += [" & ".join(map(_escaped, heading)) + " \\\\", "\\midrule", *body]
        lines += ["\\bottomrule", "\\end{tabular}", "\\end{table}", ""]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    for plain, tex in (("_", "\\_"), ("%", "\\%")):
        text = text.replace(plain, tex)
    return text


def _standard_error(values: np.ndarray) -> float:
    if len(values) < 2:
        return np.nan
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def _mean_of_known(values: np.ndarray) -> float | None:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else None
