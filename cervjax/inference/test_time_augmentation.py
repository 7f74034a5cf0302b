"""Test-time augmentation: logits averaged over two or four versions of a volume.

Two versions: the volume and its mirror image, so that what is symmetric stays so. Four:
both of them moved by one slice, too. The network answers at half the resolution, so
slices are seen in pairs; moved, they pair otherwise, and a muscle's last slice is told
from the next. On average over both, logits have the resolution of the slices.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from cervjax.anatomy import CLASS_PERMUTATION
from cervjax.inference.types import Size
from cervjax.model.card import Tta
from cervjax.model.dense_vnet import DenseVNet
from cervjax.model.region import Region, needed


def logit_steps(tta: Tta) -> Size:
    """Voxels from one logit to the next, along each axis."""
    return 2, 2, 1 if tta == 4 else 2


def averaged_logits(
    variables: Mapping[str, Any],
    batch: Array,
    *,
    network: DenseVNet,
    margin: Size = (0, 0, 0),
    flat: Size = (0, 0, 0),
    tta: Tta = 1,
    each: bool = False,
) -> Array:
    """Logits of what the labels within the margin depend on, averaged over versions.

    Args:
        variables: the network's.
        batch: (b, x, y, z, 2), padded and whitened; patients' left and right along x.
        network: to run.
        margin: voxels at both ends of each axis that need no label.
        flat: voxels at both ends of each axis along which the batch is constant.
        tta: 1, 2 or 4 versions.
        each: add what both sides say, the volume's and its mirror image's, so that it
            can be seen how they differ; nothing is added to one version.

    Returns:
        (b, x, y, z, classes) of `half_region`; with four versions twice as many along
        z. With ``each`` three times as many classes: the average's, then each side's.
    """
    region = half_region(batch.shape[1:4], margin)

    def once(x: Array, flat: Size) -> Array:
        logits: Any = network.apply(
            variables, x, method="half_resolution", region=region, flat=flat
        )
        return logits

    def twice(x: Array, flat: Size) -> Array:
        shrunk = (max(flat[0] - 1, 0), *flat[1:])
        there, back = _in_turn(
            lambda turned: once(jnp.where(turned, _mirrored(x), x), shrunk)
        )
        back = _mirrored_logits(back, region[0], x.shape[1] // 2)
        both = (there + back) / 2
        return jnp.concatenate([both, there, back], -1) if each else both

    if tta == 1:
        return once(batch, flat)
    if tta == 2:
        return twice(batch, flat)
    shrunk = (*flat[:2], max(flat[2] - 1, 0))
    stay, moved = _in_turn(
        lambda move: twice(jnp.where(move, _a_slice_up(batch), batch), shrunk)
    )
    return _interleaved(stay, moved)


def half_region(sizes: tuple[int, ...], margin: tuple[int, ...]) -> Region:
    """The half-resolution voxels that what is within the margins depends on."""
    inside = tuple((m, n - m) for m, n in zip(margin, sizes, strict=True))
    return needed(inside, 2, tuple(n // 2 for n in sizes))


def _in_turn(run: Callable[[Array], Array]) -> Array:
    """What ``run`` gives for False and True: compiled once, in the memory of one."""
    return lax.map(run, jnp.array([False, True]))


def _mirrored(x: Array) -> Array:
    """Voxel i to n - i, so that even voxels stay even.

    Half-resolution voxel i lies on voxel 2i (TensorFlow's upsampling). The plane that
    is lost is at the volume's end; the one that is missing repeats its neighbour.
    """
    return jnp.concatenate([x[:, -1:], x[:, :0:-1]], axis=1)


def _mirrored_logits(logits: Array, span: tuple[int, int], size: int) -> Array:
    """Logits of the mirrored volume at ``span`` of ``size`` half-resolution voxels.

    The span is symmetric but for what upsampling reads beyond its end, and the plane
    that has no mirror image; neighbours stand for these.
    """
    first, stop = span
    source = jnp.clip(size - jnp.arange(first, stop), first, stop - 1) - first
    classes = logits.shape[-1]
    partner = jnp.asarray(CLASS_PERMUTATION[:classes].astype(int))
    return logits[:, source][..., partner]


def _a_slice_up(x: Array) -> Array:
    """Slice i to i + 1; the first repeats its neighbour, the last is lost."""
    return jnp.concatenate([x[:, :, :, :1], x[:, :, :, :-1]], axis=3)


def _interleaved(stay: Array, moved: Array) -> Array:
    """The mean of both at all slices: of even ones the first knows, of odd ones both.

    Half-resolution voxel i lies on slice 2i of the volume, and if that was moved, on
    what was slice 2i - 1; in between lies the mean of two.
    """

    def following(v: Array) -> Array:
        return jnp.concatenate([v[:, :, :, 1:], v[:, :, :, -1:]], axis=3)

    after = following(moved)
    even = (stay + (moved + after) / 2) / 2
    odd = ((stay + following(stay)) / 2 + after) / 2
    both = jnp.stack([even, odd], axis=4)
    b, x, y, z, c = stay.shape
    return both.reshape(b, x, y, 2 * z, c)
