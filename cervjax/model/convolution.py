"""3-D convolution in the form that suits the backend.

GPUs and TPUs get XLA's own convolution. On CPUs XLA's 3-D convolution reaches a few
per cent of the speed of its matrix products, so there the same sums are written as
matrix products over slabs of x-planes small enough to stay in cache. Gradients take
the same way. Tensors are ``(batch, x, y, z, channel)``, kernels ``(kx, ky, kz, in,
out)``; the reach of a kernel is one pair (taps before, taps after) per axis.
"""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from cervjax.model.slab_products import Padding, Parts, correlate, kernel_gradient

Lowering = Literal["auto", "plain", "fast"]
AnyArray = Array | np.ndarray
Volume = Float[AnyArray, "b x y z _"]


def convolve(
    x: Volume | Sequence[Volume],
    kernel: Float[AnyArray, "k k k _ o"],
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
    parts = tuple(map(jnp.asarray, (x,) if isinstance(x, AnyArray) else x))
    kernel = jnp.asarray(kernel)
    if lowering == "plain" or dilation != 1 or stride not in (1, 2):
        return _plain(parts, kernel, stride=stride, dilation=dilation)
    return _convolve(parts, kernel, stride, lowering)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(parts: Parts, kernel: Array, stride: int, lowering: Lowering) -> Array:
    plain, fast = partial(_plain, stride=stride), partial(_fast, stride=stride)
    return choose(lowering, plain, fast, parts, kernel)


def _convolve_forward(parts: Parts, kernel: Array, stride: int, lowering: Lowering):
    return _convolve(parts, kernel, stride, lowering), (parts, kernel)


def _convolve_backward(stride: int, lowering: Lowering, saved: tuple, dy: Array):
    def plain(parts: Parts, kernel: Array, dy: Array):
        return jax.vjp(partial(_plain, stride=stride), parts, kernel)[1](dy)

    fast = partial(_fast_gradients, stride=stride)
    return choose(lowering, plain, fast, *saved, dy)


_convolve.defvjp(_convolve_forward, _convolve_backward)


def choose(lowering: Lowering, plain: Callable, fast: Callable, *args: Any) -> Any:
    """The form for the platform that the program is compiled for, or the forced one."""
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
    return correlate(parts, kernel, padding, stride).astype(dtype)


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
    dx = correlate((dy,), mirrored, opposite)
    ends = itertools.accumulate(part.shape[-1] for part in parts)
    dparts = tuple(jnp.split(dx, list(ends)[:-1], axis=-1))
    return pullback((dparts, kernel_gradient(parts, dy, padding)))


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
