"""Convolving before upsampling gives what upsampling before convolving gives."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cervjax.model import slab_products
from cervjax.model.upsampled_convolution import convolve_upsampled


def draw(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize(
    ("shape", "c", "o"),
    [((1, 3, 4, 5), 3, 2), ((2, 4, 3, 2), 2, 5), ((2, 1, 1, 1), 2, 3)],
)
def test_fast_form_equals_plain_form_and_its_gradients(shape, c, o, monkeypatch):
    monkeypatch.setattr(slab_products, "_slab_planes", lambda planes, _: min(planes, 3))
    x, kernel = draw((*shape, c)), draw((3, 3, 3, c, o), 1)
    dy = draw((shape[0], *(2 * n for n in shape[1:]), o), 2)

    def both(lowering):
        form = partial(convolve_upsampled, lowering=lowering)
        y, pullback = jax.vjp(form, x, kernel)
        return y, *pullback(dy)

    forms = (jax.jit(both, static_argnums=0)(form) for form in ("plain", "fast"))
    for plain, fast in zip(*forms, strict=True):
        np.testing.assert_allclose(plain, fast, rtol=1e-5, atol=3e-5)


def test_a_line_is_interpolated_and_ends_as_tensorflow_has_it():
    """Along x: the first, halfway, ..., the last repeated; zero outside."""
    x = jnp.array([2.0, 4.0, 8.0]).reshape(1, 3, 1, 1, 1)
    kernel = jnp.zeros((3, 3, 3, 1, 1)).at[:, 1, 1, 0, 0].set(jnp.array([100.0, 10, 1]))
    y = convolve_upsampled(x, kernel, lowering="fast")
    fine = np.array([0, 2, 3, 4, 6, 8, 8, 0])  # with a zero at either end
    expected = 100 * fine[:-2] + 10 * fine[1:-1] + fine[2:]
    np.testing.assert_allclose(y[0, :, 0, 0, 0], expected)
