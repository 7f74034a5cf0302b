"""What a protocol will give: bias, agreement, detectable change, people needed."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from cervjax.cohort.paired import agreement_limits, smallest_detectable_change

_MOST_PEOPLE = 100_000


def plan(
    measured: Mapping[str, np.ndarray],
    true: Mapping[str, np.ndarray],
    *,
    effect: float,
    power: float = 0.8,
    alpha: float = 0.05,
) -> list[dict[str, Any]]:
    """Per muscle, from people measured twice while nothing changed.

    Args:
        measured: per muscle ``(person, session)``, in any unit.
        true: the same of the truth.
        effect: the mean change, or difference of two groups, to be shown; same unit.
        power: chance to find it.
        alpha: two-sided level of the t-test.

    Returns:
        ``bias`` (measured less true) with its 95 % limits of agreement,
        ``repeat_sd`` of the differences between sessions, the smallest detectable
        change of one person, ``people_sd`` between people, and the people needed for
        the effect: ``people_change``, each measured twice, for the same change in
        everybody; ``people_per_group`` for a difference of two groups measured once.

    Raises:
        ValueError: effect, power or alpha make no sense.
    """
    if not (effect > 0 and 0 < power < 1 and 0 < alpha < 1):
        raise ValueError(
            "effect must be positive, power and alpha between 0 and 1, got "
            f"{effect:g}, {power:g} and {alpha:g}"
        )
    rows = []
    for muscle, both in measured.items():
        whole = np.isfinite(both).all(1)
        values, truth = both[whole], true[muscle][whole]
        row: dict[str, Any] = {"muscle": muscle, "people": int(whole.sum())}
        if len(values) >= 3:
            row |= _numbers(values, truth, effect, power, alpha)
        rows.append(row)
    return rows


def people_needed(
    sd: float, effect: float, *, power: float, alpha: float, groups: int
) -> int | None:
    """People (per group) for a t-test to find a mean ``effect``.

    Args:
        sd: of the differences (one group), or of people (two groups).
        effect: to be found.
        power: chance to find it.
        alpha: two-sided.
        groups: 1 (paired) or 2.

    Returns:
        The number; None beyond 100,000.
    """

    def enough(n: int) -> bool:
        df = groups * (n - 1)
        shift = effect / (sd * np.sqrt(groups / n))
        critical = stats.t.ppf(1 - alpha / 2, df)
        return stats.nct.sf(critical, df, shift) >= power

    if sd <= 0 or enough(2):
        return 2
    low, high = 2, 4
    while not enough(high):
        low, high = high, 2 * high
        if high > _MOST_PEOPLE:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _numbers(
    values: np.ndarray, truth: np.ndarray, effect: float, power: float, alpha: float
) -> dict[str, Any]:
    error = (values - truth).mean(1)  # of a person: sessions are no further people
    repeat = values[:, 1] - values[:, 0]
    bias = float(error.mean())
    repeat_sd = float(repeat.std(ddof=1))
    people_sd = float(values[:, 0].std(ddof=1))
    within = float((values - truth).std(ddof=1))
    how = {"power": power, "alpha": alpha}
    return {
        "mean": float(values.mean()),
        "bias": bias,
        **agreement_limits(bias, within),
        "repeat_sd": repeat_sd,
        "smallest_detectable_change": smallest_detectable_change(repeat_sd),
        "people_sd": people_sd,
        "people_change": people_needed(repeat_sd, effect, groups=1, **how),
        "people_per_group": people_needed(people_sd, effect, groups=2, **how),
    }
