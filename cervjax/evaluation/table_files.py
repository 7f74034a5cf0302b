"""The paper's tables in files: CSV, Markdown and LaTeX, and nnU-Net's summary."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cervjax.about import NOTICE
from cervjax.anatomy import MUSCLES
from cervjax.evaluation.overlap import MEASURES
from cervjax.evaluation.surface_distance import SURFACE_MEASURES
from cervjax.evaluation.tables import QUANTITIES, Row, Tables, column
from cervjax.io.files import write_atomically
from cervjax.io.tables import read_rows, write_rows

_IN_BRIEF = {
    "table2": ("bias", "mae", "rmse"),
    "table3": ("icc",),
    "table4": ("dice_mean", "volume_ratio_mean", "scans"),
}


_Text = tuple[str, list[str], list[list[str]]]
"""Caption, heading and cells."""


def write_paper_tables(out: Path, tables: Tables, title: str) -> None:
    """Writes ``table2.csv`` ... ``table4.csv``, ``tables.md`` and ``tables.tex``."""
    for name, table in tables._asdict().items():
        write_rows(out / f"{name}.csv", table)
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
        folder: written by `write_paper_tables`.

    Raises:
        ValueError: a table is missing there, or is not one.
    """
    brief: dict[str, dict[str, float | None]] = {}
    try:
        for name, wanted in _IN_BRIEF.items():
            for _, row in read_rows(folder / f"{name}.csv"):
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
        str(m.label): metrics(own)
        for m in MUSCLES
        if (own := [r for r in rows if r["label"] == m.label])
    }
    keys = next(iter(per_label.values())).keys()
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


def _layouts(
    tables: Tables,
) -> Iterator[tuple[str, list[dict[str, Any]], dict[str, str]]]:
    """Caption, rows and (heading, format) of the tables to be read."""
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


def _markdown(title: str, texts: Sequence[_Text]) -> str:
    lines = [f"# {title}", "", NOTICE]
    for caption, heading, cells in texts:
        lines += ["", f"**{caption}**", ""]
        for line in (heading, ["---"] * len(heading), *cells):
            lines.append(f"| {' | '.join(line)} |")
    return "\n".join(lines) + "\n"


def _latex(title: str, texts: Sequence[_Text]) -> str:
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


def _mean_of_known(values: np.ndarray) -> float | None:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else None
