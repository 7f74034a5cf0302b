"""Convolution of an upsampled volume that is never upsampled as a whole.

The head reads coarse skip connections, upsampled. Interpolation and the sum over
channels can change places: on CPUs the products are made at the coarse resolution
along y and z, a quarter as many, and the kernel's taps are interpolated where they are
summed. Tensors are ``(batch, x, y, z, channel)``.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from cervjax.model.convolution import Lowering, choose, convolve
from cervjax.model.slab_products import correlate, kernel_gradient
from cervjax.model.upsampling import next_voxel, upsample, upsample_axis

AnyArray = Array | np.ndarray
_TAPS = 3
_ALONG_X = ((1, 1), (0, 0), (0, 0))


def convolve_upsampled(
    x: Float[AnyArray, "b x y z c"],
    kernel: Float[AnyArray, "3 3 3 c o"],
    *,
    lowering: Lowering = "auto",
) -> Float[Array, "b 2*x 2*y 2*z o"]:
    """``convolve(upsample(x, 2), kernel)``, to rounding.

    Args:
        x: (b, X, Y, Z, C), float32 or bfloat16.
        kernel: (3, 3, 3, C, O).
        lowering: as of `convolve`.

    Returns:
        (b, 2 X, 2 Y, 2 Z, O).
    """
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)

    def plain(x: Array, kernel: Array) -> Array:
        # Without a barrier XLA would interpolate inside every tap.
        fine = lax.optimization_barrier(upsample(x, 2))
        return convolve(fine, kernel, lowering="plain")

    def fast(x: Array, kernel: Array) -> Array:
        fine_planes = upsample_axis(x.astype(jnp.float32), 2, 1)
        fine_planes = lax.optimization_barrier(fine_planes)
        return _fast(fine_planes, kernel.astype(jnp.float32)).astype(x.dtype)

    if lowering == "plain":
        return plain(x, kernel)
    return choose(lowering, plain, fast, x, kernel)


@jax.custom_vjp
def _fast(x: Array, kernel: Array) -> Array:
    """From (b, 2X, Y, Z, C), fine along x only."""
    return correlate((x,), _wide(kernel), _ALONG_X, then=_sum_upsampled_taps)


def _fast_forward(x: Array, kernel: Array):
    return _fast(x, kernel), (x, kernel)


def _fast_backward(saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = saved
    taps = jax.ShapeDtypeStruct((*x.shape[1:4], _TAPS**2 * dy.shape[-1]), dy.dtype)
    spread = jax.linear_transpose(_sum_upsampled_taps, taps)
    # Planes of x do not meet in it, so all may go through at once.
    dtaps = lax.optimization_barrier(jax.vmap(lambda d: spread(d)[0])(dy))
    wide, back = jax.vjp(_wide, kernel)
    mirrored = jnp.flip(wide, 0).swapaxes(3, 4)
    (dkernel,) = back(kernel_gradient((x,), dtaps, _ALONG_X))
    return correlate((dtaps,), mirrored, _ALONG_X), dkernel


_fast.defvjp(_fast_forward, _fast_backward)


def _wide(kernel: Array) -> Array:
    """(3, 3, 3, C, O) to taps along y and z as outputs, (3, 1, 1, C, 9 O)."""
    c = kernel.shape[3]
    return kernel.transpose(0, 3, 1, 2, 4).reshape(_TAPS, 1, 1, c, -1)


def _sum_upsampled_taps(v: Array) -> Array:
    """(x, y, z, 9 O) to (x, 2y, 2z, O): each tap upsampled, then moved and summed.

    Args:
        v: products with the taps along y (slow) and z, at the coarse resolution.
    """
    for axis in (2, 1):
        taps = v.reshape(*v.shape[:3], *((_TAPS, -1) if axis == 1 else (3, 3, -1)))
        where = 3 if axis == 1 else 4
        before, here, after = (
            lax.index_in_dim(taps, i, where, keepdims=False) for i in range(_TAPS)
        )
        even = _previous(_halfway(before, axis), axis) + here + _halfway(after, axis)
        odd = before + _halfway(here, axis) + _following(after, axis)
        both = jnp.stack([even, odd], axis + 1)
        shape = [*v.shape[:3], -1]
        shape[axis] *= 2
        v = both.reshape(shape)
    return v


def _halfway(v: Array, axis: int) -> Array:
    """Between each voxel and the next; the last one is repeated."""
    return (v + next_voxel(v, axis)) * 0.5


def _previous(v: Array, axis: int) -> Array:
    """The voxel before, zero before the first."""
    kept = lax.slice_in_dim(v, 0, v.shape[axis] - 1, axis=axis)
    return jnp.concatenate([_zeros(v, axis), kept], axis)


def _following(v: Array, axis: int) -> Array:
    """The voxel after, zero after the last."""
    kept = lax.slice_in_dim(v, 1, None, axis=axis)
    return jnp.concatenate([kept, _zeros(v, axis)], axis)


def _zeros(v: Array, axis: int) -> Array:
    return jnp.zeros_like(lax.slice_in_dim(v, 0, 1, axis=axis))
