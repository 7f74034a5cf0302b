"""3-D convolution in the form that suits the backend.

GPUs and TPUs get XLA's own convolution. XLA's 3-D convolution on CPUs runs at a
few per cent of what its matrix products reach, so there the same sums are written
as 2-D convolutions and matrix products. Tensors are ``(batch, x, y, z, channel)``.
"""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array, lax

Lowering = Literal["auto", "plain", "fast"]
_LAYOUT = ("NXYZC", "XYZIO", "NXYZC")
_SLAB_FLOATS = 1 << 20  # floats of gathered taps in flight: 4 MiB


def convolve(
    x: Array,
    kernel: Array,
    *,
    stride: int = 1,
    dilation: int = 1,
    lowering: Lowering = "auto",
) -> Array:
    """Convolve (correlate) with zeros outside, TensorFlow's "SAME" padding.

    Args:
        x: ``(b, X, Y, Z, C)``, any sizes.
        kernel: ``(k, k, k, C, O)``, k odd.
        stride: 1 or 2. With stride 2 and an even size the odd zero goes after.
        dilation: spacing of the taps; above 1 always takes the plain form.
        lowering: "auto" decides by the platform the program is compiled for;
            "plain" and "fast" force one form, for tests and benchmarks.

    Returns:
        ``(b, ceil(X / stride), ceil(Y / stride), ceil(Z / stride), O)``.
    """
    if lowering not in ("auto", "plain", "fast"):
        raise ValueError(
            f'lowering must be "auto", "plain" or "fast", got {lowering!r}'
        )
    if lowering == "plain" or dilation != 1 or stride not in (1, 2):
        return _plain(x, kernel, stride, dilation)
    if lowering == "fast":
        return _fast(x, kernel, stride)
    return lax.platform_dependent(
        x,
        kernel,
        cpu=partial(_fast, stride=stride),
        default=partial(_plain, stride=stride, dilation=1),
    )


def _plain(x: Array, kernel: Array, stride: int, dilation: int) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride,) * 3,
        "SAME",
        rhs_dilation=(dilation,) * 3,
        dimension_numbers=_LAYOUT,
    )


def _fast(x: Array, kernel: Array, stride: int) -> Array:
    wide = x.astype(jnp.float32), kernel.astype(jnp.float32)
    y = _unit_stride(*wide) if stride == 1 else _strided(*wide, stride)
    return y.astype(jnp.result_type(x, kernel))


@jax.custom_vjp
def _unit_stride(x: Array, kernel: Array) -> Array:
    """2-D convolutions with x in the batch; the x-taps ride on the fewer channels."""
    k, _, _, c, o = kernel.shape
    b, nx, ny, nz, _ = x.shape
    halo = ((0, 0), (k // 2, k // 2), *((0, 0),) * 3)
    if c < o:
        padded = jnp.pad(x, halo)
        x = jnp.concatenate([padded[:, t : t + nx] for t in range(k)], axis=-1)
        stacked = kernel.transpose(1, 2, 0, 3, 4).reshape(k, k, k * c, o)
        return _planes(x, stacked).reshape(b, nx, ny, nz, o)
    stacked = kernel.transpose(1, 2, 3, 0, 4).reshape(k, k, c, k * o)
    taps = jnp.pad(_planes(x, stacked).reshape(b, nx, ny, nz, k * o), halo)
    return sum(taps[:, t : t + nx, ..., t * o : (t + 1) * o] for t in range(k))  # type: ignore


def _planes(x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(
        x.reshape(-1, *x.shape[2:]),
        kernel,
        (1, 1),
        "SAME",
        dimension_numbers=("NXYC", "XYIO", "NXYC"),
    )


def _unit_stride_forward(x: Array, kernel: Array):
    return _unit_stride(x, kernel), (x, kernel)


def _unit_stride_backward(saved, dy: Array):
    x, kernel = saved
    flipped = jnp.flip(kernel, (0, 1, 2)).swapaxes(3, 4)
    return _unit_stride(dy, flipped), _kernel_gradient(x, dy, kernel.shape[0])


_unit_stride.defvjp(_unit_stride_forward, _unit_stride_backward)


def _gather(x: Array, k: int, stride: int, sizes: tuple[int, ...]) -> Array:
    """All taps of one padded slab, ``(voxels, k**3 * C)``."""
    nx, ny, nz = (stride * (n - 1) + 1 for n in sizes)
    taps = [
        x[i : i + nx : stride, j : j + ny : stride, l : l + nz : stride]
        for i in range(k)
        for j in range(k)
        for l in range(k)  # noqa: E741
    ]
    return jnp.concatenate(taps, axis=-1).reshape(-1, k**3 * x.shape[-1])


def _slabs(x: Array, k: int, stride: int, planes: int, shape) -> Array:
    """Pad to whole slabs; returns ``(b, X', Y', Z', C)``."""
    pads = [(0, 0)]
    for axis, n in enumerate(shape):
        total = max((n - 1) * stride + k - x.shape[1 + axis], 0)
        rest = (-n % planes) * stride if axis == 0 else 0
        pads.append((total // 2, total - total // 2 + rest))
    return jnp.pad(x, [*pads, (0, 0)])


def _strided(x: Array, kernel: Array, stride: int) -> Array:
    k, _, _, c, o = kernel.shape
    sizes = tuple(-(-n // stride) for n in x.shape[1:4])
    planes = max(1, min(sizes[0], _SLAB_FLOATS // (sizes[1] * sizes[2] * k**3 * c)))
    padded = _slabs(x, k, stride, planes, sizes)
    matrix = kernel.reshape(-1, o)
    reach = (planes - 1) * stride + k

    def product(volume: Array, start: Array) -> Array:
        slab = lax.dynamic_slice_in_dim(volume, start, reach)
        rows = _gather(slab, k, stride, (planes, *sizes[1:]))
        return (rows @ matrix).reshape(planes, *sizes[1:], o)

    starts = jnp.arange(0, sizes[0], planes) * stride
    y = lax.map(lambda v: lax.map(partial(product, v), starts), padded)
    return y.reshape(x.shape[0], -1, *y.shape[3:])[:, : sizes[0]]


def _kernel_gradient(x: Array, dy: Array, k: int) -> Array:
    """Sum over voxels of ``x[v + tap] * dy[v]``; the narrower tensor is gathered."""
    c, o = x.shape[-1], dy.shape[-1]
    if o < c:  # correlate the other way round: taps mirror
        mirrored = _kernel_gradient(dy, x, k)
        return jnp.flip(mirrored, (0, 1, 2)).swapaxes(3, 4)
    sizes = x.shape[1:4]
    planes = max(1, min(sizes[0], _SLAB_FLOATS // (sizes[1] * sizes[2] * k**3 * c)))
    padded = _slabs(x, k, 1, planes, sizes)
    dy = jnp.pad(dy, ((0, 0), (0, -sizes[0] % planes), *((0, 0),) * 3))
    starts = jnp.arange(0, sizes[0], planes)
    where = jnp.stack(jnp.meshgrid(jnp.arange(x.shape[0]), starts), -1).reshape(-1, 2)

    def add(total: Array, at: Array):
        slab = lax.dynamic_slice_in_dim(padded[at[0]], at[1], planes + k - 1)
        rows = _gather(slab, k, 1, (planes, *sizes[1:]))
        target = lax.dynamic_slice_in_dim(dy[at[0]], at[1], planes).reshape(-1, o)
        return total + rows.T @ target, None

    total, _ = lax.scan(add, jnp.zeros((k**3 * c, o), dy.dtype), where)
    return total.reshape(k, k, k, c, o)
