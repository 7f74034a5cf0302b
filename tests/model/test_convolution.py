"""Every form gives the textbook's numbers and the textbook's gradients."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from scipy import ndimage

from cervjax.model import slab_products
from cervjax.model.convolution import convolve

# shape, C, O, kernel, stride
CASES = {
    "narrowing": ((1, 9, 8, 6), 5, 3, 3, 1),
    "widening": ((1, 9, 8, 6), 3, 5, 3, 1),
    "batch 2, thin": ((2, 7, 2, 1), 3, 3, 3, 1),
    "one voxel": ((1, 1, 1, 1), 2, 3, 3, 1),
    "kernel 5": ((1, 7, 6, 5), 3, 2, 5, 1),
    "kernel 5 widening": ((1, 3, 6, 5), 2, 3, 5, 1),
    "stride 2, even": ((1, 8, 6, 4), 5, 3, 3, 2),
    "stride 2, odd, batch 2": ((2, 7, 5, 9), 3, 5, 3, 2),
    "stride 2, one voxel": ((1, 1, 1, 1), 2, 3, 3, 2),
    "stride 2, kernel 5, even": ((2, 8, 6, 4), 2, 3, 5, 2),
    "stride 2, kernel 5, odd": ((1, 7, 4, 1), 2, 3, 5, 2),
}

convolve_jit = jax.jit(convolve, static_argnames=("stride", "dilation", "lowering"))


def draw(shape, seed=0, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


@partial(jax.jit, static_argnums=(0, 4))
def value_and_gradients(lowering, x, kernel, dy, stride):
    conv = partial(convolve, stride=stride, lowering=lowering)
    y, pullback = jax.vjp(conv, x, kernel)
    return y, *pullback(dy)


def assert_forms_agree(*args, rtol=1e-5, atol=2e-5):
    plain, fast = (value_and_gradients(form, *args) for form in ("plain", "fast"))
    for a, b in zip(plain, fast, strict=True):
        assert a.dtype == b.dtype
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_fast_form_equals_plain_form(case):
    shape, c, o, k, stride = case
    x, kernel = draw((*shape, c)), draw((k, k, k, c, o), 1)
    dy = draw((shape[0], *(-(-n // stride) for n in shape[1:]), o), 2)
    assert_forms_agree(x, kernel, dy, stride)


@pytest.mark.parametrize(
    ("n", "k", "stride", "o"),
    [(6, 3, 1, 1), (5, 3, 1, 7), (8, 3, 2, 1), (7, 5, 1, 2)],
)
def test_any_number_of_planes_fits_into_slabs(n, k, stride, o, monkeypatch):
    monkeypatch.setattr(slab_products, "_slab_planes", lambda planes, _: min(planes, 3))
    x, kernel = draw((2, n, 3, 2, 2)), draw((k, k, k, 2, o), 1)
    dy = draw((2, -(-n // stride), -(-3 // stride), -(-2 // stride), o), 2)
    assert_forms_agree(x, kernel, dy, stride)


@pytest.mark.parametrize("lowering", ["plain", "fast"])
@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize("shape", [(6, 4, 8), (6, 3, 1)])
def test_stride_2_places_its_windows_like_tensorflow(lowering, k, shape):
    """Even size: zeros (0, 1) for k = 3, (1, 2) for k = 5; odd: symmetric."""
    x, kernel = draw(shape), draw((k, k, k), 1)
    centred = ndimage.correlate(np.asarray(x), np.asarray(kernel), mode="constant")
    # A centred window at voxel c starts at c - k // 2; the first starts at -before.
    before = {3: (1, 0), 5: (2, 1)}[k]
    first = [k // 2 - (before[0] if n % 2 else before[1]) for n in shape]
    expected = centred[tuple(slice(f, None, 2) for f in first)]
    volume, kernel = x[None, ..., None], kernel[..., None, None]
    y = convolve_jit(volume, kernel, stride=2, lowering=lowering)
    np.testing.assert_allclose(y[0, ..., 0], expected, rtol=1e-4, atol=1e-4)


def test_one_impulse_shows_orientation_and_channels():
    x = jnp.zeros((1, 5, 5, 5, 2)).at[0, 2, 2, 2, 1].set(1.0)
    kernel = jnp.zeros((3, 3, 3, 2, 4)).at[0, 1, 2, 1, 3].set(7.0)
    for lowering in ("plain", "fast"):
        y = convolve_jit(x, kernel, lowering=lowering)
        assert np.argwhere(y).tolist() == [[0, 3, 2, 1, 3]]
        assert y.sum() == 7


def test_bfloat16_stays_bfloat16_and_close():
    x, kernel = draw((1, 6, 5, 4, 3), dtype=jnp.bfloat16), draw((3, 3, 3, 3, 2))
    kernel = kernel.astype(jnp.bfloat16)
    dy = draw((1, 6, 5, 4, 2), 2, jnp.bfloat16)
    assert value_and_gradients("fast", x, kernel, dy, 1)[0].dtype == jnp.bfloat16
    assert_forms_agree(x, kernel, dy, 1, rtol=0.02, atol=0.3)


def test_dilation_spreads_the_taps():
    x = jnp.zeros((1, 7, 7, 7, 1)).at[0, 3, 3, 3, 0].set(1.0)
    y = convolve_jit(x, jnp.ones((3, 3, 3, 1, 1)), dilation=2)
    assert sorted({i for _, i, *_ in np.argwhere(y).tolist()}) == [1, 3, 5]


def test_the_platform_decides():
    x, kernel = draw((1, 40, 4, 4, 3)), draw((3, 3, 3, 3, 2), 1)

    def hlo(platform):
        traced = jax.jit(convolve).trace(x, kernel)
        return traced.lower(lowering_platforms=(platform,)).as_text()

    assert "[b, 0, 1, 2, f]" in hlo("cuda") and "[b, 0, 1, 2, f]" in hlo("tpu")
    assert "[b, 0, 1, 2, f]" not in hlo("cpu")
    with pytest.raises(ValueError, match="got 'quick'"):
        inspect.unwrap(convolve)(x, kernel, lowering="quick")  # types unchecked


@pytest.mark.parametrize(("k", "stride"), [(3, 1), (3, 2), (5, 2)])
def test_parts_stand_for_their_concatenation(k, stride):
    widths, o, shape = (3, 1, 4), 3, (2, 7, 6, 4)
    parts = [draw((*shape, c), i) for i, c in enumerate(widths)]
    kernel = draw((k, k, k, sum(widths), o), 7)
    dy = draw((2, *(-(-n // stride) for n in shape[1:]), o), 8)
    x = jnp.concatenate(parts, -1)
    y, dx, dkernel = value_and_gradients("plain", x, kernel, dy, stride)
    for lowering in ("plain", "fast"):
        got = value_and_gradients(lowering, parts, kernel, dy, stride)
        np.testing.assert_allclose(got[0], y, rtol=1e-5, atol=2e-5)
        np.testing.assert_allclose(jnp.concatenate(got[1], -1), dx, atol=2e-5)
        np.testing.assert_allclose(got[2], dkernel, rtol=1e-5, atol=5e-5)


def test_gradients_agree_over_devices(monkeypatch):
    """Scan carries and custom gradients must pass shard_map's check of replication."""
    monkeypatch.setattr(slab_products, "_SLAB_FLOATS", 100)
    x, kernel = draw((2, 5, 4, 3, 2)), draw((3, 3, 3, 2, 2), 1)

    def loss(kernel, x):
        return jnp.square(convolve(convolve(x, kernel), kernel, stride=2)).mean()

    def body(kernel, x):
        kernel = jax.lax.pcast(kernel, "data", to="varying")
        return jax.lax.pmean(jax.grad(loss)(kernel, x), "data")

    data, same = PartitionSpec("data"), PartitionSpec()
    mesh = jax.sharding.Mesh(jax.devices()[:2], "data")
    mapped = jax.shard_map(body, mesh=mesh, in_specs=(same, data), out_specs=same)
    np.testing.assert_allclose(
        jax.jit(mapped)(kernel, x),
        jax.jit(jax.grad(loss))(kernel, x),
        rtol=1e-4,
        atol=1e-4,
    )
