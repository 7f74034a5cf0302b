"""Dice losses, from sums over voxels per sample and class.

The network ends at half resolution; its logits are upsampled part by part inside the
sums, so that no class probabilities of a whole volume are ever held, forward or
backward.
"""

from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from cervjax.upsampling import sum_fine_planes

EPSILON = 1e-5


class Overlap(NamedTuple):
    """Sums over the voxels of each sample and class, all (b, classes).

    Attributes:
        shared: of ``p g``, probability times reference.
        squared: of ``p ** 2``.
        reference: of ``g``.
    """

    shared: Array
    squared: Array
    reference: Array


def overlap(logits: Array, labels: Array) -> Overlap:
    """Sums for logits at the labels' resolution.

    Args:
        logits: float32 (b, x, y, z, c).
        labels: integers (b, x, y, z) in 0 ... c - 1.
    """
    b, c = logits.shape[0], logits.shape[-1]
    return _overlap(
        jnp.moveaxis(logits.reshape(b, -1, c), -1, 0), labels.reshape(b, -1)
    )


def overlap_upsampled(half_logits: Array, labels: Array) -> Overlap:
    """Sums for logits at half the labels' resolution.

    Args:
        half_logits: float32 (b, x, y, z, c).
        labels: integers (b, 2x, 2y, 2z) in 0 ... c - 1.
    """
    return sum_fine_planes(_overlap, half_logits, labels)


def dice(sums: Overlap) -> Array:
    """``1 - mean over classes of (2 shared + e) / (squared + reference + e)``, (b,).

    NiftyNet's "Dice": background included, an absent class counts.
    """
    shared, squared, reference = sums
    score = (2 * shared + EPSILON) / (squared + reference + EPSILON)
    return 1 - score.mean(-1)


@jax.custom_vjp
def _overlap(logits: Array, labels: Array) -> Overlap:
    """Classes first: (c, b, n) and (b, n)."""
    p = _probabilities(logits)
    g = labels[None] == jnp.arange(len(p)).reshape(-1, 1, 1).astype(labels.dtype)
    sums = (jnp.where(g, p, 0).sum(2), jnp.square(p).sum(2), g.astype(p.dtype).sum(2))
    return Overlap(*(s.T for s in sums))


def _overlap_forward(logits: Array, labels: Array):
    return _overlap(logits, labels), (logits, labels)


def _overlap_backward(saved: tuple[Array, Array], weights: Overlap):
    """By hand, and class by class, which XLA on CPUs runs much faster than its own."""
    logits, labels = saved
    p = _probabilities(logits)
    shared, squared = (w.T[..., None] for w in weights[:2])
    slopes = [
        jnp.where(labels == k, shared[k], 0) + 2 * squared[k] * p[k]
        for k in range(len(p))
    ]
    mean = reduce(jnp.add, [p[k] * slope for k, slope in enumerate(slopes)])
    mean = lax.optimization_barrier(mean)
    return jnp.stack([p[k] * (slope - mean) for k, slope in enumerate(slopes)]), None


_overlap.defvjp(_overlap_forward, _overlap_backward)


def _probabilities(logits: Array) -> Array:
    top = lax.stop_gradient(logits.max(0, keepdims=True))
    raised = lax.optimization_barrier(jnp.exp(logits - top))
    total = lax.optimization_barrier(1 / raised.sum(0, keepdims=True))
    return lax.optimization_barrier(raised * total)
