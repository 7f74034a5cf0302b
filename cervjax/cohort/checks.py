"""Whether a cohort can be analysed; if not, what is wrong in which file."""

from pathlib import Path

import numpy as np

from cervjax.cohort.assembly import Cohort, modelled


def check_cohort(cohort: Cohort, measurements: Path, participants: Path) -> None:
    """Makes sure that every model can be fitted.

    Args:
        cohort: the cohort.
        measurements: its file, for messages.
        participants: its file, for messages.

    Raises:
        ValueError: too few participants, one sex only, a column without variation, age
            and BMI that are the same up to a scale, or fewer than two muscles.
    """
    if len(cohort.muscles) < 2:
        raise ValueError(
            f"{measurements}: only {', '.join(cohort.muscles) or 'no muscle'} is there "
            "on both sides in anybody; at least two muscles are needed"
        )
    sets = [("all muscles", modelled(cohort))]
    sets += [(m, modelled(cohort, k)) for k, m in enumerate(cohort.muscles)]
    for what, rows in sets:
        _check_participants(cohort, what, rows, measurements, participants)
    for name, values in (("MFI", cohort.mfi[0]), ("volume", cohort.volume[0])):
        for k, muscle in enumerate(cohort.muscles):
            if np.ptp(values[modelled(cohort, k), k]) == 0:
                raise ValueError(
                    f"{measurements}: the {name} of {muscle} is the same in everybody "
                    f"({values[modelled(cohort, k), k][0]:g}); check the column"
                )
    if len(cohort.sessions) == 2:
        both = np.isfinite(cohort.mfi).all(0).sum(0)
        if both.min() < 3:
            raise ValueError(
                f"{measurements}: {cohort.muscles[both.argmin()]} is there at both "
                f"sessions in {both.min()} participants, but change needs 3; leave a "
                f"session out with --sessions {cohort.sessions[0]}"
            )


def _check_participants(
    cohort: Cohort,
    what: str,
    rows: np.ndarray,
    measurements: Path,
    participants: Path,
) -> None:
    n, needed = int(rows.sum()), 4 + 2
    if n < needed:
        raise ValueError(
            f"{measurements} and {participants}: {n} participants have {what}, sex, "
            f"age and BMI, but the model needs at least {needed} (4 coefficients and "
            "2); add participants or complete the tables"
        )
    women = int(cohort.female[rows].sum())
    if women in (0, n):
        raise ValueError(
            f"{participants}: all {n} participants with {what} are "
            f"{'men' if women == 0 else 'women'}, but the models compare the sexes; "
            "add participants of the other sex"
        )
    covariates = {"age": cohort.age_years[rows], "bmi": cohort.bmi[rows]}
    for name, values in covariates.items():
        if np.ptp(values) == 0:
            raise ValueError(
                f"{participants}: {name} is {values[0]:g} in all {n} participants with "
                f"{what}; a covariate must vary: check the column"
            )
    columns = np.stack([cohort.female[rows], *covariates.values()], 1)
    columns = columns - columns.mean(0)
    if np.linalg.matrix_rank(columns / np.linalg.norm(columns, axis=0), tol=1e-6) < 3:
        raise ValueError(
            f"{participants}: sex, age and BMI of the {n} participants with {what} are "
            "not independent (one follows from the others); check the columns"
        )
