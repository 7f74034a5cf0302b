"""Correlation and its kernel's gradient as matrix products over slabs of x-planes.

A slab is so small that its temporaries stay in cache. Taps are gathered as channels of
one factor or come out as channels of the product, whichever copies least. Tensors are
``(batch, x, y, z, channel)``, of which the first axis of a slab is x; the reach of a
kernel is one pair (taps before, taps after) per axis; all strides are 1, or 2 along x
and y alone (`convolution` folds the rest into channels).
"""

import itertools
import math
from collections.abc import Callable, Sequence
from functools import reduce

import jax.numpy as jnp
from jax import Array, lax

Padding = tuple[tuple[int, int], ...]
Parts = tuple[Array, ...]

_SLAB_FLOATS = 1 << 18  # temporaries of one slab: 1 MiB, what caches of two cores hold


def correlate(
    parts: Parts,
    kernel: Array,
    padding: Padding,
    stride: int = 1,
    then: Callable[[Array], Array] = lambda planes: planes,
) -> Array:
    """Correlation with zeros outside, one matrix product per slab of x-planes.

    Along some axes the taps are gathered beforehand as input channels, along the others
    they come out as output channels and are summed after, whichever copies least.

    Args:
        parts: float32 (b, X, Y, Z, C), to be concatenated along the channels.
        kernel: float32 (kx, ky, kz, C, O).
        padding: the reach of the kernel.
        stride: along x and y; along z it is 1.
        then: done to the planes (x, y, z, O) of each slab, while they are in cache; may
            change all sizes but the first.

    Returns:
        float32 (b, ceil(X / stride), ceil(Y / stride), Z, O), or what ``then`` gives.
    """
    taps, (c, o) = kernel.shape[:3], kernel.shape[3:]
    batch, nx, ny, nz, _ = parts[0].shape
    planes, ny = -(-nx // stride), -(-ny // stride)
    ways = [(0,), (0, 1), (0, 1, 2)] if stride == 1 else [(0, 1)]
    inner = min(ways, key=lambda axes: sum(_widths(axes, taps, c, o)))
    outer = tuple(a for a in range(3) if a not in inner)
    widths = _widths(inner, taps, c, o)
    matrix = kernel.transpose(*inner, 3, *outer, 4).reshape(widths)

    def slab(element: Array, start: Array, count: int) -> Array:
        rows = _gather(parts, element, start, (count, ny), padding, inner, stride)
        product = rows.reshape(-1, widths[0]) @ matrix
        return then(_sum_taps(product.reshape(count, ny, nz, -1), padding, outer))

    return _by_slabs(slab, batch, planes, ny * nz * (c + sum(widths)))


def _widths(
    inner: tuple[int, ...], taps: Sequence[int], c: int, o: int
) -> tuple[int, int]:
    """Channels before and after the product with taps along ``inner`` gathered."""
    gathered = math.prod(taps[a] for a in inner)
    return gathered * c, math.prod(taps) // gathered * o


def _sum_taps(parts: Array, padding: Padding, axes: tuple[int, ...]) -> Array:
    """(X, Y, Z, taps along ``axes`` * O) to the sum of the taps, each in its place.

    One axis at a time: all passes but the last then run on every core.
    """
    for axis in axes:
        taps = sum(padding[axis]) + 1
        parts = parts.reshape(*parts.shape[:3], taps, -1)
        reach = [padding[a] if a == axis else (0, 0) for a in range(3)]
        padded = _pad(parts, *reach)
        shape = (*parts.shape[:3], parts.shape[-1])
        shifted = []
        for t in range(taps):
            first = [t if a in (axis, 3) else 0 for a in range(5)]
            stop = [
                f + n for f, n in zip(first, (*shape[:3], 1, shape[3]), strict=True)
            ]
            shifted.append(lax.reshape(lax.slice(padded, first, stop), shape))
        parts = reduce(lax.add, shifted)
    return parts


def _planes(
    x: Array, element: Array, start: Array, count: int, halo: tuple[int, int]
) -> Array:
    """Planes ``start - halo[0] ... start + count + halo[1]`` of one batch element.

    Zero outside; padding slab by slab spares a padded copy of the whole volume.
    """
    zero = lax.full_like(start, 0)

    def cut(first: Array, many: int) -> Array:
        corner, sizes = (element, first, zero, zero, zero), (1, many, *x.shape[2:])
        found = lax.dynamic_slice(x, corner, sizes, allow_negative_indices=False)
        return lax.squeeze(found, (0,))

    def edge(at: Array, inside: Array) -> Array:
        plane = cut(at, 1)  # clamped if outside
        inside = lax.broadcast(inside, plane.shape)
        return lax.select(inside, plane, lax.full_like(plane, 0))

    before = [lax.sub(start, jnp.int32(i)) for i in range(halo[0], 0, -1)]
    after = [lax.add(start, jnp.int32(count + i)) for i in range(halo[1])]
    planes = [
        *(edge(at, lax.ge(at, zero)) for at in before),
        cut(start, count),
        *(edge(at, lax.lt(at, jnp.int32(x.shape[1]))) for at in after),
    ]
    return lax.concatenate(planes, 0) if len(planes) > 1 else planes[0]


def _slab_planes(planes: int, plane_floats: int) -> int:
    """Planes per slab: a divisor of all planes if a good one exists."""
    most = max(1, min(planes, _SLAB_FLOATS // plane_floats))
    divisors = [n for n in range(most // 2 + 1, most + 1) if planes % n == 0]
    return divisors[-1] if divisors else most


def _by_slabs(
    slab: Callable[[Array, Array, int], Array],
    batch: int,
    planes: int,
    plane_floats: int,
) -> Array:
    """Joins ``slab(element, start, count)`` over the volume; the last may overlap."""
    count = _slab_planes(planes, plane_floats)
    slabs = -(-planes // count)

    def one(i: Array) -> Array:
        start = jnp.minimum(i % slabs * count, planes - count)
        return slab(i // slabs, start, count)

    if batch * slabs == 1:
        return one(jnp.array(0))[None]
    y = lax.map(one, jnp.arange(batch * slabs))
    y = y.reshape(batch, slabs * count, *y.shape[2:])
    overlap = slabs * count - planes
    if overlap == 0:
        return y
    whole = planes - count + overlap
    return jnp.concatenate([y[:, :whole], y[:, whole + overlap :]], axis=1)


def kernel_gradient(parts: Parts, dy: Array, padding: Padding) -> Array:
    """Sum over voxels v of the outer products of ``x[v + tap]`` and ``dy[v]``.

    One matrix product per slab. Taps are gathered on x along some axes and, mirrored,
    on dy along the others, whichever copies least.

    Args:
        parts: x, float32 (b, X, Y, Z, C), to be concatenated along the channels.
        dy: float32 (b, X, Y, Z, O), gradient of a correlation at stride 1.
        padding: the reach of the kernel.

    Returns:
        float32 (kx, ky, kz, C, O).
    """
    c, o = sum(part.shape[-1] for part in parts), dy.shape[-1]
    taps = [sum(p) + 1 for p in padding]
    on_x = min(
        [(), (0,), (1, 2), (0, 1, 2)],
        key=lambda axes: sum(_widths(axes, taps, c, o)),
    )
    on_dy = tuple(a for a in range(3) if a not in on_x)
    opposite = tuple((after, before) for before, after in padding)
    batch, planes, ny, nz, _ = dy.shape
    widths = _widths(on_x, taps, c, o)
    count = _slab_planes(planes, ny * nz * sum(widths))
    slabs = -(-planes // count)

    def product(i: Array) -> Array:
        start = jnp.minimum(i % slabs * count, planes - count)
        sizes = count, ny
        near = _gather(parts, i // slabs, start, sizes, padding, on_x)
        far = _gather((dy,), i // slabs, start, sizes, opposite, on_dy, mirror=True)
        if planes % count:  # the last slab overlaps: count its planes once
            seen = jnp.arange(count) + start < i % slabs * count
            far = jnp.where(seen.reshape(-1, 1, 1, 1), 0, far)
        near, far = near.reshape(-1, near.shape[-1]), far.reshape(-1, far.shape[-1])
        return lax.dot_general(near, far, (((0,), (0,)), ((), ())))

    def add(total: Array, i: Array) -> tuple[Array, None]:
        return total + product(i), None

    if batch * slabs == 1:
        total = product(jnp.array(0))
    else:
        total = lax.full_like(dy, 0, shape=widths)  # like dy, varying over a mesh
        total, _ = lax.scan(add, total, jnp.arange(batch * slabs))
    total = total.reshape(*(taps[a] for a in on_x), c, *(taps[a] for a in on_dy), o)
    order = [*on_x, 3, *on_dy, 4]
    return total.transpose([order.index(a) for a in range(5)])


def _gather(
    parts: Parts,
    element: Array,
    start: Array,
    sizes: tuple[int, int],
    padding: Padding,
    axes: tuple[int, ...],
    stride: int = 1,
    *,
    mirror: bool = False,
) -> Array:
    """Every tap along ``axes`` as channels, ``(*sizes, Z, taps * C)``."""
    halos = [padding[a] if a in axes else (0, 0) for a in range(3)]
    orders = [range(sum(h) + 1)[:: -1 if mirror else 1] for h in halos]
    nx, ny = ((n - 1) * stride + 1 for n in sizes)
    nz = parts[0].shape[3]
    near = [_planes(x, element, start * stride, nx, halos[0]) for x in parts]
    near = [_pad(n, (0, 0), *halos[1:]) for n in near]
    taps = [
        lax.slice(
            n,
            (i, j, k, 0),
            (i + nx, j + ny, k + nz, n.shape[-1]),
            (stride, stride, 1, 1),
        )
        for i, j, k in itertools.product(*orders)
        for n in near
    ]
    return lax.concatenate(taps, 3) if len(taps) > 1 else taps[0]


def _pad(x: Array, *reach: tuple[int, int]) -> Array:
    """Zeros around the leading axes; in `lax`, since it is traced so often."""
    if not any(map(any, reach)):
        return x
    widths = [(*r, 0) for r in reach] + [(0, 0, 0)] * (x.ndim - len(reach))
    return lax.pad(x, jnp.zeros((), x.dtype), widths)
