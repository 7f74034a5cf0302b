"""How good a network is on whole scans, as it would be used."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cervjax.data.cache import Volume
from cervjax.data.windows import whole_volumes
from cervjax.evaluation.overlap import confusion, dice_per_label
from cervjax.inference.segment import segment_whole
from cervjax.model.dense_vnet import DenseVNet


def evaluate(
    network: DenseVNet,
    variables: dict[str, Any],
    volumes: Sequence[Volume],
    padding: tuple[int, int, int],
) -> tuple[np.ndarray, np.ndarray | None]:
    """Dice of whole scans, without augmentation, with moving statistics.

    Returns:
        Dice ``(scans, 14)``, NaN where a muscle is in neither; and the labels of the
        first scan.
    """
    dice, first = [], None
    inner = tuple(slice(p, -p or None) for p in padding)
    for _, image, labels in whole_volumes(volumes):
        found = segment_whole(network, variables, image, padding)
        dice.append(dice_per_label(confusion(found, labels[inner])))
        first = found if first is None else first
    return np.array(dice).reshape(-1, 14), first
