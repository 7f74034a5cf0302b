"""Volumes that are right on average: shifts of the last bias, from labelled scans.

A network that is unsure of an outline draws it where its loss is least, which need not
be where the volume is right. A constant added to a muscle's logit moves its outline
everywhere a little; here it is chosen so that predicted and reference volumes agree.
Both sides of a muscle get the same shift. Nothing else of the network changes.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from cervjax.anatomy import NUM_CLASSES
from cervjax.inference.decode import Places
from cervjax.inference.segment import decode, prepare_images, scan_places
from cervjax.inference.stitching import Forward, Logits, stitched_logits
from cervjax.inference.tiling import whole_volume
from cervjax.inference.types import Settings
from cervjax.io.dixon import read_scan
from cervjax.io.labels import LabelledScan, read_labels
from cervjax.model.weights import Weights

REACH = 3.0
"""Shifts are sought from minus to plus this, in units of the logits."""
TOLERANCE = 0.005
"""Of the logarithm of a mean volume ratio."""
CLEAR = 0.05
"""Smaller moves tell nothing of how volumes follow."""
FIRST_MOVE = 0.1
"""Least size of the first move, from which it is learnt how volumes follow."""
_PAIR = np.repeat(np.arange(7), 2)  # of labels 1-14


class _Case(NamedTuple):
    """A scan: logits, places of its voxels, voxels of each label in the reference."""

    logits: Logits
    places: tuple[Places, Places, Places]
    reference: np.ndarray


def balance(
    weights: Weights,
    scans: Sequence[LabelledScan],
    *,
    target: float | Sequence[float] = 1.0,
    rounds: int = 10,
    log: Callable[[str], object] = print,
) -> tuple[Weights, np.ndarray, np.ndarray]:
    """Shifts the muscles' biases until mean volume ratios are right.

    By secants, all seven muscles at once; the logits of every scan stay in memory.

    Args:
        weights: to start from; their ``head_bias`` is shifted.
        scans: labelled; best others than those that judge the result.
        target: mean volume ratio, of all muscles or of each in the order of the labels;
            a little under 1 keeps fat beside a muscle out.
        rounds: at most.
        log: receives lines.

    Returns:
        Weights with another bias (card and digest as they were), the shifts (7,), in
        the order of the labels, and the mean volume ratios (7,) reached.

    Raises:
        ValueError: there is no scan, or one cannot be used; the target makes no sense.
    """
    targets = np.broadcast_to(np.asarray(target, np.float64), 7)
    if not np.all((targets >= 0.5) & (targets <= 2)):
        raise ValueError(f"a target must be a volume ratio near 1, got {target}")
    if not scans:
        raise ValueError("balancing volumes needs at least one labelled scan")
    cases = []
    for scan in scans:
        cases.append(_case(weights, scan))
        log(f"  {scan.scan.name}")
    snap = weights.card.snap_slice_ends
    shift, slope = np.zeros(7), np.full(7, 0.5)
    tried: list[tuple[np.ndarray, np.ndarray]] = []
    for number in range(rounds):
        ratios = [_volume_ratio(case, shift, snap) for case in cases]
        ratio = np.nanmean(ratios, axis=0)
        excess = np.log(np.maximum(ratio, 1e-3) / targets)
        log(f"round {number}: mean volume ratios {ratio.round(3)}")
        if tried:
            moved, change = shift - tried[-1][0], excess - tried[-1][1]
            clear = np.abs(moved) > CLEAR
            secant = np.clip(change / np.where(clear, moved, 1), 0.05, 3.0)
            slope = np.where(clear, secant, slope)
        tried.append((shift, excess))
        if np.nanmax(np.abs(excess)) < TOLERANCE:
            break
        step = np.clip(-np.nan_to_num(excess) / slope, -1.0, 1.0)
        if number == 0:
            step = np.copysign(np.maximum(np.abs(step), FIRST_MOVE), step)
        shift = np.clip(shift + step, -REACH, REACH)
    shift, excess = min(tried, key=lambda pair: float(np.nanmax(np.abs(pair[1]))))
    ratio = targets * np.exp(excess)
    variables: dict[str, Any] = jax.tree.map(np.array, weights.variables)
    variables["params"]["head_bias"][1:] += shift[_PAIR].astype(np.float32)
    return weights._replace(variables=variables), shift, ratio


def _case(weights: Weights, scan: LabelledScan) -> _Case:
    images = read_scan(scan.scan)
    reference = read_labels(scan.labels, images.grid)
    recipe = weights.card.recipe
    prepared = prepare_images(images, recipe, Settings("whole"))
    size, tta = prepared.image.shape[:3], weights.card.tta
    forward = Forward(weights.network, weights.variables, tta)
    tiling = whole_volume(size, recipe.padding)
    logits = stitched_logits(forward, prepared.image, tiling)
    places = scan_places(logits, size, recipe.padding, reference.shape, tta)
    counts = np.bincount(reference.reshape(-1), minlength=NUM_CLASSES)
    return _Case(logits, places, counts)


def _volume_ratio(case: _Case, shift: np.ndarray, snap_slice_ends: bool) -> np.ndarray:
    """Predicted over reference volume of the seven muscles, mean of both sides."""
    moved = case.logits.values + np.r_[0, shift[_PAIR]].astype(np.float32)
    logits = case.logits._replace(values=moved)
    labels = decode(logits, case.places, snap_slice_ends).labels
    counts = np.bincount(labels.reshape(-1), minlength=NUM_CLASSES)
    reference = np.where(case.reference > 0, case.reference, np.nan)
    return np.nanmean((counts / reference)[1:].reshape(7, 2), axis=1)
