"""Losses, from sums over voxels per sample and class: pure functions.

Voxels labelled `IGNORED` belong to no sum. Where masks show muscles only, and a network
finds vertebral bodies too, background, bodies and muscles that were never drawn are one
class: its probability is the sum of theirs (a marginal likelihood). A blank voxel then
says that none of the drawn muscles is there, and not which of the others is. Where
masks show muscles at their levels of Table 1 only, the same goes for a muscle in the
slices in which it was not drawn.

The network ends at half resolution; its logits are upsampled part by part inside the
sums, so that no class probabilities of a whole volume are ever held, forward or
backward. NiftyNet averages each sample's loss over the batch; so do `LOSSES`.
"""

from collections.abc import Callable
from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from cervjax.anatomy import IGNORED, NUM_CLASSES
from cervjax.model.upsampling import sum_fine_planes

EPSILON = 1e-5
NEVER = -1e9
"""The logit of what cannot be."""
_FIRST_BIT = 7


class Overlap(NamedTuple):
    """Sums over the voxels of each sample and class, all (b, classes).

    Attributes:
        shared: of ``p g``, probability times reference.
        squared: of ``p ** 2``.
        reference: of ``g``.
        predicted: of ``p``.
        log_likelihood: of ``g log p``.
    """

    shared: Array
    squared: Array
    reference: Array
    predicted: Array
    log_likelihood: Array


def overlap(logits: Array, labels: Array) -> Overlap:
    """Sums for logits at the labels' resolution.

    Args:
        logits: float32 (b, x, y, z, c).
        labels: integers (b, x, y, z) in 0 ... c - 1, or `IGNORED`.
    """
    b, c = logits.shape[0], logits.shape[-1]
    return _overlap(
        jnp.moveaxis(logits.reshape(b, -1, c), -1, 0), labels.reshape(b, -1)
    )


def overlap_upsampled(
    half_logits: Array, labels: Array, unknown: tuple[int, ...] | None = None
) -> Overlap:
    """Sums for logits at half the labels' resolution.

    Args:
        half_logits: float32 (b, x, y, z, c).
        labels: integers (b, 2x, 2y, 2z) in 0 ... c - 1, or `IGNORED`.
        unknown: None where labels are of all classes. Else they are of muscles, 0-14,
            without these, perhaps as `with_undrawn` gives them; sums are of 15 classes.
    """
    if unknown is None:
        return sum_fine_planes(_overlap, half_logits, labels)
    of_part = partial(_overlap_of_muscles, unknown=unknown)
    return sum_fine_planes(of_part, half_logits, labels)


def with_undrawn(labels: Array) -> Array:
    """Labels and, in the bits above them, the muscles that their slice does not show.

    Args:
        labels: uint8 (b, x, y, z), 0-14 or `IGNORED`.

    Returns:
        uint32 (b, x, y, z): bit ``7 + label`` is set where no voxel of the slice,
        across z, has the label.
    """
    bits = jnp.zeros((), jnp.uint32)
    for label in range(1, NUM_CLASSES):
        drawn = jnp.any(labels == label, (1, 2), keepdims=True)
        bits = bits | jnp.where(drawn, 0, 1 << (_FIRST_BIT + label)).astype(jnp.uint32)
    return labels.astype(jnp.uint32) | bits


def muscle_logits(
    logits: Array, unknown: tuple[int, ...] = (), undrawn: Array | None = None
) -> Array:
    """One logit for all that is no known muscle, then the muscles'.

    Softmax of these gives known muscles the same probabilities as softmax of all, and
    the others 0.

    Args:
        logits: (c, ...), classes first.
        unknown: labels of muscles.
        undrawn: (...) of `with_undrawn`: further ones, voxel by voxel.

    Returns:
        (15, ...).
    """
    never = jnp.full_like(logits[0], NEVER)
    others, known = [logits[0], *logits[NUM_CLASSES:]], []
    for k in range(1, NUM_CLASSES):
        if k in unknown:
            others.append(logits[k])
            known.append(never)
        elif undrawn is None:
            known.append(logits[k])
        else:
            is_other = (undrawn >> (_FIRST_BIT + k)) & 1 == 1
            others.append(jnp.where(is_other, logits[k], never))
            known.append(jnp.where(is_other, never, logits[k]))
    return jnp.stack([jax.nn.logsumexp(jnp.stack(others), 0), *known])


def dice(sums: Overlap) -> Array:
    """``1 - mean over classes of (2 shared + e) / (squared + reference + e)``, (b,).

    NiftyNet's "Dice": background included, an absent class counts.
    """
    score = (2 * sums.shared + EPSILON) / (sums.squared + sums.reference + EPSILON)
    return 1 - score.mean(-1)


def dice_hinge(sums: Overlap) -> Array:
    """Dice with hinges that push every class off zero, (b,).

    ``1 - mean D + 10 mean (10 min(0.1, D) - 1)^2 + 10 mean (100 min(0.01, D) - 1)^2``
    with ``D = 2 shared / (squared + reference + e)``, over all classes: the loss of the
    dense V-Net's model-zoo entry, which the paper names. A class that a window lacks
    has D = 0: it adds a constant and no gradient.
    """
    score = 2 * sums.shared / (sums.squared + sums.reference + EPSILON)
    first = jnp.square(10 * jnp.minimum(0.1, score) - 1).mean(-1)
    second = jnp.square(100 * jnp.minimum(0.01, score) - 1).mean(-1)
    return 1 - score.mean(-1) + 10 * (first + second)


def dice_linear(sums: Overlap) -> Array:
    """Dice with ``p`` instead of ``p ** 2`` below, (b,): NiftyNet's "Dice_NS"."""
    score = (2 * sums.shared + EPSILON) / (sums.predicted + sums.reference + EPSILON)
    return 1 - score.mean(-1)


def generalised_dice(sums: Overlap) -> Array:
    """Sudre et al. 2017, classes weighted by ``1 / reference ** 2``: "GDSC", (b,).

    An absent class gets the largest weight of the others.
    """
    weight = 1 / jnp.square(jnp.maximum(sums.reference, 1e-30))
    present = sums.reference > 0
    largest = jnp.where(present, weight, 0).max(-1, keepdims=True)
    weight = lax.stop_gradient(jnp.where(present, weight, largest))
    volume = jnp.maximum(sums.predicted + sums.reference, 1)
    total = jnp.maximum((weight * volume).sum(-1), 1e-12)  # 0 where all is ignored
    return 1 - 2 * (weight * sums.shared).sum(-1) / total


def cross_entropy(sums: Overlap) -> Array:
    """Mean over voxels of ``-log p`` of the reference class, (b,)."""
    return -sums.log_likelihood.sum(-1) / jnp.maximum(sums.reference.sum(-1), 1)


def dice_plus_cross_entropy(sums: Overlap) -> Array:
    """Cross-entropy less the linear Dice score: NiftyNet's "DicePlusXEnt", (b,)."""
    return cross_entropy(sums) - 1 + dice_linear(sums)


def dice_balanced_cross_entropy(sums: Overlap) -> Array:
    """Dice of the classes a window has, plus a cross-entropy that favours small ones.

    The mean of ``-log p`` is taken per class and the classes are weighted by the square
    root of their voxels, so that background does not drown a muscle. Not NiftyNet's.
    """
    present = (sums.reference > 0).astype(sums.shared.dtype)
    score = 2 * sums.shared / (sums.squared + sums.reference + EPSILON)
    weight = jnp.sqrt(sums.reference)
    mean = -sums.log_likelihood / jnp.maximum(sums.reference, 1)
    balanced = (weight * mean).sum(-1) / jnp.maximum(weight.sum(-1), 1)
    found = (present * score).sum(-1) / jnp.maximum(present.sum(-1), 1)
    return 1 - found + balanced


LOSSES: dict[str, Callable[[Overlap], Array]] = {
    "dice_hinge": dice_hinge,
    "dice": dice,
    "dice_linear": dice_linear,
    "generalised_dice": generalised_dice,
    "cross_entropy": cross_entropy,
    "dice_plus_cross_entropy": dice_plus_cross_entropy,
    "dice_balanced_cross_entropy": dice_balanced_cross_entropy,
}
"""By the name a config gives."""


@jax.custom_vjp
def _overlap(logits: Array, labels: Array) -> Overlap:
    """Classes first: (c, b, n) and (b, n)."""
    p, log_total = _probabilities(logits)
    p = jnp.where(labels == IGNORED, 0, p)
    g = labels[None] == jnp.arange(len(p)).reshape(-1, 1, 1).astype(labels.dtype)
    sums = (
        jnp.where(g, p, 0),
        jnp.square(p),
        g.astype(p.dtype),
        p,
        jnp.where(g, logits - log_total, 0),
    )
    return Overlap(*(s.sum(2).T for s in sums))


def _overlap_of_muscles(
    logits: Array, labels: Array, unknown: tuple[int, ...]
) -> Overlap:
    if labels.dtype != jnp.uint32:
        return _overlap(muscle_logits(logits, unknown), labels)
    low = labels & ((1 << (_FIRST_BIT + 1)) - 1)
    return _overlap(muscle_logits(logits, unknown, labels), low)


def _overlap_forward(logits: Array, labels: Array):
    return _overlap(logits, labels), (logits, labels)


def _overlap_backward(saved: tuple[Array, Array], weights: Overlap):
    """By hand, and class by class, which XLA on CPUs runs much faster than its own."""
    logits, labels = saved
    p, _ = _probabilities(logits)
    p = jnp.where(labels == IGNORED, 0, p)  # so that no slope is left
    classes = range(len(p))
    shared, squared, _, predicted, likelihood = (w.T[..., None] for w in weights)
    own = [jnp.where(labels == k, likelihood[k], 0) for k in classes]
    slopes = [
        jnp.where(labels == k, shared[k], 0) + 2 * squared[k] * p[k] + predicted[k]
        for k in classes
    ]
    mean = reduce(jnp.add, [p[k] * slopes[k] + own[k] for k in classes])
    mean = lax.optimization_barrier(mean)
    return jnp.stack([p[k] * (slopes[k] - mean) + own[k] for k in classes]), None


_overlap.defvjp(_overlap_forward, _overlap_backward)


def _probabilities(logits: Array) -> tuple[Array, Array]:
    """Probabilities, and the logarithm of the sum that divides them."""
    top = lax.stop_gradient(logits.max(0, keepdims=True))
    raised = lax.optimization_barrier(jnp.exp(logits - top))
    total = lax.optimization_barrier(raised.sum(0, keepdims=True))
    return lax.optimization_barrier(raised * (1 / total)), top + jnp.log(total)
