"""How good a network is on whole scans, as it will be used; and which was the best."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from cervjax.anatomy import IGNORED, muscles_of
from cervjax.data.cache import Volume
from cervjax.data.windows import whole_volumes
from cervjax.evaluation.overlap import confusion, dice_per_label
from cervjax.inference.levels import at_their_levels, slice_levels
from cervjax.inference.segment import segment_whole
from cervjax.model.dense_vnet import DenseVNet

GAIN = 1e-4
"""Of mean Dice: less is none."""


@dataclass(frozen=True)
class Best:
    """The best evaluation of a run so far; kept in its checkpoints.

    Attributes:
        dice: mean of scans and muscles; -1 before the first evaluation.
        step: when.
        evaluations_without_gain: since then.
    """

    dice: float = -1.0
    step: int = -1
    evaluations_without_gain: int = 0

    def after(self, step: int, dice: float) -> "Best":
        """The best after one more evaluation."""
        if dice > self.dice + GAIN:
            return Best(dice, step)
        return Best(self.dice, self.step, self.evaluations_without_gain + 1)

    def is_flat(self, patience: int) -> bool:
        """Whether so many evaluations (0: any number) brought no gain."""
        return 0 < patience <= self.evaluations_without_gain


class Way(NamedTuple):
    """How labels of a prepared scan are found.

    Attributes:
        padding: voxels of it on both ends of each axis.
        spacing_mm: of its voxels.
        at_levels: whether muscles are cut to their levels of Table 1.
    """

    padding: tuple[int, int, int]
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    at_levels: bool = False


def dice_of_scans(
    network: DenseVNet,
    variables: dict[str, Any],
    volumes: Sequence[Volume],
    way: Way,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Dice of whole scans, without augmentation, with moving statistics.

    Args:
        network: without ``axis_name``.
        variables: its parameters and statistics.
        volumes: prepared scans.
        way: how labels are found.

    Returns:
        Dice ``(scans, 14)``, NaN where a muscle is in neither, voxels that are
        `IGNORED` left out; and the labels of the first scan.
    """
    dice, first = [], None
    inner = tuple(slice(p, -p or None) for p in way.padding)
    for _, image, labels in whole_volumes(volumes):
        classes = segment_whole(network, variables, image, way.padding)
        found = muscles_of(classes)
        if way.at_levels:
            levels = slice_levels(classes, float(np.prod(way.spacing_mm)) / 1000)
            found = at_their_levels(found, levels.number)
        known = labels[inner] != IGNORED
        reference = muscles_of(labels[inner])
        dice.append(dice_per_label(confusion(found[known], reference[known])))
        first = found if first is None else first
    return np.array(dice).reshape(-1, 14), first
