"""Holm's correction of p values for the number of tests in a family."""

import numpy as np
from jaxtyping import Float


def holm(p: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Holm's step-down correction: controls the chance of any false finding.

    Args:
        p: in [0, 1]. NaN, a test that could not be done, stays NaN and does not count.

    Reference: Holm, Scand J Statist 1979;6:65.
    """
    known = np.isfinite(p)
    order = np.flatnonzero(known)[np.argsort(p[known])]
    raised = np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1))
    corrected = np.full(len(p), np.nan)
    corrected[order] = np.minimum(raised, 1)
    return corrected
