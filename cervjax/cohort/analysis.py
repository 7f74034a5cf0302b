"""All analyses of one outcome: a cohort in, tables of plain rows out.

Cross-sectional analyses are of the first session. Models of all muscles need everybody
to have all of them (listwise); the others use whoever has the muscle. Each family of p
values is corrected on its own: what a family is stands beside each call.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from cervjax.cohort.ancova import sex_effect
from cervjax.cohort.assembly import Cohort, modelled
from cervjax.cohort.correlation import partial_correlation
from cervjax.cohort.linear import participant_design
from cervjax.cohort.multiplicity import with_corrections
from cervjax.cohort.paired import (
    agreement_limits,
    paired_test,
    smallest_detectable_change,
)
from cervjax.cohort.repeated import repeated_measures
from cervjax.cohort.repeats import Repeats

Rows = list[dict[str, Any]]


class Outcome(NamedTuple):
    """What is analysed.

    Attributes:
        key: field of `Cohort`, and beginning of the files' names.
        title: for headings.
        unit: of values, for column names.
        step: unit of differences, for column names.
        axis: for axes of figures and heads of tables.
    """

    key: str
    title: str
    unit: str
    step: str
    axis: str


MFI = Outcome("mfi", "Fat infiltration (MFI)", "percent", "points", "MFI (%)")
VOLUME = Outcome("volume", "Volume", "ml", "ml", "Volume (ml)")

_LEVELS = {
    "mean",
    "sd",
    "median",
    "minimum",
    "maximum",
    "mean_first",
    "mean_second",
    "mean_female",
    "mean_male",
    "first",
    "second",
}
_STEPS = {
    "difference",
    "change",
    "slope",
    "limit_low",
    "limit_high",
    "smallest_detectable_change",
}


def analyse(
    cohort: Cohort,
    outcome: Outcome,
    *,
    centred: bool = True,
    unchanged: Mapping[str, Repeats] | None = None,
) -> dict[str, Rows]:
    """Runs every analysis.

    Args:
        cohort: what `checks.check_cohort` let pass.
        outcome: MFI or VOLUME.
        centred: takes the means off age and BMI in the repeated-measures model.
        unchanged: per muscle, of scans repeated while nothing changed; the smallest
            detectable change is theirs. None takes it from the changes themselves.

    Raises:
        ValueError: a model cannot be fitted, or repeats lack a muscle.

    Returns:
        Tables by name: muscles, within, sphericity, between, sex, pairs, correlations,
        and with two sessions change and change_participants. Columns that hold
        quantities end in the outcome's units.
    """
    values = getattr(cohort, outcome.key)
    first = values[0]
    tables = {
        "muscles": _describe(cohort, first),
        **_repeated(cohort, first, centred),
        "sex": _sex(cohort, first),
        "pairs": _pairs(cohort, first),
        "correlations": _correlations(cohort, first),
    }
    if len(cohort.sessions) == 2:
        tables |= _change(cohort, values[0], values[1], unchanged)
    return {
        name: [_with_units(row, outcome) for row in rows]
        for name, rows in tables.items()
    }


def _describe(cohort: Cohort, values: np.ndarray) -> Rows:
    rows = []
    groups = {
        "all": np.ones(len(cohort.names), bool),
        "female": cohort.female == 1,
        "male": cohort.female == 0,
    }
    for k, muscle in enumerate(cohort.muscles):
        for group, inside in groups.items():
            x = values[inside & np.isfinite(values[:, k]), k]
            rows.append(
                {
                    "muscle": muscle,
                    "sex": group,
                    "n": x.size,
                    "mean": x.mean() if x.size else np.nan,
                    "sd": x.std(ddof=1) if x.size > 1 else np.nan,
                    "median": np.median(x) if x.size else np.nan,
                    "minimum": x.min() if x.size else np.nan,
                    "maximum": x.max() if x.size else np.nan,
                }
            )
    return rows


def _repeated(cohort: Cohort, values: np.ndarray, centred: bool) -> dict[str, Rows]:
    rows = modelled(cohort)
    design = participant_design(
        cohort.female[rows], cohort.age_years[rows], cohort.bmi[rows], centred=centred
    )
    result = repeated_measures(values[rows], design)
    count = {"n": int(rows.sum())}
    # Families: the terms within participants, for each correction; those between them.
    return {
        "within": with_corrections(
            [count | row for row in result.within], lambda row: row["correction"]
        ),
        "sphericity": [count | result.sphericity._asdict()],
        "between": with_corrections([count | row for row in result.between]),
    }


def _sex(cohort: Cohort, values: np.ndarray) -> Rows:
    rows = []
    for k, muscle in enumerate(cohort.muscles):
        who = modelled(cohort, k)
        design = participant_design(
            cohort.female[who], cohort.age_years[who], cohort.bmi[who]
        )
        rows.append({"muscle": muscle} | sex_effect(values[who, k], design))
    return with_corrections(rows)  # family: the muscles


def _pairs(cohort: Cohort, values: np.ndarray) -> Rows:
    rows = []
    for i, j in combinations(range(len(cohort.muscles)), 2):
        a, b = cohort.muscles[i], cohort.muscles[j]
        try:
            test = paired_test(values[:, j], values[:, i])
        except ValueError as error:
            raise ValueError(
                f"{a} less {b}: {error}; check the measurements"
            ) from error
        rows.append({"muscle": a, "less_muscle": b} | test)
    return with_corrections(rows)  # family: the pairs


def _correlations(cohort: Cohort, values: np.ndarray) -> Rows:
    covariates = {"age_years": cohort.age_years, "bmi_kg_m2": cohort.bmi}
    rows = []
    for name, covariate in covariates.items():
        (other,) = (c for n, c in covariates.items() if n != name)
        for k, muscle in enumerate(cohort.muscles):
            who = modelled(cohort, k)
            held = np.stack([cohort.female[who], other[who]], 1)
            found = partial_correlation(values[who, k], covariate[who], held)
            rows.append({"covariate": name, "muscle": muscle} | found)
    return with_corrections(rows, lambda row: row["covariate"])  # family: the muscles


def _change(
    cohort: Cohort,
    first: np.ndarray,
    second: np.ndarray,
    unchanged: Mapping[str, Repeats] | None,
) -> dict[str, Rows]:
    rows, participants = [], []
    for k, muscle in enumerate(cohort.muscles):
        both = np.isfinite(first[:, k]) & np.isfinite(second[:, k])
        try:
            test = paired_test(first[both, k], second[both, k])
        except ValueError as error:
            raise ValueError(
                f"change of {muscle}: {error}; are the two sessions the same scans?"
            ) from error
        limits = agreement_limits(test["difference"], test["difference_sd"])
        noise = Repeats(int(test["n"]), test["difference_sd"])
        if unchanged is not None:
            if muscle not in unchanged:
                raise ValueError(f"the repeated scans have no {muscle}")
            noise = unchanged[muscle]
        smallest = smallest_detectable_change(noise.sd)
        detectable = {
            "smallest_detectable_change": smallest,
            "detectable_from": "changes" if unchanged is None else "repeated scans",
            "detectable_from_n": noise.n,
        }
        test = {n.replace("difference", "change"): v for n, v in test.items()}
        rows.append(
            {
                "muscle": muscle,
                "mean_first": first[both, k].mean(),
                "mean_second": second[both, k].mean(),
            }
            | test
            | limits
            | detectable
        )
        for i in np.flatnonzero(both):
            change = second[i, k] - first[i, k]
            participants.append(
                {
                    "participant_id": cohort.names[i],
                    "muscle": muscle,
                    "first": first[i, k],
                    "second": second[i, k],
                    "change": change,
                    "smallest_detectable_change": smallest,
                    "exceeds": bool(abs(change) > smallest),
                }
            )
    participants.sort(key=lambda row: row["participant_id"])
    # Family: the muscles.
    return {"change": with_corrections(rows), "change_participants": participants}


def _with_units(row: dict[str, Any], outcome: Outcome) -> dict[str, Any]:
    """The same with units in the names of the columns that have any."""
    result = {}
    for name, value in row.items():
        for ending in ("", "_se", "_sd", "_ci_low", "_ci_high"):
            stem = name.removesuffix(ending)
            if ending and stem == name:
                continue
            unit = (
                outcome.unit
                if stem in _LEVELS
                else outcome.step
                if stem in _STEPS
                else ""
            )
            if unit:
                per = "_per_unit" if stem == "slope" else ""
                name = f"{name}_{unit}{per}"
                break
        result[name] = value.item() if isinstance(value, np.generic) else value
    return result
