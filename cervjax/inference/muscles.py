"""From the classes of a network to the muscles of a scan: signal, place, levels."""

import numpy as np

from cervjax.anatomy import NUM_CLASSES, muscles_of
from cervjax.inference.levels import (
    SliceLevels,
    at_their_levels,
    levels_warnings,
    slice_levels,
)
from cervjax.inference.types import Segmentation
from cervjax.inference.verdict import judge, verdict_warnings
from cervjax.model.card import LevelsRule


def in_signal(labels: np.ndarray, voids: np.ndarray | None) -> np.ndarray:
    """Classes without muscles where there is no signal; bodies have little anyway."""
    if voids is None:
        return labels
    return np.where(voids & (labels < NUM_CLASSES), 0, labels).astype(np.uint8)


def pasted(
    found: Segmentation, box: tuple[slice, ...], shape: tuple[int, ...]
) -> Segmentation:
    """What was found in a part of the scan, in the whole; air is surely nothing."""

    def paste(values: np.ndarray, outside: float = 0) -> np.ndarray:
        whole = np.full(shape, outside, values.dtype)
        whole[box] = values
        return whole

    return found.each(paste)._replace(confidence=paste(found.confidence, 1))


def with_levels(
    found: Segmentation,
    spacing_mm: tuple[float, ...],
    rule: LevelsRule,
    given: SliceLevels | None = None,
) -> tuple[Segmentation, list[str]]:
    """From classes to muscles, at their levels if the rule says so; and warnings.

    Args:
        found: of a network that marks bodies, too.
        spacing_mm: of its voxels.
        rule: see `Settings`.
        given: levels of the slices that stand above what the network finds.
    """
    voxel_ml = float(np.prod(spacing_mm)) / 1000

    def levels_of(classes: np.ndarray) -> SliceLevels:
        return slice_levels(classes, voxel_ml) if given is None else given

    def muscles(classes: np.ndarray) -> np.ndarray:
        labels = muscles_of(classes)
        if rule == "none":
            return labels
        return at_their_levels(labels, levels_of(classes).number)

    levels = levels_of(found.labels)
    verdict = judge(muscles_of(found.labels), found.confidence, levels, spacing_mm)
    warnings = levels_warnings(levels) + verdict_warnings(verdict)
    return found.each(muscles)._replace(levels=levels, verdict=verdict), warnings
