"""3-D convolution in the form that suits the backend.

GPUs and TPUs get XLA's own convolution. On CPUs XLA's 3-D convolution reaches a few
per cent of the speed of its matrix products, so there the same sums are written as
2-D convolutions, which are matrix products inside, over slabs of x-planes small
enough to stay in cache. Gradients take the same way. Tensors are
``(batch, x, y, z, channel)``, kernels ``(kx, ky, kz, in, out)``.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array, lax

Lowering = Literal["auto", "plain", "fast"]
Padding = tuple[tuple[int, int], ...]

_SLAB_FLOATS = 1 << 18  # temporaries of one slab: 1 MiB, what a core's cache holds


def convolve(
    x: Array,
    kernel: Array,
    *,
    stride: int = 1,
    dilation: int = 1,
    lowering: Lowering = "auto",
) -> Array:
    """Correlates with zeros outside, TensorFlow's "SAME" padding.

    Args:
        x: (b, X, Y, Z, C), any sizes, float32 or bfloat16.
        kernel: (k, k, k, C, O), k odd.
        stride: 1 or 2. At stride 2 an even size gets its odd zero after the end.
        dilation: spacing of the taps; above 1 the plain form is used everywhere.
        lowering: "auto" goes by the platform the program is compiled for; "plain" and
            "fast" force a form, for tests and benchmarks.

    Returns:
        (b, ceil(X / stride), ceil(Y / stride), ceil(Z / stride), O).
    """
    if lowering not in ("auto", "plain", "fast"):
        raise ValueError(f"lowering must be auto, plain or fast, got {lowering!r}")
    if lowering == "plain" or dilation != 1 or stride not in (1, 2):
        return _plain(x, kernel, stride=stride, dilation=dilation)
    return _convolve(x, kernel, stride, lowering)


def dense_stack(
    x: Array,
    kernels: Sequence[Array],
    activate: Callable[[int, Array], Array],
    skip_kernel: Array | None = None,
    *,
    dilation: int = 1,
    lowering: Lowering = "auto",
) -> tuple[list[Array], Array | None]:
    """Units that each read the block's input and the features of all units before.

    Convolution is linear, so the input is pushed into every layer at once: one wide
    product instead of many narrow ones over ever longer concatenations. Only the few
    new features are convolved unit by unit.

    Args:
        x: (b, X, Y, Z, C), the block's input.
        kernels: of unit i, (k, k, k, C + channels of the features before i, O_i).
        activate: ``activate(i, y)`` gets unit i's complete sum (b, X, Y, Z, O_i) and
            returns its feature, as many channels. Called once per unit, in order.
        skip_kernel: of one more layer that reads the whole stack.
        dilation: of all layers.
        lowering: as in `convolve`.

    Returns:
        The features, without ``x``, and the skip layer's sum (None without a kernel).
    """
    layers = [*kernels] if skip_kernel is None else [*kernels, skip_kernel]
    width = x.shape[-1]
    conv = partial(convolve, dilation=dilation, lowering=lowering)
    pushed = conv(x, jnp.concatenate([k[..., :width, :] for k in layers], -1))
    ends = list(itertools.accumulate(k.shape[-1] for k in layers))
    features: list[Array] = []
    for i, (kernel, y) in enumerate(
        zip(layers, jnp.split(pushed, ends[:-1], axis=-1), strict=True)
    ):
        if features:
            y = y + conv(jnp.concatenate(features, -1), kernel[..., width:, :])
        if i == len(kernels):
            return features, y
        features.append(activate(i, y))
    return features, None


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x: Array, kernel: Array, stride: int, lowering: Lowering) -> Array:
    plain, fast = partial(_plain, stride=stride), partial(_fast, stride=stride)
    return _choose(lowering, plain, fast, x, kernel)


def _convolve_forward(x: Array, kernel: Array, stride: int, lowering: Lowering):
    return _convolve(x, kernel, stride, lowering), (x, kernel)


def _convolve_backward(
    stride: int, lowering: Lowering, saved: tuple[Array, Array], dy: Array
):
    def plain(x: Array, kernel: Array, dy: Array):
        return jax.vjp(partial(_plain, stride=stride), x, kernel)[1](dy)

    fast = partial(_fast_gradients, stride=stride)
    return _choose(lowering, plain, fast, *saved, dy)


_convolve.defvjp(_convolve_forward, _convolve_backward)


def _choose(lowering: Lowering, plain: Callable, fast: Callable, *args: Array) -> Any:
    if lowering == "fast":
        return fast(*args)
    return lax.platform_dependent(*args, cpu=fast, default=plain)


def _plain(x: Array, kernel: Array, *, stride: int, dilation: int = 1) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride,) * 3,
        "SAME",
        rhs_dilation=(dilation,) * 3,
        dimension_numbers=("NXYZC", "XYZIO", "NXYZC"),
    )


def _fast(x: Array, kernel: Array, *, stride: int) -> Array:
    dtype = jnp.result_type(x, kernel)
    x, kernel = x.astype(jnp.float32), kernel.astype(jnp.float32)
    sizes = zip(x.shape[1:4], kernel.shape[:3], strict=True)
    padding = tuple(_same(n, k, stride) for n, k in sizes)
    y = _correlate(x, kernel, padding, stride)
    return y.astype(dtype)


def _fast_gradients(
    x: Array, kernel: Array, dy: Array, *, stride: int
) -> tuple[Array, Array]:
    dtypes = x.dtype, kernel.dtype
    x, kernel, dy = (v.astype(jnp.float32) for v in (x, kernel, dy))
    padding = tuple(
        _same(n, k, stride) for n, k in zip(x.shape[1:4], kernel.shape[:3], strict=True)
    )
    unfold = None
    if stride == 2:
        (x, kernel), unfold = jax.vjp(partial(_fold, padding=padding), x, kernel)
        halves = zip(padding, kernel.shape, strict=False)
        padding = tuple((-(-b // 2), k - 1 - -(-b // 2)) for (b, _), k in halves)
    mirrored = jnp.flip(kernel, (0, 1, 2)).swapaxes(3, 4)
    opposite = tuple((after, before) for before, after in padding)
    gradients = _correlate(dy, mirrored, opposite), _kernel_gradient(x, dy, padding)
    dx, dkernel = gradients if unfold is None else unfold(gradients)
    return dx.astype(dtypes[0]), dkernel.astype(dtypes[1])


def _same(size: int, taps: int, stride: int) -> tuple[int, int]:
    """Zeros before and after, TensorFlow's rule."""
    total = max((-(-size // stride) - 1) * stride + taps - size, 0)
    return total // 2, total - total // 2


def _fold(x: Array, kernel: Array, padding: Padding) -> tuple[Array, Array]:
    """Rewrites stride 2 as stride 1 on 2x2x2 voxels folded into the channels.

    Some of the arithmetic is then with zeros, but the gradients need no scattering.
    """
    sizes, (c, o) = x.shape[1:4], kernel.shape[3:]
    x = jnp.pad(x, [(0, 0), *((0, n % 2) for n in sizes), (0, 0)])
    nx, ny, nz = (-(-n // 2) for n in sizes)
    x = x.reshape(-1, nx, 2, ny, 2, nz, 2, c).transpose(0, 1, 3, 5, 2, 4, 6, 7)
    # With an odd number of zeros before the volume the kernel starts mid-fold.
    starts = [before % 2 for before, _ in padding]
    ends = [(k + s) % 2 for k, s in zip(kernel.shape, starts, strict=False)]
    widths = [*zip(starts, ends, strict=True), (0, 0), (0, 0)]
    kernel = jnp.pad(kernel, widths)
    kx, ky, kz = (k // 2 for k in kernel.shape[:3])
    kernel = kernel.reshape(kx, 2, ky, 2, kz, 2, c, o).transpose(0, 2, 4, 1, 3, 5, 6, 7)
    return x.reshape(-1, nx, ny, nz, 8 * c), kernel.reshape(kx, ky, kz, 8 * c, o)


def _correlate(x: Array, kernel: Array, padding: Padding, stride: int = 1) -> Array:
    if stride > 1 or x.shape[-1] < kernel.shape[-1]:
        return _taps_on_inputs(x, kernel, padding, stride)
    return _taps_on_outputs(x, kernel, padding)


def _taps_on_inputs(x: Array, kernel: Array, padding: Padding, stride: int) -> Array:
    """The x-taps become input channels: cheap where x has few."""
    kx, ky, kz, c, o = kernel.shape
    ny, nz = x.shape[2:4]
    before = padding[0][0]
    planes = (x.shape[1] + sum(padding[0]) - kx) // stride + 1
    stacked = kernel.transpose(1, 2, 0, 3, 4).reshape(ky, kz, kx * c, o)

    def slab(element: Array, start: Array, count: int) -> Array:
        reach = (count - 1) * stride + 1
        halo = before, kx - 1 - before
        near = _planes(x, element, start * stride, reach, halo)
        taps = [near[t : t + reach : stride] for t in range(kx)]
        taps = jnp.concatenate(taps, axis=-1)
        return _conv2d(taps, stacked, padding[1:], stride)

    return _by_slabs(slab, x.shape[0], planes, ny * nz * (kx * c + o))


def _taps_on_outputs(x: Array, kernel: Array, padding: Padding) -> Array:
    """The y- and z-taps become output channels, summed after: cheap where y has few."""
    kx, ky, kz, c, o = kernel.shape
    planes, ny, nz = x.shape[1:4]
    stacked = kernel.transpose(0, 3, 1, 2, 4).reshape(kx, 1, c, ky * kz * o)

    def slab(element: Array, start: Array, count: int) -> Array:
        near = _planes(x, element, start, count, padding[0])
        taps = _conv2d(near.reshape(1, -1, ny * nz, c), stacked, ((0, 0), (0, 0)), 1)
        taps = taps.reshape(count, ny, nz, ky * kz, o)
        taps = jnp.pad(taps, [(0, 0), *padding[1:], (0, 0), (0, 0)])
        places = enumerate(itertools.product(range(ky), range(kz)))
        parts = [taps[:, j : j + ny, k : k + nz, t] for t, (j, k) in places]
        return reduce(jnp.add, parts)

    return _by_slabs(slab, x.shape[0], planes, ny * nz * (c + ky * kz * o))


def _conv2d(x: Array, kernel: Array, padding: Padding, stride: int) -> Array:
    layout = ("NXYC", "XYIO", "NXYC")
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=layout
    )


def _planes(
    x: Array, element: Array, start: Array, count: int, halo: tuple[int, int]
) -> Array:
    """Planes ``start - halo[0] ... start + count + halo[1]`` of one batch element.

    Zero outside; padding slab by slab spares a padded copy of the whole volume.
    """

    def cut(first: Array, many: int) -> Array:
        corner = (element, first, 0, 0, 0)
        return lax.dynamic_slice(x, corner, (1, many, *x.shape[2:]))[0]

    def edge(at: Array) -> Array:
        return jnp.where((at >= 0) & (at < x.shape[1]), cut(at, 1), 0)

    before = [edge(start - p) for p in range(halo[0], 0, -1)]
    after = [edge(start + count + p) for p in range(halo[1])]
    return jnp.concatenate([*before, cut(start, count), *after])


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


def _kernel_gradient(x: Array, dy: Array, padding: Padding) -> Array:
    """Sum over voxels v of the outer products of ``x[v + tap]`` and ``dy[v]``.

    One matrix product per slab. Taps are gathered on x along some axes and, mirrored,
    on dy along the others, whichever copies least.
    """
    c, o = x.shape[-1], dy.shape[-1]
    taps = [sum(p) + 1 for p in padding]

    def widths(axes: tuple[int, ...]) -> tuple[int, int]:
        on_x = math.prod(taps[a] for a in axes)
        return on_x * c, math.prod(taps) // on_x * o

    on_x = min([(), (0,), (1, 2), (0, 1, 2)], key=lambda axes: sum(widths(axes)))
    on_dy = tuple(a for a in range(3) if a not in on_x)
    opposite = tuple((after, before) for before, after in padding)
    batch, planes, ny, nz, _ = x.shape
    count = _slab_planes(planes, ny * nz * sum(widths(on_x)))
    slabs = -(-planes // count)

    def product(i: Array) -> Array:
        start = jnp.minimum(i % slabs * count, planes - count)
        near = _gather(x, i // slabs, start, count, padding, on_x)
        far = _gather(dy, i // slabs, start, count, opposite, on_dy, mirror=True)
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
        total = lax.full_like(dy, 0, shape=widths(on_x))
        total, _ = lax.scan(add, total, jnp.arange(batch * slabs))
    total = total.reshape(*(taps[a] for a in on_x), c, *(taps[a] for a in on_dy), o)
    order = [*on_x, 3, *on_dy, 4]
    return total.transpose([order.index(a) for a in range(5)])


def _gather(
    x: Array,
    element: Array,
    start: Array,
    count: int,
    padding: Padding,
    axes: tuple[int, ...],
    *,
    mirror: bool = False,
) -> Array:
    """Every tap along ``axes`` as channels, (count, Y, Z, taps * C)."""
    halos = [padding[a] if a in axes else (0, 0) for a in range(3)]
    ny, nz = x.shape[2:4]
    near = _planes(x, element, start, count, halos[0])
    near = jnp.pad(near, [(0, 0), *halos[1:], (0, 0)])
    orders = [range(sum(h) + 1)[:: -1 if mirror else 1] for h in halos]
    places = itertools.product(*orders)
    parts = [near[i : i + count, j : j + ny, k : k + nz] for i, j, k in places]
    return jnp.concatenate(parts, axis=-1)
