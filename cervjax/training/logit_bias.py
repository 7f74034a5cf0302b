"""Volumes that are right on average: a constant added to each muscle's logit.

A network that is unsure of an outline draws it where its loss is least, which need not
be where the volume is right. A constant added to a muscle's logit, the bias of the last
convolution, moves its outline everywhere a little; here it is chosen so that predicted
and reference volumes agree on average over labelled scans. Both sides of a muscle get
the same constant. Nothing else of the network changes.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from cervjax.anatomy import IGNORED, NUM_CLASSES
from cervjax.inference.decode import Places
from cervjax.inference.muscles import in_signal, with_levels
from cervjax.inference.segment import (
    decode,
    part_shape,
    part_spacing_mm,
    prepare_images,
    scan_places,
)
from cervjax.inference.stitching import Forward, Logits, stitched_logits
from cervjax.inference.tiling import whole_volume
from cervjax.inference.types import Settings
from cervjax.io.dixon import read_scan
from cervjax.io.label_sets import read_label_set
from cervjax.io.labels import LabelledScan, read_labels
from cervjax.model.card import LevelsRule
from cervjax.model.weights import Weights

MUSCLE_PAIRS = 7
LARGEST_SHIFT = 3.0
"""Shifts are sought from minus to plus this, in units of the logits."""
TOLERANCE = 0.005
"""Of the logarithm of a mean volume ratio, at which the search ends."""
SMALLEST_MOVE = 0.05
"""A smaller change of the shift does not tell how the volume follows it."""
FIRST_MOVE = 0.1
"""Least size of the first change, from which it is learnt how volumes follow."""
FIRST_SLOPE = 0.5
"""How the logarithm of a volume follows the shift, until it is learnt."""
_PAIR = np.repeat(np.arange(MUSCLE_PAIRS), 2)  # of labels 1-14


class Debiased(NamedTuple):
    """Weights whose volumes are right on average.

    Attributes:
        weights: with another ``head_bias``; card and digest as they were.
        shift: (7,) what was added, in the order of the labels.
        ratio: (7,) the mean volume ratios reached.
    """

    weights: Weights
    shift: np.ndarray
    ratio: np.ndarray


class _Case(NamedTuple):
    """A scan: logits, places and size of its voxels, reference counts, rule.

    In voids, without signal or ignored, nothing is found.
    """

    logits: Logits
    places: tuple[Places, Places, Places]
    spacing_mm: tuple[float, ...]
    reference: np.ndarray
    voids: np.ndarray | None = None
    rule: LevelsRule = "paper"


def fit_logit_bias(
    weights: Weights,
    scans: Sequence[LabelledScan],
    *,
    target: float | Sequence[float] = 1.0,
    rounds: int = 10,
    log: Callable[[str], object] = print,
) -> Debiased:
    """Shifts the muscles' biases until mean volume ratios are right.

    By the secant method, all seven muscles at once; the logits of every scan stay in
    memory.

    Args:
        weights: to start from.
        scans: labelled; not those on which the result is evaluated later.
        target: mean of predicted over reference volume, of all muscles or of each in
            the order of the labels; a little under 1 keeps fat beside a muscle out.
        rounds: at most.
        log: receives lines.

    Raises:
        ValueError: there is no scan, or one cannot be used; the target makes no sense.
    """
    targets = np.broadcast_to(np.asarray(target, np.float64), MUSCLE_PAIRS)
    if not np.all((targets >= 0.5) & (targets <= 2)):
        raise ValueError(f"a target must be a volume ratio near 1, got {target}")
    if not scans:
        raise ValueError("fitting the logit bias needs at least one labelled scan")
    cases = []
    for scan in scans:
        cases.append(_case(weights, scan))
        log(f"  {scan.scan.name}")
    shift, slope = np.zeros(MUSCLE_PAIRS), np.full(MUSCLE_PAIRS, FIRST_SLOPE)
    tried: list[tuple[np.ndarray, np.ndarray]] = []  # shifts, log ratio over target
    for number in range(rounds):
        ratios = [_volume_ratio(case, shift) for case in cases]
        ratio = _mean_of_known(np.array(ratios), axis=0)
        excess = np.log(np.maximum(ratio, 1e-3) / targets)
        log(f"round {number}: mean volume ratios {ratio.round(3)}")
        if tried:
            slope = _secant(slope, shift - tried[-1][0], excess - tried[-1][1])
        tried.append((shift, excess))
        if np.nanmax(np.abs(excess)) < TOLERANCE:
            break
        step = np.clip(-np.nan_to_num(excess) / slope, -1.0, 1.0)
        if number == 0:
            step = np.copysign(np.maximum(np.abs(step), FIRST_MOVE), step)
        step = np.where(np.isfinite(excess), step, 0)  # not of an absent muscle
        shift = np.clip(shift + step, -LARGEST_SHIFT, LARGEST_SHIFT)
    shift, excess = min(tried, key=lambda pair: float(np.nanmax(np.abs(pair[1]))))
    variables: dict[str, Any] = jax.tree.map(np.array, weights.variables)
    variables["params"]["head_bias"][1:NUM_CLASSES] += shift[_PAIR].astype(np.float32)
    new = weights._replace(variables=variables)
    return Debiased(new, shift, targets * np.exp(excess))


def _secant(slope: np.ndarray, moved: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Slopes of the last move; as before where it was too small to tell."""
    clear = np.abs(moved) > SMALLEST_MOVE
    secant = np.clip(change / np.where(clear, moved, 1), 0.05, 3.0)
    return np.where(clear, secant, slope)


def _case(weights: Weights, scan: LabelledScan) -> _Case:
    images = read_scan(scan.scan)
    label_set = read_label_set("", scan.labels.parent)
    drawn = read_labels(
        scan.labels, images.grid, label_set=label_set, keep_ignored=True
    )
    reference = np.where(drawn == IGNORED, 0, drawn)
    recipe = weights.card.recipe
    prepared = prepare_images(images, recipe, Settings("whole"))
    size, tta = prepared.image.shape[:3], weights.card.tta
    forward = Forward(weights.network, weights.variables, tta)
    tiling = whole_volume(size, recipe.padding)
    logits = stitched_logits(forward, prepared.image, tiling)
    part = part_shape(prepared, reference.shape)
    places = scan_places(logits, size, recipe.padding, part, tta)
    voids = prepared.voids
    if (drawn == IGNORED).any():
        hidden = (drawn == IGNORED)[prepared.box or ...]
        voids = hidden if voids is None else voids | hidden
    counts = np.bincount(reference.reshape(-1), minlength=NUM_CLASSES)
    return _Case(
        logits,
        places,
        part_spacing_mm(prepared, part, recipe),
        counts,
        voids,
        weights.card.levels_rule,
    )


def _volume_ratio(case: _Case, shift: np.ndarray) -> np.ndarray:
    """Predicted over reference volume of the seven muscles, mean of both sides."""
    values = case.logits.values
    others = np.zeros(values.shape[-1] - NUM_CLASSES)  # bodies stay as they are
    moved = values + np.r_[0, shift[_PAIR], others].astype(np.float32)
    found = decode(case.logits._replace(values=moved), case.places)
    found = found._replace(labels=in_signal(found.labels, case.voids))
    if len(others):  # as the reference is drawn
        found, _ = with_levels(found, case.spacing_mm, case.rule)
    counts = np.bincount(found.labels.reshape(-1), minlength=NUM_CLASSES)
    reference = np.where(case.reference > 0, case.reference, np.nan)
    ratios = (counts / reference)[1:].reshape(MUSCLE_PAIRS, 2)
    return _mean_of_known(ratios, axis=1)


def _mean_of_known(values: np.ndarray, axis: int) -> np.ndarray:
    """The mean of what is not NaN; NaN where nothing is, as of an absent muscle."""
    known = np.isfinite(values)
    number = known.sum(axis)
    total = np.where(known, values, 0).sum(axis)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)
