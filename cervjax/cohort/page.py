"""The cohort's report as a page of Markdown that a clinician can read."""

from collections import Counter
from typing import Any

import numpy as np

from cervjax.about import NOTICE
from cervjax.anatomy import MUSCLES
from cervjax.cohort.analysis import Outcome, Rows
from cervjax.cohort.assembly import Cohort, modelled
from cervjax.cohort.repeated import GREENHOUSE_GEISSER

_COVARIATES = {"age_years": ("age", "year"), "bmi_kg_m2": ("BMI", "kg/m2")}


def p_text(p: float) -> str:
    """Three decimals, ``<0.001`` below them."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def f_text(row: dict[str, Any]) -> str:
    """An F test as papers write it: ``F(4.5, 361.8) = 66.22``."""
    df = (
        f"{v:.0f}" if float(v).is_integer() else f"{v:.1f}"
        for v in (row["df"], row["error_df"])
    )
    return f"F({', '.join(df)}) = {row['f']:.2f}"


def f_sentence(row: dict[str, Any]) -> str:
    """An F test with p and partial eta squared."""
    p = p_text(row["p"])
    p = f"p {p}" if p[0] == "<" else f"p = {p}"
    return f"{f_text(row)}, {p}, partial eta squared {row['partial_eta_squared']:.2f}"


def page(
    cohort: Cohort,
    results: list[tuple[Outcome, dict[str, Rows]]],
    *,
    centred: bool,
    figures: list[tuple[str, str]],
) -> str:
    """The whole page.

    Args:
        cohort: who is in it.
        results: each outcome with the tables of `analysis.analyse`.
        centred: whether the repeated-measures model had centred covariates.
        figures: file name and caption of the pictures to show.
    """
    parts = ["# Neck muscles of a cohort", f"**{NOTICE}**", *_participants(cohort)]
    for outcome, tables in results:
        parts += _outcome(cohort, outcome, tables, centred)
    parts.append("## Figures")
    parts += [f"![{caption}]({name})\n\n{caption}" for name, caption in figures]
    parts += ["## Reading the tables", _NOTES]
    return "\n\n".join(parts) + "\n"


_NOTES = """\
p is not corrected for the number of tests, as in the paper. p Holm guards against any
false finding in its table, p FDR (Benjamini and Hochberg) against too large a share of
them. Correlations are corrected for each covariate on its own, and so are the tests
within participants for each correction of non-sphericity.

CI is the 95 % confidence interval. Adjusted means are those at the mean age
and BMI. Differences of MFI are in percentage points.

Every finding is an association in these participants. None says what causes what, and
none is a statement about one patient."""


def _participants(cohort: Cohort) -> list[str]:
    women, men = (int((cohort.female == v).sum()) for v in (1, 0))
    n = len(cohort.names)
    rows = [["with a scan", str(n)], ["women, men", f"{women}, {men}"]]
    for name, values in (("age, years", cohort.age_years), ("BMI, kg/m2", cohort.bmi)):
        x = values[np.isfinite(values)]
        if x.size > 1:
            mean, sd = f"{x.mean():.1f}", f"{x.std(ddof=1):.1f}"
            text = f"{mean} +- {sd} ({x.min():.1f} to {x.max():.1f})"
            rows.append([f"{name}: mean +- SD (range)", text])
    rows.append(["in the models of all muscles", str(int(modelled(cohort).sum()))])
    parts = ["## Participants", _table(["", "participants"], rows)]
    counts = Counter((e.reason, e.left_out_of) for e in cohort.exclusions)
    parts.append("### Left out")
    if not counts:
        return [*parts, "No scan, participant or muscle."]
    rows = [[reason, of, str(count)] for (reason, of), count in sorted(counts.items())]
    return [
        *parts,
        _table(["reason", "left out of", "times"], rows),
        "Each one is named in `exclusions.csv`.",
    ]


def _outcome(
    cohort: Cohort, outcome: Outcome, tables: dict[str, Rows], centred: bool
) -> list[str]:
    session = f", session {cohort.sessions[0]}" if len(cohort.sessions) == 2 else ""
    parts = [
        f"## {outcome.title}",
        f"Mean of both sides{session}.",
        _means(cohort, outcome, tables["muscles"]),
        "### Do the muscles differ, and do sex, age and BMI act on all alike?",
        *_repeated(tables, centred),
        "### Women and men, age and BMI held",
        _sexes(outcome, tables["sex"]),
    ]
    for name, (word, per) in _COVARIATES.items():
        other = "BMI" if word == "age" else "age"
        parts.append(f"### {word[0].upper()}{word[1:]}, sex and {other} held")
        rows = [r for r in tables["correlations"] if r["covariate"] == name]
        parts.append(_correlations(outcome, rows, per))
    parts.append("### Muscle against muscle, paired t-tests")
    parts.append(_muscle_pairs(outcome, tables["pairs"]))
    return parts + (_change(cohort, outcome, tables) if "change" in tables else [])


def _means(cohort: Cohort, outcome: Outcome, muscles: Rows) -> str:
    names = {m.abbreviation: m.name for m in MUSCLES}
    mean, sd = f"mean_{outcome.unit}", f"sd_{outcome.unit}"
    groups = {(r["muscle"], r["sex"]): r for r in muscles}
    rows = []
    for muscle in cohort.muscles:
        cells = [groups[muscle, g] for g in ("all", "female", "male")]
        texts = [f"{c[mean]:.1f} +- {c[sd]:.1f} (n {c['n']})" for c in cells]
        rows.append([muscle, names[muscle], *texts])
    return _table(["", "muscle", f"all, {outcome.axis}", "women", "men"], rows)


def _repeated(tables: dict[str, Rows], centred: bool) -> list[str]:
    """The repeated-measures model: a sentence and its tests."""
    how = "age and BMI centred" if centred else "age and BMI not centred, as SPSS does"
    (s,) = tables["sphericity"]
    mauchly = (
        f"Mauchly's W {s['mauchly_w']:.3f}, chi2({s['df']}) = {s['chi2']:.1f}, p "
        f"{p_text(s['p'])}"
    )
    if not np.isfinite(s["mauchly_w"]):
        mauchly = "too few participants for Mauchly's test"
    sentence = (
        f"Repeated-measures analysis of covariance, {s['n']} participants with all "
        f"muscles, Type III, {how}; {mauchly}; "
        f"epsilon {s['epsilon_greenhouse_geisser']:.3f} "
        f"(Greenhouse-Geisser), {s['epsilon_huynh_feldt']:.3f} (Huynh-Feldt, "
        "Lecoutre). The table is after Greenhouse and Geisser."
    )
    inside = [r for r in tables["within"] if r["correction"] == GREENHOUSE_GEISSER]
    rows = [
        [r["term"].replace("bmi", "BMI"), *_f(r)] for r in inside + tables["between"]
    ]
    return [sentence, _table(["term", *_F], rows)]


def _sexes(outcome: Outcome, sex: Rows) -> str:
    unit, step = outcome.unit, outcome.step
    rows = [
        [
            r["muscle"],
            *(
                f"{r[f'mean_{g}_{unit}']:.1f} ({_ci(r, f'mean_{g}', unit)})"
                for g in ("female", "male")
            ),
            f"{r[f'difference_{step}']:.1f} ({_ci(r, 'difference', step)})",
            *_f(r),
        ]
        for r in sex
    ]
    return _table(
        ["muscle", "women, adjusted mean (CI)", "men", "difference", *_F], rows
    )


def _correlations(outcome: Outcome, correlations: Rows, per: str) -> str:
    slope = f"{outcome.step}_per_unit"
    rows = [
        [
            r["muscle"],
            str(r["n"]),
            f"{r['r']:.2f} ({_ci(r, 'r', '', 2)})",
            f"{r[f'slope_{slope}']:.3f} ({_ci(r, 'slope', slope, 3)})",
            *_p(r),
        ]
        for r in correlations
    ]
    head = ["muscle", "n", "partial r (CI)", f"{outcome.step} per {per} (CI)", *_P]
    return _table(head, rows)


def _muscle_pairs(outcome: Outcome, pairs: Rows) -> str:
    step = outcome.step
    rows = [
        [
            f"{r['muscle']} less {r['less_muscle']}",
            str(r["n"]),
            f"{r[f'difference_{step}']:.1f} ({_ci(r, 'difference', step)})",
            f"t({r['df']}) = {r['t']:.2f}",
            f"{r['cohens_dz']:.2f}",
            *_p(r),
        ]
        for r in pairs
    ]
    return _table(["muscles", "n", f"difference, {step} (CI)", "test", "dz", *_P], rows)


def _change(cohort: Cohort, outcome: Outcome, tables: dict[str, Rows]) -> list[str]:
    step = outcome.step
    first, second = cohort.sessions
    rows = [
        [
            r["muscle"],
            str(r["n"]),
            f"{r[f'change_{step}']:.2f} ({_ci(r, 'change', step, 2)})",
            f"{r[f'change_sd_{step}']:.2f}",
            f"{r[f'limit_low_{step}']:.2f} to {r[f'limit_high_{step}']:.2f}",
            f"{r[f'smallest_detectable_change_{step}']:.2f}",
            f"t({r['df']}) = {r['t']:.2f}",
            *_p(r),
        ]
        for r in tables["change"]
    ]
    head = [
        "muscle",
        "n",
        f"change, {step} (CI)",
        "SD",
        "limits of agreement",
        "smallest detectable",
        "test",
        *_P,
    ]
    beyond: dict[str, list[str]] = {}
    for r in tables["change_participants"]:
        if r["exceeds"]:
            text = f"{r['muscle']} {r[f'change_{step}']:+.2f}"
            beyond.setdefault(r["participant_id"], []).append(text)
    parts = [
        f"### Change from session {first} to session {second}",
        _table(head, rows),
        _DETECTABLE[tables["change"][0]["detectable_from"]],
    ]
    if not beyond:
        return [*parts, "Nobody's change exceeds it."]
    parts.append(f"{len(beyond)} participants have a change beyond it, in {step}:")
    listed = [[who, ", ".join(texts)] for who, texts in sorted(beyond.items())]
    return [*parts, _table(["participant", "muscles"], listed)]


_DETECTABLE = {
    "changes": "The smallest detectable change of a participant is 1.96 SD of changes. "
    "It holds what the measurement adds and what differs between the true changes: "
    "where participants really change it is too large. Take it from scans repeated "
    "within days (--repeated) where there are any.",
    "repeated scans": "The smallest detectable change of a participant is 1.96 SD of "
    "the differences between scans repeated while nothing changed.",
}
_P = ["p", "p Holm", "p FDR"]
_F = ["test", "partial eta squared", *_P]


def _f(row: dict[str, Any]) -> list[str]:
    return [f_text(row), f"{row['partial_eta_squared']:.2f}", *_p(row)]


def _p(row: dict[str, Any]) -> list[str]:
    return [p_text(row[name]) for name in ("p", "p_holm", "p_fdr")]


def _ci(row: dict[str, Any], stem: str, unit: str, digits: int = 1) -> str:
    low, high = (
        row["_".join(filter(None, (stem, "ci", end, unit)))] for end in ("low", "high")
    )
    return f"{low:.{digits}f} to {high:.{digits}f}"


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
