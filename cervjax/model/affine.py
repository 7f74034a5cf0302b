"""NiftyNet's random affine inside the network: input one way, logits back."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

NUM_CORNERS = 8


def random_corner_affine(
    key: Array, batch: int, scale: float = 0.1
) -> Float[Array, "b 4 4"]:
    """NiftyNet's in-network augmentation: a random affine per sample.

    The corners of the cube [-1, 1]^3 are multiplied elementwise by U(1 - scale, 1).

    Returns:
        (batch, 4, 4) in relative coordinates, see `resample_affine`.
    """
    factors = jax.random.uniform(key, (batch, NUM_CORNERS, 3), minval=1 - scale)
    return corner_affine(factors)


def corner_affine(factors: Float[Array, "b 8 3"]) -> Float[Array, "b 4 4"]:
    """Least-squares affine from the cube's corners to ``corners * factors``.

    Args:
        factors: (b, 8, 3); corners in the order of binary counting, x slowest.

    Returns:
        (b, 4, 4).
    """
    corners = _cube_corners()
    homogeneous = jnp.concatenate([corners, jnp.ones((NUM_CORNERS, 1))], 1)
    top = jnp.einsum("bki,kj->bij", corners[None] * factors, homogeneous) / NUM_CORNERS
    bottom = jnp.broadcast_to(jnp.array([[[0.0, 0.0, 0.0, 1.0]]]), (len(factors), 1, 4))
    return jnp.concatenate([top, bottom], 1)


def invert_affine(affine: Float[Array, "b 4 4"]) -> Float[Array, "b 4 4"]:
    """Inverse of (b, 4, 4) transforms."""
    return jnp.linalg.inv(affine)


def resample_affine(
    volume: Float[Array, "b x y z c"], affine: Float[Array, "b 4 4"]
) -> Float[Array, "b x y z c"]:
    """Trilinear resampling at ``affine @ (relative coordinates, 1)``.

    Relative coordinates run from -1 to 1 over each axis: index = (r + 1)(n - 1)/2.
    As in NiftyNet, every point with an index < 0 or >= n - 1 is zero, the exact last
    plane included. Differentiable in the values.

    Args:
        volume: (b, x, y, z, c).
        affine: (b, 4, 4).
    """
    last = jnp.array(volume.shape[1:4]).reshape(1, 1, 1, 3) - 1
    axes = [jnp.linspace(-1.0, 1.0, n) for n in volume.shape[1:4]]
    grid = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), -1)

    def one(values: Array, transform: Array) -> Array:
        moved = jnp.einsum("xyzj,ij->xyzi", grid, transform[:3, :3])
        moved = moved + transform[:3, 3].reshape(1, 1, 1, 3)
        index = (moved + 1) * last / 2
        inside = jnp.all((index >= 0) & (index < last), -1, keepdims=True)
        low = jnp.clip(jnp.floor(index), 0, last - 1).astype(int)
        part = index - low
        total = jnp.zeros((), values.dtype)
        for corner in range(NUM_CORNERS):
            bits = jnp.array([corner >> 2 & 1, corner >> 1 & 1, corner & 1])
            bits = bits.reshape(1, 1, 1, 3)
            weight = jnp.prod(jnp.where(bits == 1, part, 1 - part), -1, keepdims=True)
            at = low + bits
            total = total + weight * values[at[..., 0], at[..., 1], at[..., 2]]
        return jnp.where(inside, total, 0).astype(values.dtype)

    return jax.vmap(one)(volume, affine)


def _cube_corners() -> Array:
    bits = jnp.arange(NUM_CORNERS)[:, None] >> jnp.array([[2, 1, 0]]) & 1
    return 2.0 * bits - 1.0
