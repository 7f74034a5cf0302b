"""What ``cervjax cohort`` leaves behind: tables, a page, figures and a summary."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cervjax.about import NOTICE, __version__
from cervjax.cohort.analysis import MFI, VOLUME, Outcome, Rows, analyse
from cervjax.cohort.assembly import Cohort, Exclusion, assemble, modelled
from cervjax.cohort.checks import check_cohort
from cervjax.cohort.inputs import (
    Measurement,
    read_measurements,
    read_participants,
)
from cervjax.cohort.page import f_sentence, page
from cervjax.cohort.plot_style import save
from cervjax.cohort.plots import covariate_figure, muscles_figure, pairs_figure
from cervjax.cohort.repeated import GREENHOUSE_GEISSER
from cervjax.cohort.repeats import read_repeats
from cervjax.io.files import sha256_of_file
from cervjax.io.review_list import kept
from cervjax.io.tables import write_rows
from cervjax.io.written import remove_ours, written_together

Results = list[tuple[Outcome, dict[str, Rows]]]

_CHANGE = [
    f"{outcome.key}_{name}.csv"
    for outcome in (MFI, VOLUME)
    for name in ("change", "change_participants")
]


def analyse_cohort(  # many: the command's flags
    measurements: Path,
    participants: Path,
    out: Path,
    *,
    mfi_column: str = "mfi_percent",
    sessions: Sequence[str] = (),
    centred: bool = True,
    repeated: Path | None = None,
    all_rows: bool = False,
    only: Path | None = None,
    exclude: Path | None = None,
    log: Callable[[str], object] = print,
) -> None:
    """Analyses a cohort and writes everything into a folder.

    Args:
        measurements: table that ``cervjax infer`` writes.
        participants: BIDS ``participants.tsv``.
        out: folder, made if it is not there; files of an earlier run are replaced, and
            no others.
        mfi_column: which column of the measurements is the MFI.
        sessions: labels of the session to use, or of the first and the second.
        centred: takes the means off age and BMI in the repeated-measures model.
        repeated: measurements of scans repeated while nothing changed, of these or
            other participants, to tell the smallest detectable change from.
        all_rows: takes measurements whose verdict is "do_not_use", too.
        only: list of scans to keep, such as ``review.csv`` of ``report.html``.
        exclude: list of scans to leave out.
        log: called with lines for the user.

    Raises:
        ValueError: the tables cannot be read, the analyses cannot be done with them, or
            a file that cervjax has not written is in the way.
        OSError: a file cannot be read or written.
    """
    rows = read_measurements(measurements, mfi_column=mfi_column, all_rows=all_rows)
    rows = _wanted(rows, only, exclude)
    cohort = assemble(rows, read_participants(participants), sessions=sessions)
    check_cohort(cohort, measurements, participants)
    for line in _left_out(cohort):
        log(line)
    unchanged: dict[str, Any] = {}
    if repeated is not None:
        if len(cohort.sessions) != 2:
            raise ValueError(
                f"--repeated {repeated} is for the change between two sessions, but "
                f"{measurements} has one; leave it out"
            )
        unchanged = read_repeats(repeated, mfi_column=mfi_column, all_rows=all_rows)
    try:
        results = [
            (o, analyse(cohort, o, centred=centred, unchanged=unchanged.get(o.key)))
            for o in (MFI, VOLUME)
        ]
    except ValueError as error:
        raise ValueError(f"{measurements}: {error}") from error
    summary = {
        "limits": NOTICE,
        "version": __version__,
        "inputs": _digests(measurements, participants, repeated, only, exclude),
        "settings": {
            "mfi_column": mfi_column,
            "all_rows": all_rows,
            "centred": centred,
            "sessions": list(cohort.sessions),
        },
        **_in_numbers(cohort, results),
    }
    with written_together(out) as new:
        written = _write_all(cohort, results, new, centred=centred)
        content = json.dumps(summary | {"files": written}, indent=1) + "\n"
        (new / "summary.json").write_text(content, "utf-8")
    for name in set(_CHANGE) - set(written):  # of an earlier run with two sessions
        remove_ours(out / name)
    for term, test in summary["tests"]["mfi"].items():
        log(f"MFI, {term}: {test}")
    log(f"{out / 'cohort.md'}: {len(cohort.names)} participants; {NOTICE}")


def _digests(*paths: Path | None) -> dict[str, str]:
    return {str(path): sha256_of_file(path) for path in paths if path is not None}


def _wanted(
    rows: list[Measurement], only: Path | None, exclude: Path | None
) -> list[Measurement]:
    """The rows of scans that the lists leave."""
    names = kept({row.scan for row in rows}, only, exclude)
    return [row for row in rows if row.scan in names]


def _write_all(
    cohort: Cohort, results: Results, out: Path, *, centred: bool
) -> list[str]:
    """Tables, figures and the page; returns the names of the files."""
    tables = _write_result_tables(cohort, results, out)
    figures = _write_figures(cohort, results[0][1], out)
    text = page(cohort, results, centred=centred, figures=figures)
    (out / "cohort.md").write_text(text, "utf-8")
    pictures = [f"{Path(n).stem}.{kind}" for n, _ in figures for kind in ("png", "pdf")]
    return [*tables, *pictures, "cohort.md"]


def _in_numbers(cohort: Cohort, results: Results) -> dict[str, Any]:
    """Who is in it, and what the main tests gave."""
    return {
        "participants": len(cohort.names),
        "participants_in_models_of_all_muscles": int(modelled(cohort).sum()),
        "left_out": _left_out(cohort),
        "muscles": list(cohort.muscles),
        "tests": {o.key: _main_tests(tables) for o, tables in results},
    }


def _left_out(cohort: Cohort) -> list[str]:
    counts = Counter((e.reason, e.left_out_of) for e in cohort.exclusions)
    return [
        f"left out of {of}: {count} x {reason}"
        for (reason, of), count in sorted(counts.items())
    ]


def _main_tests(tables: dict[str, Rows]) -> dict[str, str]:
    """The repeated-measures model after Greenhouse and Geisser, in words."""
    inside = [r for r in tables["within"] if r["correction"] == GREENHOUSE_GEISSER]
    return {row["term"]: f_sentence(row) for row in inside + tables["between"]}


def _write_result_tables(cohort: Cohort, results: Results, out: Path) -> list[str]:
    """The last column of each table says what it may be used for."""
    tables = {"values.csv": _values(cohort)}
    for outcome, found in results:
        tables |= {f"{outcome.key}_{name}.csv": rows for name, rows in found.items()}
    tables["exclusions.csv"] = [e._asdict() for e in cohort.exclusions]
    for name, rows in tables.items():
        limited = [row | {"limits": NOTICE} for row in rows]
        write_rows(out / name, limited, [*Exclusion._fields, "limits"])
    return list(tables)


def _values(cohort: Cohort) -> Rows:
    """What was analysed: one row per participant, session and muscle that is there."""
    sexes = np.where(cohort.female == 1, "F", np.where(cohort.female == 0, "M", ""))
    return [
        {
            "participant_id": cohort.names[i],
            "session": cohort.sessions[s],
            "sex": str(sexes[i]),
            "age_years": float(cohort.age_years[i]),
            "bmi_kg_m2": float(cohort.bmi[i]),
            "muscle": cohort.muscles[k],
            "mfi_percent": float(cohort.mfi[s, i, k]),
            "volume_ml": float(cohort.volume[s, i, k]),
        }
        for i in range(len(cohort.names))
        for s in range(len(cohort.sessions))
        for k in range(len(cohort.muscles))
        if np.isfinite(cohort.mfi[s, i, k])
    ]


def _write_figures(
    cohort: Cohort, tables: dict[str, Rows], out: Path
) -> list[tuple[str, str]]:
    """Draws the MFI; returns the PNGs with captions."""
    sex, correlations = tables["sex"], tables["correlations"]
    figures = {
        "figure5_mfi_by_muscle": (
            muscles_figure(cohort, sex, MFI),
            "MFI per muscle and sex. Diamonds: means adjusted for age and BMI, with 95 "
            "% confidence intervals; p of the difference between the sexes.",
        ),
        "figure6_mfi_by_age": (
            covariate_figure(cohort, sex, correlations, MFI, "age_years"),
            "MFI and age, with the regression line adjusted for sex and BMI, partial "
            "correlation and p.",
        ),
        "figure6_mfi_by_bmi": (
            covariate_figure(cohort, sex, correlations, MFI, "bmi_kg_m2"),
            "MFI and BMI, with the regression line adjusted for sex and age, partial "
            "correlation and p.",
        ),
        "figure_mfi_pairs": (
            pairs_figure(cohort, tables["pairs"], MFI),
            "MFI of every muscle against every other; above the diagonal the mean "
            "difference (row less column) with 95 % confidence interval and p.",
        ),
    }
    for stem, (figure, _) in figures.items():
        save(figure, out / stem)
    return [(f"{stem}.png", caption) for stem, (_, caption) in figures.items()]
