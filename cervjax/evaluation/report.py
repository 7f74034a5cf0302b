"""The evaluation of masks: from two folders to the paper's tables and figures."""

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from cervjax.evaluation.comparison import compare
from cervjax.evaluation.figures import bland_altman_figure, correlation_figure
from cervjax.evaluation.pairs import Excluded, Pair, find_pairs
from cervjax.evaluation.table_files import write_paper_tables, write_summary
from cervjax.evaluation.tables import (
    QUANTITIES,
    Tables,
    column,
    differences,
    make_tables,
)
from cervjax.figures.style import save_figure
from cervjax.inference.sidecar import sidecars
from cervjax.io.tables import read_rows, write_rows
from cervjax.io.written import check_ours, written_together

CALIBRATION = "calibration.json"
_DIFFERENCES = "differences.csv"
_FIGURES = {
    f"figure{number}_{quantity.partition('_')[0]}.{kind}": (draw, quantity)
    for quantity in QUANTITIES
    for number, draw in ((3, correlation_figure), (4, bland_altman_figure))
    for kind in ("png", "pdf")
}
FILES = (
    "scans.csv",
    "exclusions.csv",
    *(f"{name}.csv" for name in Tables._fields),
    "tables.md",
    "tables.tex",
    "summary.json",
    CALIBRATION,
    _DIFFERENCES,
    *_FIGURES,
)
"""What may be written; the last of an earlier run may stay."""
Log = Callable[[str], object]


def evaluate_masks(
    predicted: Path,
    reference: Path,
    out: Path,
    *,
    images: Path | None = None,
    baseline: Path | None = None,
    all_rows: bool = False,
    ignore_label: int = -1,
    log: Log = print,
) -> list[Excluded]:
    """Compares two folders of masks and writes tables, figures and per-scan rows.

    Args:
        predicted: masks to judge.
        reference: masks to judge by, with or without images, see `find_pairs`.
        out: folder of the results.
        images: scans of ``reference``, if they lie elsewhere.
        baseline: other masks of the same scans, to be compared with ``predicted``.
        all_rows: takes muscles whose verdict in ``predicted`` is "do_not_use", too.
        ignore_label: value in masks of what nobody knows, see `compare`.
        ignore_label: value in masks of what nobody knows, see `compare`.
        log: receives lines.

    Returns:
        Scans that were found in pairs and could not be compared.

    Raises:
        ValueError: nothing can be compared, or a file that cervjax has not written is
            in the way.
    """
    check_ours(out, FILES)
    pairs, excluded = find_pairs(predicted, reference, images)
    log(f"{len(pairs)} scan(s) with two masks, {len(excluded)} with one")
    without = sum(pair.scan is None for pair in pairs)
    if without:
        log(f"{without} scan(s) without images: no fat infiltration (--images FOLDER)")
    rows, failed = _compare_all(pairs, ignore_label, log)
    if not rows:
        raise ValueError(f"none of {len(pairs)} scan(s) can be compared; see above")
    files = {
        p.name: {
            "prediction_file": str(p.predicted),
            "reference_file": str(p.reference),
        }
        for p in pairs
        if p.name in {row["scan"] for row in rows}
    }
    every = _with_verdicts(rows, predicted)
    rows = every if all_rows else _usable(every, predicted, log)
    tables = make_tables(rows)
    left_out = [vars(e) for e in (*excluded, *failed)]
    with written_together(out) as new:
        write_rows(new / "scans.csv", every)
        write_rows(new / "exclusions.csv", left_out, ["scan", "reason"])
        write_paper_tables(new, tables, f"{predicted.name} against {reference.name}")
        write_summary(new, rows, files)
        _write_calibration(new / CALIBRATION, tables.table2, predicted, reference)
        _write_figures(new, rows)
        if baseline is not None:
            log(f"the same with {baseline}")
            done = {row["scan"] for row in rows}
            others, _ = find_pairs(baseline, reference, images)
            others = [pair for pair in others if pair.name in done]
            compared, more = _compare_all(others, ignore_label, log)
            failed += more
            _against(baseline, rows, compared, new)
    for line in _in_short(rows):
        log(line)
    log(f"tables.md and more in {out}")
    return failed


def _with_verdicts(rows: list[dict[str, Any]], predicted: Path) -> list[dict[str, Any]]:
    """The verdicts of ``measurements.csv`` beside the masks, where there is one."""
    path = predicted / "measurements.csv"
    if not path.is_file():
        return rows
    known = ("scan", "label", "verdict")
    table = [row for _, row in read_rows(path, optional=known, may_be_cut=True)]
    verdicts = {(r.get("scan"), r.get("label")): r.get("verdict", "") for r in table}
    return [
        row | {"verdict": verdicts.get((row["scan"], str(row["label"])), "")}
        for row in rows
    ]


def _usable(
    rows: list[dict[str, Any]], predicted: Path, log: Log
) -> list[dict[str, Any]]:
    """Without muscles that are not to be used; one that was not found counts."""
    kept = [
        row
        for row in rows
        if row.get("verdict") != "do_not_use" or not row["tp"] + row["fp"]
    ]
    if len(kept) < len(rows):
        log(
            f"left out: {len(rows) - len(kept)} of {len(rows)} muscles with the "
            "verdict do_not_use (--all-rows takes them)"
        )
    if not kept:
        raise ValueError(
            f"{predicted}: no muscle may be used (verdicts in measurements.csv); give "
            "--all-rows to compare them nevertheless"
        )
    return kept


def _compare_all(
    pairs: Sequence[Pair], ignore_label: int, log: Log
) -> tuple[list[dict[str, Any]], list[Excluded]]:
    """Rows of all pairs; one that fails does not stop the others."""

    def attempt(pair: Pair) -> list[dict[str, Any]] | Excluded:
        try:
            return compare(pair, ignore_label)
        except (ValueError, OSError) as error:
            return Excluded(pair.name, str(error))

    rows: list[dict[str, Any]] = []
    failed: list[Excluded] = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for number, outcome in enumerate(pool.map(attempt, pairs), start=1):
            if isinstance(outcome, Excluded):
                failed.append(outcome)
                log(f"FAILED {outcome.scan}: {outcome.reason}")
            else:
                rows += outcome
            if number % 10 == 0 or number == len(pairs):
                log(f"{number}/{len(pairs)} compared")
    return rows, failed


def _write_figures(out: Path, rows: Sequence[dict[str, Any]]) -> None:
    measured = _measured(rows)
    drawn = {(d, q): d(rows, q) for d, q in _FIGURES.values() if q in measured}
    for name, drawing in _FIGURES.items():
        if drawing in drawn:
            save_figure(drawn[drawing], out / name)


def _measured(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Quantities that some scan has in both masks."""
    return [
        name
        for name in QUANTITIES
        if np.isfinite(
            column(rows, f"predicted_{name}") + column(rows, f"reference_{name}")
        ).any()
    ]


def _against(
    baseline: Path,
    rows: list[dict[str, Any]],
    others: list[dict[str, Any]],
    out: Path,
) -> None:
    """Writes the differences between two predictions of the same scans."""
    if not others:
        raise ValueError(
            f"{baseline}: no mask of the scans compared; give masks of the same scans"
        )
    write_rows(out / _DIFFERENCES, differences(rows, others))


def _write_calibration(
    path: Path, table2: Sequence[dict[str, Any]], predicted: Path, reference: Path
) -> None:
    """Slopes through the origin that turn predictions into references."""
    slopes: dict[str, dict[str, float]] = {}
    for row in table2:
        if np.isfinite(row["slope"]):
            slopes.setdefault(row["muscle"], {})[row["quantity"]] = row["slope"]
    of = {found["Identity"].get("weights_sha256") for found in sidecars(predicted)}
    content = {
        "what": "reference = slope x prediction, least squares through the origin",
        "predicted": predicted.name,
        "reference": reference.name,
        "weights_sha256": of.pop() if len(of) == 1 else None,
        "scans": max(row["n"] for row in table2),
        "slopes": slopes,
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def _in_short(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A line per muscle and a line for all, for the terminal."""
    tables = make_tables(rows)
    mfi = {r["muscle"]: r for r in tables.table2 if r["quantity"] == "mfi_percent"}
    icc = {r["muscle"]: r for r in tables.table3 if r["quantity"] == "mfi_percent"}
    lines = ["muscle    Dice  volume ratio  MFI bias   MAE   ICC"]
    for row in tables.table4:
        two, three = mfi[row["muscle"]], icc[row["muscle"]]
        lines.append(
            f"{row['muscle']:8} {row['dice_mean']:5.3f}"
            f" {row['volume_ratio_mean']:13.3f}"
            f" {two['bias']:+9.2f} {two['mae']:5.2f} {three['icc']:5.3f}"
        )
    mean = np.nanmean([row["dice_mean"] for row in tables.table4])
    lines.append(f"mean Dice {mean:.3f}")
    return [line.replace("nan", "  -") for line in lines]
