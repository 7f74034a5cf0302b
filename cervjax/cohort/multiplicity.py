"""Corrections of p values for the number of tests in a family."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from cervjax.evaluation.multiplicity import holm


def with_corrections(
    rows: Sequence[dict[str, Any]],
    family: Callable[[dict[str, Any]], Any] = lambda row: None,
) -> list[dict[str, Any]]:
    """The rows with ``p_holm`` and ``p_fdr`` behind ``p``, over each family.

    ``p_fdr`` is Benjamini and Hochberg's correction (J R Statist Soc B 1995;57:289):
    it controls the share of false ones among the findings.

    Args:
        rows: with a key ``p``.
        family: tells to which family a row belongs; by default all are one.
    """
    members: dict[Any, list[int]] = {}
    for i, row in enumerate(rows):
        members.setdefault(family(row), []).append(i)
    corrected = {}
    for index in members.values():
        p = np.array([rows[i]["p"] for i in index])
        pairs = zip(holm(p), stats.false_discovery_control(p), strict=True)
        corrected |= dict(zip(index, pairs, strict=True))
    return [_insert(row, *map(float, corrected[i])) for i, row in enumerate(rows)]


def _insert(row: dict[str, Any], p_holm: float, p_fdr: float) -> dict[str, Any]:
    result = {}
    for name, value in row.items():
        result[name] = value
        if name == "p":
            result |= {"p_holm": p_holm, "p_fdr": p_fdr}
    return result
