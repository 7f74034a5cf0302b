import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cervjax.losses import Overlap, dice, overlap, overlap_upsampled
from cervjax.upsampling import upsample


def draw(shape, classes, seed=0):
    rng = np.random.default_rng(seed)
    logits = jnp.asarray(rng.normal(size=(*shape, classes)), jnp.float32)
    return logits, jnp.asarray(rng.integers(0, classes, shape))


def test_dice_equals_niftynets(golden):
    inputs = np.load(golden / "losses" / "loss_inputs.npz")
    expected = json.loads((golden / "losses" / "values.json").read_text())["losses"]
    labels = jnp.asarray(inputs["label"][..., 0], int)
    value, gradient = jax.value_and_grad(lambda x: dice(overlap(x, labels)).mean())(
        jnp.asarray(inputs["logits"])
    )
    assert value == pytest.approx(expected["Dice"], rel=1e-6)
    golden_gradient = np.load(golden / "losses" / "loss_grads.npz")["Dice"]
    np.testing.assert_allclose(gradient, golden_gradient, atol=1e-8)


def test_dice_by_hand():
    """Two classes, four voxels: 1 - mean of 2 shared / (squared + reference)."""
    sums = Overlap(jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 2.0]]), jnp.ones((1, 2)))
    np.testing.assert_allclose(dice(sums), [0.5], atol=1e-4)


def test_sums_are_those_of_the_definition():
    logits, labels = draw((2, 3, 4, 5), 6)
    p = np.asarray(jax.nn.softmax(logits)).reshape(2, -1, 6)
    g = np.eye(6)[np.asarray(labels).reshape(2, -1)]
    sums = overlap(logits, labels)
    for got, expected in zip(sums, (p * g, p**2, g), strict=True):
        np.testing.assert_allclose(got, expected.sum(1), rtol=1e-5)


def test_upsampling_inside_the_sums_changes_neither_value_nor_gradient():
    half, _ = draw((2, 5, 4, 3), 4)
    _, labels = draw((2, 10, 8, 6), 4, 1)

    def direct(x):
        return dice(overlap(upsample(x, 2), labels)).mean()

    def streamed(x):
        return dice(overlap_upsampled(x, labels)).mean()

    value, gradient = jax.value_and_grad(direct)(half)
    got, got_gradient = jax.jit(jax.value_and_grad(streamed))(half)
    np.testing.assert_allclose(got, value, rtol=1e-6)
    np.testing.assert_allclose(got_gradient, gradient, atol=1e-7)


def test_gradient_against_differences():
    half, _ = draw((1, 2, 2, 2), 3)
    _, labels = draw((1, 4, 4, 4), 3, 1)
    check_grads(
        lambda x: dice(overlap_upsampled(x, labels)), (half,), 1, ["rev"], rtol=0.02
    )
