"""Each change of intensity alone, against NumPy, SciPy and its definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial.legendre import Legendre
from scipy.ndimage import gaussian_filter

from cervjax.data.augment_intensity import (
    Intensity,
    apply_curve,
    blur,
    distort,
    distort_some,
    power,
    scale,
    smooth_field,
)

SHAPE = (14, 12, 8)
FIELDS = Intensity._fields
VOXELS = (1, 2, 3)
distorted = jax.jit(distort, static_argnames="settings")


def draw(batch=3, shape=SHAPE, seed=0):
    """Two channels of different height and range above the same air."""
    rng = np.random.default_rng(seed)
    height = rng.uniform(0, 4, (batch, *shape, 2)) * np.array([1, 0.6])
    return (height - 1).astype(np.float32)


def changed(name, amount, image, seed=0):
    amount = (amount,) * 3 if name == "low_resolution" else amount
    settings = Intensity(**{name: amount})
    return np.asarray(distorted(jax.random.key(seed), image, settings=settings))


def heights(image):
    return image - image.min(VOXELS, keepdims=True)


def test_off_is_the_same():
    image = jnp.asarray(draw())
    assert distort(jax.random.key(0), image, Intensity()) is image
    assert not np.any(np.hstack(Intensity()))


@pytest.mark.parametrize("name", FIELDS)
def test_each_is_random_repeatable_and_its_own(name):
    """Samples and keys differ; the same key gives the same."""
    image = np.repeat(draw(1), 2, 0)
    amount = 0.5
    first, again, *others = (
        changed(name, amount, image, seed) for seed in (0, 0, *range(1, 6))
    )
    np.testing.assert_array_equal(first, again)
    assert first.shape == image.shape and first.dtype == np.float32
    assert np.isfinite(first).all()
    assert any(np.abs(other - first).max() > 0.01 for other in others)
    assert any(np.abs(other[0] - other[1]).max() > 0.01 for other in (first, *others))


def test_not_compiled_and_under_vmap():
    image, settings = draw(2), Intensity(bias_field=0.3, gamma=0.3)
    keys = jax.random.split(jax.random.key(9), 2)
    pairs = jnp.stack([image, image[::-1]])
    both = jax.vmap(lambda k, i: distorted(k, i, settings=settings))(keys, pairs)
    for k in range(2):
        alone = distorted(keys[k], pairs[k], settings=settings)
        np.testing.assert_allclose(both[k], alone, atol=1e-5)
    eager = distort(keys[0], pairs[0], settings)
    np.testing.assert_allclose(both[0], eager, atol=1e-5)


def test_options_do_not_disturb_each_others_draws():
    image = draw()
    both = distorted(
        jax.random.key(2), image, settings=Intensity(contrast=0.3, brightness=0.2)
    )
    contrast = changed("contrast", 0.3, image, 2)
    shift = changed("brightness", 0.2, image, 2) - image
    np.testing.assert_allclose(both, contrast + shift, atol=1e-5)


def test_field_equals_numpys_legendre_polynomials():
    coefficients = np.random.default_rng(0).normal(size=(2, 4, 4, 4))
    got = smooth_field(jnp.asarray(coefficients, jnp.float32), SHAPE)
    centres = [(np.arange(n) + 0.5) / n * 2 - 1 for n in SHAPE]
    expected = np.zeros((2, *SHAPE))
    terms = [t for t in np.ndindex(4, 4, 4) if 0 < sum(t) <= 3]
    assert len(terms) == 19
    for term in terms:
        x, y, z = (
            Legendre.basis(k)(c) * np.sqrt(2 * k + 1)
            for k, c in zip(term, centres, strict=True)
        )
        product = np.einsum("x,y,z->xyz", x, y, z)
        expected += coefficients[:, *term].reshape(2, 1, 1, 1) * product
    expected -= expected.mean(VOXELS, keepdims=True)
    np.testing.assert_allclose(got, expected / np.sqrt(19), atol=1e-5)


def test_field_has_mean_square_one():
    coefficients = jax.random.normal(jax.random.key(0), (500, 4, 4, 4))
    field = np.asarray(smooth_field(coefficients, (16, 16, 8)))
    np.testing.assert_allclose(field.mean(VOXELS), 0, atol=1e-5)
    assert np.sqrt(np.mean(field**2)) == pytest.approx(1, rel=0.05)


def test_bias_field_is_a_smooth_gain_of_both_channels():
    image = np.random.default_rng(0).uniform(1, 2, (40, 10, 10, 6, 2)).astype("f4")
    image[:, 0, 0, 0] = 0
    got = changed("bias_field", 0.3, image)
    np.testing.assert_allclose(got[:, 0, 0, 0], 0)
    log = np.log(np.where(image > 0, got, 1) / np.where(image > 0, image, 1))
    np.testing.assert_allclose(log[..., 0], log[..., 1], atol=1e-5)
    inside = log[:, 1:]
    assert inside.std() == pytest.approx(0.3, rel=0.2)
    steps = [np.abs(np.diff(inside, axis=axis)).max() for axis in VOXELS]
    assert max(steps) < inside.max() - inside.min()
    fourth = np.diff(inside, 4, axis=2)  # of cubic polynomials
    np.testing.assert_allclose(fourth, 0, atol=1e-4)
    assert np.abs(np.diff(inside, 3, axis=2)).max() > 1e-3


def test_blur_equals_scipys():
    image, factors = draw(2), np.array([[1.0, 1.5, 2.0], [1.8, 1.2, 1.0]])
    got = blur(jnp.asarray(image), jnp.asarray(factors, jnp.float32), (2.0, 2.0, 2.0))
    for k, factor in enumerate(factors):
        sigma = np.sqrt((factor**2 - 1) / (8 * np.log(2)))
        expected = gaussian_filter(
            image[k], (*sigma, 0), mode="reflect", radius=(3, 3, 3, 0)
        )
        np.testing.assert_allclose(got[k], expected, atol=1e-5)


def test_low_resolution_removes_detail_and_keeps_the_mean():
    board = (np.indices((16, 16, 16)).sum(0) % 2).astype("f4")[None, ..., None]
    image = np.concatenate([board, 1 - 0.5 * board], -1)
    ramp = np.broadcast_to(np.arange(16.0)[:, None, None, None], image.shape[1:])
    image = np.concatenate([image, ramp[None].astype("f4")])
    got = np.concatenate([changed("low_resolution", 1.0, image, s) for s in range(4)])
    mean = np.concatenate([image] * 4).mean(VOXELS, float)
    np.testing.assert_allclose(got.mean(VOXELS, float), mean, rtol=1e-5)
    left = got[::2].std(VOXELS) / image[0].std((0, 1, 2))
    assert left.max() < 0.8 and left.mean() < 0.5
    for ramp in got[1::2]:
        np.testing.assert_allclose(ramp[4:-4], image[1, 4:-4], atol=1e-4)


def test_slices_alone_can_be_made_thick():
    image = draw(4)
    settings = Intensity(low_resolution=(0.0, 0.0, 3.0))
    got = np.asarray(distorted(jax.random.key(0), image, settings=settings))
    np.testing.assert_allclose(got.mean(3), image.mean(3), atol=1e-5)
    rough = [np.diff(v, axis=3).std((1, 2, 3, 4)) for v in (image, got)]
    left = rough[1] / rough[0]
    assert left.max() < 1 and left.min() < 0.3


def test_noise_is_white_and_of_uniform_level():
    image = draw(200)
    noise = changed("noise", 0.2, image) - image
    sd = noise.std((1, 2, 3, 4))
    assert 0.19 < sd.max() < 0.21 and sd.min() < 0.01
    assert sd.mean() == pytest.approx(0.1, abs=0.012)
    assert sd.std() == pytest.approx(0.2 / np.sqrt(12), rel=0.15)
    scaled = noise / sd.reshape(-1, 1, 1, 1, 1)
    assert np.abs(scaled.mean()) < 0.01
    assert np.mean(scaled**4) == pytest.approx(3, rel=0.03)
    assert np.abs(np.mean(scaled[..., 0] * scaled[..., 1])) < 0.01
    assert np.abs(np.mean(scaled[:, 1:] * scaled[:, :-1])) < 0.01


def test_gamma_keeps_order_and_range():
    image = draw(60)
    got = changed("gamma", 0.3, image)
    for bound in (np.min, np.max):
        np.testing.assert_allclose(
            bound(got, axis=VOXELS), bound(image, axis=VOXELS), atol=1e-5
        )
    order = image.reshape(60, -1, 2).argsort(1)
    sorted_ = np.take_along_axis(got.reshape(60, -1, 2), order, 1)
    assert (np.diff(sorted_, axis=1) > -1e-6).all()
    unit = [heights(v) / heights(v).max(VOXELS, keepdims=True) for v in (image, got)]
    middle = (unit[0] > 0.1) & (unit[0] < 0.9)
    exponents = np.log(np.where(middle, unit[1], np.e))
    exponents = exponents / np.log(np.where(middle, unit[0], np.e))
    log = np.log(np.ma.masked_array(exponents, ~middle))
    np.testing.assert_allclose(log.std(VOXELS), 0, atol=1e-3)
    log = np.asarray(log.mean(VOXELS))
    assert log.std() == pytest.approx(0.3, rel=0.2) and abs(log.mean()) < 0.1
    assert np.abs(np.corrcoef(log.T)[0, 1]) < 0.4


def test_power_by_hand():
    image = jnp.array([-1.0, 0.0, 1.0, 3.0]).reshape(1, 4, 1, 1, 1)
    got = power(image, jnp.full((1, 1, 1, 1, 1), 2.0))
    np.testing.assert_allclose(got.ravel(), [-1, -0.75, 0, 3], atol=1e-6)
    flat = jnp.full((1, 2, 2, 2, 1), 0.5)
    np.testing.assert_array_equal(power(flat, jnp.full((1, 1, 1, 1, 1), 0.7)), flat)


def test_intensity_curve_by_hand():
    """Mean and standard deviation stay, and what was equal stays equal."""
    image = np.array([-1.0, 0.0, 0.0, 1.0, 3.0]).reshape(1, 5, 1, 1, 1)
    heights = np.array([0.1, -0.3]).reshape(2, 1, 1, 1, 1, 1)
    got = np.asarray(apply_curve(jnp.asarray(image, jnp.float32), jnp.asarray(heights)))
    span = image.mean() + 2 * image.std() + 1
    v = np.pi * np.minimum((image + 1) / span, 1)
    waves = image + span * (0.1 * np.sin(v) - 0.15 * np.sin(2 * v))
    expected = (waves - waves.mean()) * image.std() / waves.std() + image.mean()
    np.testing.assert_allclose(got, expected, atol=1e-5)
    flat = jnp.full((1, 2, 2, 2, 1), 0.5)
    np.testing.assert_allclose(apply_curve(flat, jnp.asarray(heights)), flat, atol=1e-6)


def test_intensity_curve_is_drawn_for_each_channel():
    image = np.repeat(draw(40)[..., :1], 2, -1)
    got = changed("intensity_curve", 0.2, image)
    np.testing.assert_allclose(got.mean(VOXELS), image.mean(VOXELS), atol=1e-4)
    np.testing.assert_allclose(got.std(VOXELS), image.std(VOXELS), rtol=1e-4)
    moved = np.abs(got - image).mean(VOXELS)
    assert (moved > 0.01).mean() > 0.95
    assert (np.abs(got[..., 0] - got[..., 1]).mean((1, 2, 3)) > 0.01).mean() > 0.95


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_samples_is_changed_otherwise(share):
    image = draw(200, (3, 2, 2))
    usual, other = Intensity(brightness=0.1), Intensity(channel_mix=1.0)
    some = jax.jit(distort_some, static_argnums=(2, 3, 4))
    got = np.asarray(some(jax.random.key(1), image, usual, other, share))
    mixed = (got[..., 0] == got[..., 1]).all((1, 2, 3))
    assert mixed.mean() == pytest.approx(share, abs=0.08)
    shift = (got - image)[~mixed]
    if len(shift):
        np.testing.assert_allclose(shift.std((1, 2, 3)), 0, atol=1e-6)
        assert shift.std() == pytest.approx(0.1, rel=0.2)


def test_scale_by_hand():
    image = jnp.array([-1.0, 0.0, 3.0]).reshape(1, 3, 1, 1, 1)
    got = scale(image, jnp.full((1, 1, 1, 1, 1), 1.5))
    np.testing.assert_allclose(got.ravel(), [-1, 0.5, 5])


def test_contrast_multiplies_heights():
    image = draw(60)
    got = changed("contrast", 0.3, image)
    np.testing.assert_allclose(got.min(VOXELS), image.min(VOXELS), atol=1e-6)
    factor = heights(got).max(VOXELS) / heights(image).max(VOXELS)
    expected = heights(image) * factor[:, None, None, None]
    np.testing.assert_allclose(heights(got), expected, atol=1e-4)
    log = np.log(factor)
    assert log.std() == pytest.approx(0.3, rel=0.2) and abs(log.mean()) < 0.1
    assert np.abs(np.corrcoef(log.T)[0, 1]) < 0.4


def test_brightness_adds_a_number():
    image = draw(60)
    shift = changed("brightness", 0.3, image) - image.astype(float)
    np.testing.assert_allclose(shift.std(VOXELS), 0, atol=1e-6)
    shift = shift.mean(VOXELS)
    assert shift.std() == pytest.approx(0.3, rel=0.2) and abs(shift.mean()) < 0.1
    assert np.abs(np.corrcoef(shift.T)[0, 1]) < 0.4


def test_channel_mix_makes_channels_equal():
    image = draw(200, (3, 2, 2))
    got = changed("channel_mix", 0.4, image)
    kept = np.all(got == image, (1, 2, 3, 4))
    first, second = (
        np.all(got == image[..., k : k + 1], (1, 2, 3, 4)) for k in range(2)
    )
    assert np.all(kept ^ first ^ second)
    assert kept.mean() == pytest.approx(0.6, abs=0.1)
    assert first.mean() == pytest.approx(0.2, abs=0.08)
