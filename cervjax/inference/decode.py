"""Labels of logits: at twice their resolution, or at any places between them.

Either way full resolution class probabilities are never held as a whole.
"""

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from cervjax.model.upsampling import map_fine_planes

_PLANES_AT_ONCE = 8
_PLACES = 16  # their number is a multiple of this


class Places(NamedTuple):
    """Points along an axis: the index before each, and how far it is to the next."""

    before: np.ndarray | Array
    beyond: np.ndarray | Array


class Member(NamedTuple):
    """What one of several networks says of a scan.

    Attributes:
        logits: (x, y, z, c).
        places: of the scan's voxels, along x, y and z.
        inside: bool, likewise: where it has looked; elsewhere it is background.
    """

    logits: np.ndarray
    places: tuple[Places, ...]
    inside: tuple[np.ndarray, ...]


def upsampled_labels(logits: Array, along_z: Literal[1, 2] = 2) -> tuple[Array, Array]:
    """Labels and largest probabilities of half-resolution logits, upsampled by 2.

    Args:
        logits: (b, x, y, z, c).
        along_z: 1 where logits have all slices already.

    Returns:
        uint8 labels and float32 probabilities, (b, 2x, 2y, along_z z). A tie goes to
        the lowest label.
    """
    return map_fine_planes(_largest, logits, along_z)


def places_between(size: int, count: int, *, start: float, step: int) -> Places:
    """Where a scan's voxels lie among logits, along an axis.

    The first and last voxels of scan and volume lie on each other, as in
    `resampling.resample`.

    Args:
        size: voxels of the volume that the network saw, without margin.
        count: voxels of the scan.
        start: of the first one, in the volume's voxels from the first logit.
        step: the volume's voxels from one logit to the next.
    """
    at = (start + np.linspace(0, size - 1, count)) / step
    before = np.floor(at)
    return Places(before.astype(np.int32), (at - before).astype(np.float32))


def with_room(at: Places, logits: int) -> Places:
    """As many places as all logits have room for, the last one repeated.

    Every scan has another number of voxels; with this one program serves all scans of
    a protocol whose logits have one shape.

    Args:
        at: of a scan's voxels, rising.
        logits: how many there are along that axis.
    """
    count, used = len(at.before), at.before[-1] + 2 - at.before[0]
    room = max(count, count * logits / used)
    more = math.ceil(room / _PLACES) * _PLACES - count
    return Places(*(np.pad(v, (0, more), mode="edge") for v in at))


def widened(at: Places, before: int, after: int) -> Places:
    """With so many places more at both ends, the first and the last one repeated."""
    return Places(*(np.pad(v, (before, after), mode="edge") for v in at))


def labels_at(logits: Array, places: tuple[Places, ...]) -> tuple[Array, Array]:
    """Labels and largest probabilities of logits interpolated at places.

    Args:
        logits: (x, y, z, c); beyond its ends the last one is repeated.
        places: along x, y and z.

    Returns:
        uint8 labels and float32 probabilities, of the places' lengths.
    """
    along_x, along_y, along_z = places
    planes = logits.transpose(0, 3, 1, 2)

    def plane(at: Places) -> tuple[Array, Array]:
        v = _between(planes, at, 0)
        v = _between(_between(v, along_y, 1), along_z, 2)
        label, probability = _largest(v.reshape(len(v), -1))
        return label.reshape(v.shape[1:]), probability.reshape(v.shape[1:])

    return lax.map(plane, along_x, batch_size=_PLANES_AT_ONCE)


def labels_of_mean(members: tuple[Member, ...]) -> tuple[Array, Array]:
    """Labels and largest probabilities, averaged over networks, at places.

    Args:
        members: of one number of classes and of places.

    Returns:
        uint8 labels and float32 probabilities, of the places' lengths. A tie goes to
        the lowest label.
    """

    def plane(i: Array) -> tuple[Array, Array]:
        total = sum(_probabilities(member, i) for member in members)
        mean = jnp.asarray(total) / len(members)
        return jnp.argmax(mean, 0).astype(jnp.uint8), mean.max(0)

    indices = jnp.arange(len(members[0].inside[0]))
    return lax.map(plane, indices, batch_size=_PLANES_AT_ONCE)


def _probabilities(member: Member, i: Array) -> Array:
    """(c, y, z) of the plane at the i-th place along x."""
    along_x, along_y, along_z = member.places
    at = Places(jnp.asarray(along_x.before)[i], jnp.asarray(along_x.beyond)[i])
    v = _between(jnp.asarray(member.logits).transpose(0, 3, 1, 2), at, 0)
    v = _between(_between(v, along_y, 1), along_z, 2)
    on_x, on_y, on_z = map(jnp.asarray, member.inside)
    inside = on_x[i] & on_y[:, None] & on_z[None, :]
    background = jnp.zeros((len(v), 1, 1)).at[0].set(1)
    return jnp.where(inside[None], jax.nn.softmax(v, axis=0), background)


def _between(v: Array, at: Places, axis: int) -> Array:
    """Linear interpolation along an axis; a single place takes the axis away."""
    last = v.shape[axis] - 1
    low, high = (
        jnp.take(v, jnp.minimum(jnp.asarray(at.before) + k, last), axis) for k in (0, 1)
    )
    share = jnp.asarray(at.beyond)
    others = [d for d in range(low.ndim) if share.ndim == 0 or d != axis]
    return low + (high - low) * jnp.expand_dims(share, others)


def _largest(logits: Array) -> tuple[Array, Array]:
    """Label and probability of the largest of (c, n)."""
    top, label = logits[0], jnp.zeros(logits.shape[1], jnp.float32)
    for k in range(1, len(logits)):
        higher = logits[k] > top
        top = jnp.where(higher, logits[k], top)
        label = jnp.where(higher, jnp.float32(k), label)  # as wide as the logits
    top = lax.optimization_barrier(top)
    total = sum((jnp.exp(one - top) for one in logits), jnp.zeros_like(top))
    return label.astype(jnp.uint8), 1 / total
