"""3-D convolution in the form that suits the backend.

GPUs and TPUs get XLA's own convolution. On CPUs XLA's 3-D convolution reaches a few
per cent of the speed of its matrix products, so there the same sums are written as
matrix products over slabs of x-planes small enough to stay in cache. Gradients take
the same way. Tensors are ``(batch, x, y, z, channel)``, kernels ``(kx, ky, kz, in,
out)``; the reach of a kernel is one pair (taps before, taps after) per axis.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

Lowering = Literal["auto", "plain", "fast"]
Padding = tuple[tuple[int, int], ...]
Parts = tuple[Array, ...]
Volume = Float[Array, "b x y z _"]

_SLAB_FLOATS = 1 << 18  # temporaries of one slab: 1 MiB, what caches of two cores hold


def convolve(
    x: Volume | Sequence[Volume],
    kernel: Float[Array, "k k k _ o"],
    *,
    stride: int = 1,
    dilation: int = 1,
    lowering: Lowering = "auto",
) -> Float[Array, "b _ _ _ o"]:
    """Correlates with zeros outside, TensorFlow's "SAME" padding.

    Args:
        x: (b, X, Y, Z, C), any sizes, float32 or bfloat16; or several such arrays that
            stand for their concatenation along the channels. On CPUs the latter is
            never made: in a dense block that takes as long as the products.
        kernel: (k, k, k, C, O), k odd.
        stride: 1 or 2. At stride 2 an even size gets its odd zero after the end.
        dilation: spacing of the taps; above 1 the plain form is used everywhere.
        lowering: "auto" goes by the platform the program is compiled for; "plain" and
            "fast" force a form, for tests and benchmarks.

    Returns:
        (b, ceil(X / stride), ceil(Y / stride), ceil(Z / stride), O).
    """
    if lowering not in get_args(Lowering):
        raise ValueError(f"lowering must be auto, plain or fast, got {lowering!r}")
    parts = (x,) if isinstance(x, Array) else tuple(x)
    if lowering == "plain" or dilation != 1 or stride not in (1, 2):
        return _plain(parts, kernel, stride=stride, dilation=dilation)
    return _convolve(parts, kernel, stride, lowering)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(parts: Parts, kernel: Array, stride: int, lowering: Lowering) -> Array:
    plain, fast = partial(_plain, stride=stride), partial(_fast, stride=stride)
    return _choose(lowering, plain, fast, parts, kernel)


def _convolve_forward(parts: Parts, kernel: Array, stride: int, lowering: Lowering):
    return _convolve(parts, kernel, stride, lowering), (parts, kernel)


def _convolve_backward(stride: int, lowering: Lowering, saved: tuple, dy: Array):
    def plain(parts: Parts, kernel: Array, dy: Array):
        return jax.vjp(partial(_plain, stride=stride), parts, kernel)[1](dy)

    fast = partial(_fast_gradients, stride=stride)
    return _choose(lowering, plain, fast, *saved, dy)


_convolve.defvjp(_convolve_forward, _convolve_backward)


def _choose(lowering: Lowering, plain: Callable, fast: Callable, *args: Any) -> Any:
    if lowering == "fast":
        return fast(*args)
    return lax.platform_dependent(*args, cpu=fast, default=plain)


def _plain(parts: Parts, kernel: Array, *, stride: int, dilation: int = 1) -> Array:
    return lax.conv_general_dilated(
        jnp.concatenate(parts, -1),
        kernel,
        (stride,) * 3,
        "SAME",
        rhs_dilation=(dilation,) * 3,
        dimension_numbers=("NXYZC", "XYZIO", "NXYZC"),
    )


def _fast(parts: Parts, kernel: Array, *, stride: int) -> Array:
    dtype = jnp.result_type(*parts, kernel)
    padding = _same_padding(parts[0], kernel, stride)
    # Along z pairs of voxels are neighbours in memory already.
    parts, kernel, padding = _fold(parts, kernel, padding, (3,) if stride == 2 else ())
    return _correlate(parts, kernel, padding, stride).astype(dtype)


def _fast_gradients(
    parts: Parts, kernel: Array, dy: Array, *, stride: int
) -> tuple[Parts, Array]:
    def unit_stride(parts: Parts, kernel: Array):
        padding = _same_padding(parts[0], kernel, stride)
        # Some products are then with zeros, but nothing needs scattering.
        axes = (1, 2, 3) if stride == 2 else ()
        parts, kernel, padding = _fold(parts, kernel, padding, axes)
        return (parts, kernel), padding

    (parts, kernel), pullback, padding = jax.vjp(
        unit_stride, parts, kernel, has_aux=True
    )
    dy = dy.astype(jnp.float32)
    mirrored = jnp.flip(kernel, (0, 1, 2)).swapaxes(3, 4)
    opposite = tuple((after, before) for before, after in padding)
    dx = _correlate((dy,), mirrored, opposite)
    ends = itertools.accumulate(part.shape[-1] for part in parts)
    dparts = tuple(jnp.split(dx, list(ends)[:-1], axis=-1))
    return pullback((dparts, _kernel_gradient(parts, dy, padding)))


def _same_padding(x: Array, kernel: Array, stride: int) -> Padding:
    """Reach of each window before and after its first voxel, by TensorFlow's rule."""
    reach = []
    for n, k in zip(x.shape[1:4], kernel.shape[:3], strict=True):
        before = max((-(-n // stride) - 1) * stride + k - n, 0) // 2
        reach.append((before, k - 1 - before))
    return tuple(reach)


def _fold(
    parts: Parts, kernel: Array, padding: Padding, axes: tuple[int, ...]
) -> tuple[Parts, Array, Padding]:
    """Turns stride 2 into 1 along ``axes``: pairs of voxels become channels."""
    parts = tuple(part.astype(jnp.float32) for part in parts)
    ends = list(itertools.accumulate(part.shape[-1] for part in parts))
    kernels = jnp.split(kernel.astype(jnp.float32), ends[:-1], axis=3)
    reach = list(padding)
    for axis in axes:
        before = padding[axis - 1][0]
        # With an odd number of zeros before the volume the kernel starts mid-pair.
        parts = tuple(_pair(part, axis, 4, 0) for part in parts)
        kernels = [_pair(k, axis - 1, 3, before % 2) for k in kernels]
        before = -(-before // 2)
        reach[axis - 1] = before, kernels[0].shape[axis - 1] - 1 - before
    return parts, jnp.concatenate(kernels, 3), tuple(reach)


def _pair(v: Array, axis: int, channels: int, start: int) -> Array:
    """Halves ``axis``, padded by ``start`` and to even, and doubles ``channels``."""
    widths = [(0, 0)] * v.ndim
    widths[axis] = start, (start + v.shape[axis]) % 2
    v = jnp.pad(v, widths)
    v = v.reshape(*v.shape[:axis], -1, 2, *v.shape[axis + 1 :])
    v = jnp.moveaxis(v, axis + 1, channels)
    return v.reshape(*v.shape[:channels], -1, *v.shape[channels + 2 :])


def _correlate(parts: Parts, kernel: Array, padding: Padding, stride: int = 1) -> Array:
    """Correlation at a stride along x and y, one matrix product per slab of x-planes.

    Along some axes the taps are gathered beforehand as input channels, along the others
    they come out as output channels and are summed after, whichever copies least.
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
        return _sum_taps(product.reshape(count, ny, nz, -1), padding, outer)

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


def _kernel_gradient(parts: Parts, dy: Array, padding: Padding) -> Array:
    """Sum over voxels v of the outer products of ``x[v + tap]`` and ``dy[v]``.

    One matrix product per slab. Taps are gathered on x along some axes and, mirrored,
    on dy along the others, whichever copies least.
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
