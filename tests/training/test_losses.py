import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from cervjax.anatomy import IGNORED
from cervjax.model.upsampling import upsample
from cervjax.training.losses import (
    LOSSES,
    Overlap,
    dice,
    muscle_logits,
    overlap,
    overlap_upsampled,
    with_undrawn,
)


def draw(shape, classes, seed=0):
    rng = np.random.default_rng(seed)
    logits = jnp.asarray(rng.normal(size=(*shape, classes)), jnp.float32)
    return logits, jnp.asarray(rng.integers(0, classes, shape))


NIFTYNETS_NAMES = {
    "Dice": "dice",
    "Dice_NS": "dice_linear",
    "GDSC": "generalised_dice",
    "CrossEntropy": "cross_entropy",
    "DicePlusXEnt": "dice_plus_cross_entropy",
    "OURS_dice_hinge": "dice_hinge",  # our transcription, in the genuine wrapper
}


@pytest.mark.parametrize("name", NIFTYNETS_NAMES)
def test_values_and_gradients_equal_niftynets(golden, name):
    loss = LOSSES[NIFTYNETS_NAMES[name]]
    inputs = np.load(golden / "losses" / "loss_inputs.npz")
    expected = json.loads((golden / "losses" / "values.json").read_text())["losses"]
    labels = jnp.asarray(inputs["label"][..., 0], int)
    value, gradient = jax.value_and_grad(lambda x: loss(overlap(x, labels)).mean())(
        jnp.asarray(inputs["logits"])
    )
    key = "OURS_dice_hinge_in_genuine_wrapper" if name.startswith("OURS") else name
    assert value == pytest.approx(expected[key], rel=1e-6)
    golden_gradient = np.load(golden / "losses" / "loss_grads.npz")[name]
    scale = np.abs(golden_gradient).max()
    np.testing.assert_allclose(gradient, golden_gradient, atol=2e-6 * scale + 1e-10)


def test_dice_by_hand():
    """Two classes, four voxels: 1 - mean of 2 shared / (squared + reference)."""
    one = jnp.ones((1, 2))
    sums = Overlap(jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 2.0]]), one, one, one)
    np.testing.assert_allclose(dice(sums), [0.5], atol=1e-4)


def test_sums_are_those_of_the_definition():
    logits, labels = draw((2, 3, 4, 5), 6)
    p = np.asarray(jax.nn.softmax(logits)).reshape(2, -1, 6)
    g = np.eye(6)[np.asarray(labels).reshape(2, -1)]
    sums = overlap(logits, labels)
    for got, expected in zip(sums, (p * g, p**2, g, p, g * np.log(p)), strict=True):
        np.testing.assert_allclose(got, expected.sum(1), rtol=1e-5)


@pytest.mark.parametrize("unknown", [(), (3, 14)])
def test_what_masks_do_not_show_is_one_class_with_background(unknown):
    """Bodies, and muscles that nobody drew; at half resolution as at full."""
    half, _ = draw((2, 3, 2, 2), 22)
    labels = jnp.asarray(np.random.default_rng(1).choice([0, 1, 2, 13], (2, 6, 4, 4)))
    p = np.asarray(jax.nn.softmax(upsample(half, 2))).reshape(2, -1, 22)
    merged = [0, *unknown, *range(15, 22)]
    q = np.zeros((2, p.shape[1], 15))
    q[..., 1:] = p[..., 1:15]
    q[..., list(unknown)] = 0
    q[..., 0] = p[..., merged].sum(-1)
    g = np.eye(15)[np.asarray(labels).reshape(2, -1)]
    sums = overlap_upsampled(half, labels, unknown)
    expected = (q * g, q**2, g, q, g * np.log(np.maximum(q, 1e-30)))
    for got, terms in zip(sums, expected, strict=True):
        np.testing.assert_allclose(got, terms.sum(1), rtol=1e-5)
    gradient = jax.grad(lambda x: dice(overlap_upsampled(x, labels, unknown)).mean())
    assert np.isfinite(gradient(half)).all()


def test_a_muscle_that_a_slice_does_not_show_is_unknown_there():
    """One class with background, as bodies are; elsewhere all is as ever."""
    half, _ = draw((2, 3, 2, 2), 22)
    labels = np.random.default_rng(1).integers(0, 15, (2, 6, 4, 4)).astype(np.uint8)
    labels[0, ..., 1][labels[0, ..., 1] == 5] = 0
    labels[1, ..., 3] = IGNORED
    labels[1, 2:, :, 0] = 14
    coded = with_undrawn(jnp.asarray(labels))
    p = np.asarray(jax.nn.softmax(upsample(half, 2)), np.float64)
    q = np.zeros((*labels.shape, 15))
    for b, z in np.ndindex(2, 4):
        drawn = set(labels[b, :, :, z].ravel().tolist()) - {0, IGNORED}
        for k in range(22):
            q[b, :, :, z, k if k in drawn else 0] += p[b, :, :, z, k]
    q[labels == IGNORED] = 0
    q, g = q.reshape(2, -1, 15), np.eye(256)[labels.reshape(2, -1)][..., :15]
    sums = overlap_upsampled(half, coded, ())
    expected = (q * g, q**2, g, q, g * np.log(np.maximum(q, 1e-30)))
    for got, terms in zip(sums, expected, strict=True):
        np.testing.assert_allclose(got, terms.sum(1), rtol=1e-4, atol=1e-6)
    gradient = jax.grad(lambda x: dice(overlap_upsampled(x, coded, ())).mean())
    assert np.isfinite(gradient(half)).all()


def test_blank_voxels_do_not_say_which_of_the_others_they_are():
    """Background and bodies are pushed in proportion to what the network says."""
    logits, _ = draw((5,), 22)
    slope = jax.grad(lambda x: jax.nn.log_softmax(muscle_logits(x))[0])(logits[0])
    p = np.asarray(jax.nn.softmax(logits[0]))
    others = [0, *range(15, 22)]
    ratio = np.asarray(slope)[others] / p[others]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)
    assert ratio[0] > 0 and (np.asarray(slope)[1:15] < 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_voxels_belong_to_nothing(name):
    logits, labels = draw((1, 4, 4, 4), 5)
    ignored = np.random.default_rng(2).random(labels.shape) < 0.4

    def loss(x):
        marked = jnp.where(ignored, IGNORED, labels)
        return LOSSES[name](overlap(x, marked)).mean()

    def without(x):
        kept = x[~ignored].reshape(1, -1, 1, 1, 5)
        return LOSSES[name](overlap(kept, labels[~ignored].reshape(1, -1, 1, 1))).mean()

    value, gradient = jax.value_and_grad(loss)(logits)
    expected, expected_gradient = jax.value_and_grad(without)(logits)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-7)
    assert not np.asarray(gradient)[ignored].any()
    blank = jnp.full(labels.shape, IGNORED)
    value, gradient = jax.value_and_grad(
        lambda x: LOSSES[name](overlap(x, blank)).mean()
    )(logits)
    assert np.isfinite(value) and not np.asarray(gradient).any()


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


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_against_differences(name):
    half, _ = draw((1, 2, 2, 2), 3)
    _, labels = draw((1, 4, 4, 4), 3, 1)
    check_grads(
        lambda x: LOSSES[name](overlap_upsampled(x, labels)),
        (half,),
        1,
        ["rev"],
        rtol=0.02,
    )


def test_an_absent_class_gives_the_hinge_a_constant_and_no_gradient():
    logits, labels = draw((1, 4, 4, 4), 3)
    labels = jnp.minimum(labels, 1)
    weights = jax.grad(lambda s: LOSSES["dice_hinge"](s).sum())(overlap(logits, labels))
    assert float(jnp.abs(weights.squared[0, 2])) == 0
    assert float(weights.shared[0, 0]) != 0


def test_logits_far_apart_give_finite_losses_and_gradients():
    logits = jnp.zeros((1, 2, 2, 2, 3)).at[..., 0].set(200.0)
    labels = jnp.ones((1, 2, 2, 2), int)
    for loss in LOSSES.values():
        value, gradient = jax.value_and_grad(
            lambda x, loss=loss: loss(overlap(x, labels)).mean()
        )(logits)
        assert np.isfinite(value) and np.isfinite(gradient).all()
