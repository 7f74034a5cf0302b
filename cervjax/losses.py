"""Dice losses, from sums over voxels per sample and class.

The network ends at half resolution; its logits are upsampled part by part inside the
sums, so that no class probabilities of a whole volume are ever held, forward or
backward.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

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


def _overlap(logits: Array, labels: Array) -> Overlap:
    """Classes first: (c, b, n) and (b, n)."""
    p = jax.nn.softmax(logits, axis=0)
    classes = jnp.arange(len(logits)).reshape(-1, 1, 1)
    g = labels[None].astype(classes.dtype) == classes
    sums = (jnp.where(g, p, 0).sum(2), jnp.square(p).sum(2), g.astype(p.dtype).sum(2))
    return Overlap(*(s.T for s in sums))
