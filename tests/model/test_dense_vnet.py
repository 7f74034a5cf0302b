import functools
import json
import operator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import SMALL, network_variables
from flax.traverse_util import flatten_dict

from cervjax.model.affine import (
    corner_affine,
    invert_affine,
    random_corner_affine,
    resample_affine,
)
from cervjax.model.dense_vnet import DenseVNet
from cervjax.model.layers import BatchNorm, Unit, average_pool
from cervjax.model.niftynet_checkpoint import read_network, variable_names
from cervjax.model.upsampling import upsample
from cervjax.training.losses import dice, overlap_upsampled


@pytest.fixture(scope="module")
def variables(golden):
    return read_network(golden / "net_small" / "models" / "model.ckpt-1")


@pytest.fixture(scope="module")
def step(variables):
    """Loss, half-resolution logits, statistics and gradients of a training step.

    One program for all tests in training mode: compiling it takes the time.
    """

    @jax.jit
    def run(image, labels):
        def loss(params):
            logits, state = DenseVNet().apply(
                {**variables, "params": params},
                image,
                method="half_resolution",
                train=True,
                mutable=["batch_stats"],
            )
            return dice(overlap_upsampled(logits, labels)).mean(), (logits, state)

        return jax.value_and_grad(loss, has_aux=True)(variables["params"])

    return run


def test_has_the_published_number_of_parameters():
    params = network_variables()["params"]
    assert sum(p.size for p in jax.tree.leaves(params)) == 893_321
    assert len(jax.tree.leaves(params)) == 97


def test_logits_and_every_layer_equal_niftynets(golden, variables):
    image = np.load(golden / "net_small" / "input.npy")
    expected = np.load(golden / "net_small" / "logits_eval.npy")
    run = jax.jit(partial(DenseVNet().apply, mutable=("intermediates",)))
    logits, state = run(variables, image)
    assert np.abs(logits - expected).max() < 1e-4 * np.ptp(expected)
    taps = np.load(golden / "net_small" / "activations_eval.npz")
    layers = flatten_dict(state["intermediates"], sep="/")
    checked = 0
    for path, name in variable_names().items():
        if path[-1] != "kernel":
            continue
        ours = layers["/".join([*path[1:-1], "activation"])][0]
        scope = name.removesuffix("/conv_/w").replace("/", "|")
        end = "bn_|batch_norm|add_1" if path[1] == "stem" else "relu_acti_|acti"
        if f"{scope}|{end}" in taps:
            theirs = taps[f"{scope}|{end}"]
            assert np.abs(ours - theirs).max() < 1e-4 * np.ptp(theirs), name
            checked += 1
    assert checked >= 30
    pooled = np.asarray(average_pool(jnp.asarray(image)))
    np.testing.assert_allclose(
        pooled, taps["DenseVNet|avg_pooling|avg_pooling"], atol=1e-5
    )


@pytest.mark.slow
def test_batch_statistics_equal_niftynets(golden, step):
    data = np.load(golden / "net_small" / "train_mode.npz")
    (_, (half, state)), _ = step(data["input"], np.zeros(data["input"].shape[:4], int))
    logits = upsample(half, 2)
    assert np.abs(logits - data["logits"]).max() < 1e-4 * np.ptp(data["logits"])
    for path, name in variable_names().items():
        if path[0] == "batch_stats":
            ours = functools.reduce(operator.getitem, path, state)
            theirs = data["after|" + name.replace("/", "|")]
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.slow  # the golden network at full size, twice
def test_in_network_augmentation_equals_niftynets(golden, step):
    data = np.load(golden / "net_small" / "train_mode_augmented.npz")
    affine = corner_affine(jnp.asarray(data["aug_random_scale"]))
    np.testing.assert_allclose(affine, data["aug_transform"], atol=1e-6)
    resample = jax.jit(resample_affine)
    image = resample(data["input"], affine)
    (_, (half, _)), _ = step(image, np.zeros(image.shape[:4], int))
    logits = upsample(resample(half, invert_affine(affine)), 2)
    assert np.abs(logits - data["logits"]).max() < 1e-4 * np.ptp(data["logits"])


def test_the_affine_goes_into_the_network_and_back():
    """As the test above puts it together."""
    network, variables = DenseVNet(SMALL, lowering="plain"), network_variables(0, SMALL)
    image = np.random.default_rng(0).normal(size=(2, 16, 8, 8, 2)).astype(np.float32)
    affine = random_corner_affine(jax.random.key(0), 2)

    @jax.jit
    def both(image, affine):
        moved = resample_affine(image, affine)
        half = network.apply(variables, moved, method="half_resolution")
        expected = upsample(resample_affine(half, invert_affine(affine)), 2)
        return network.apply(variables, image, affine=affine), expected

    found, expected = both(image, affine)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@functools.cache
def small_gradients(remat):
    rng = np.random.default_rng(0)
    model = DenseVNet(SMALL, remat=remat, lowering="plain")
    image = rng.normal(size=(2, 16, 16, 8, 2)).astype(np.float32)

    def loss(params, rest):
        logits, state = model.apply(
            {**rest, "params": params},
            image,
            method="half_resolution",
            train=True,
            mutable=["batch_stats"],
        )
        return jnp.square(logits).mean(), state

    rest = dict(network_variables(0, SMALL))
    params = rest.pop("params")
    run = jax.jit(jax.value_and_grad(loss, has_aux=True))
    again = str(jax.make_jaxpr(run)(params, rest)).count("remat2")
    return run(params, rest), again


@pytest.mark.parametrize(("remat", "parts"), [("units", 8), ("blocks", 3)])
def test_what_is_recomputed_changes_nothing(remat, parts):
    (got, again), (expected, none) = small_gradients(remat), small_gradients("nothing")
    assert again >= parts and none == 0
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-4 * np.abs(b).max())


def test_only_known_parts_are_recomputed():
    with pytest.raises(ValueError, match="remat must be"):
        DenseVNet(remat="all").init(jax.random.key(0), np.zeros((1, 8, 8, 8, 2)))  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
def test_first_gradients_equal_niftynets(golden, step):
    data = np.load(golden / "train_steps" / "dice.npz")
    labels = jnp.asarray(data["label"][..., 0], int)
    (value, _), found = step(data["input"], labels)
    steps = json.loads((golden / "train_steps" / "dice.json").read_text())
    assert value == pytest.approx(steps["losses"][0], rel=1e-5)
    compared = 0
    for path, name in variable_names().items():
        key = "grad|" + name.replace("/", "|")
        if path[0] == "params" and key in data:
            ours = np.asarray(functools.reduce(operator.getitem, path[1:], found))
            theirs, scale = data[key], np.linalg.norm(ours)
            if ours.shape != theirs.shape:  # of large ones only sum and norm are kept
                ours, theirs = np.array([ours.sum(), scale]), theirs[:2]
            np.testing.assert_allclose(ours, theirs, atol=1e-3 * scale, err_msg=name)
            compared += 1
    assert compared == 97


@pytest.mark.parametrize("flat", [(40, 32, 33), (0, 27, 0)])
@pytest.mark.parametrize(
    "dilations", [(1, 1, 1), pytest.param((2, 1, 1), marks=pytest.mark.slow)]
)
def test_flat_ends_change_nothing(flat, dilations):
    """Of those, only what one voxel needs is computed; of regions, what they read."""
    network = DenseVNet(SMALL, dilations=dilations, lowering="plain")
    variables = network_variables(0, SMALL)
    image = np.random.default_rng(0).normal(size=(1, 16, 16, 16, 2))
    image = np.pad(image, [(0, 0), *((n, n) for n in flat), (0, 0)], mode="edge")
    widths = [(0, -n % 8) for n in image.shape[1:4]]
    image = np.pad(image, [(0, 0), *widths, (0, 0)], mode="edge").astype(np.float32)

    @partial(jax.jit, static_argnames=("flat", "region"))
    def half(x, **how):
        return network.apply(variables, x, method="half_resolution", **how)

    whole = np.asarray(half(image))
    for inside in (0, 3):
        region = tuple(
            (m // 2 + inside, (n - m) // 2 - inside)
            for m, n in zip(flat, image.shape[1:4], strict=True)
        )
        expected = whole[:, *(slice(*span) for span in region)]
        for how in ({"flat": flat}, {}):
            found = half(image, region=region, **how)
            np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(ValueError, match="reaches into the flat ends"):
        half(image, flat=flat)


def test_average_pool_divides_by_what_is_inside():
    x = jnp.arange(8.0).reshape(1, 8, 1, 1, 1) + jnp.zeros((1, 8, 8, 8, 1))
    pooled = np.asarray(jax.jit(average_pool)(x))
    np.testing.assert_allclose(pooled[0, :, 0, 0, 0], [1, 3, 5, 6.5])
    np.testing.assert_allclose(pooled[0, :, 3, 3, 0], [1, 3, 5, 6.5])


@pytest.mark.parametrize("factor", [2, 4])
def test_upsampling_reads_input_at_index_over_factor(factor):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 3, 4, 2, 2))
    fine = np.asarray(jax.jit(upsample, static_argnums=1)(x.astype(np.float32), factor))
    grids = [np.minimum(np.arange(n * factor) / factor, n - 1) for n in x.shape[1:4]]
    for axis, grid in enumerate(grids):
        low = np.floor(grid).astype(int)
        high = np.minimum(low + 1, x.shape[axis + 1] - 1)
        part = (grid - low).reshape([-1 if i == axis + 1 else 1 for i in range(5)])
        x = np.take(x, low, axis + 1) * (1 - part) + np.take(x, high, axis + 1) * part
    np.testing.assert_allclose(fine, x, atol=1e-6)


@pytest.mark.parametrize("debias", [True, False])
def test_moving_statistics_follow_their_definition(debias):
    rng = np.random.default_rng(0)
    norm = BatchNorm(2, debias=debias)
    batches = rng.normal(3, 2, (5, 64, 2)).astype(np.float32)
    state = norm.init(jax.random.key(0), batches[0], train=True)
    for batch in batches:
        _, new = norm.apply(state, batch, train=True, mutable=["batch_stats"])
        state = {**state, **new}
    weights = 0.1 * 0.9 ** np.arange(5)[::-1, None]
    means = batches.astype(float).mean(1)
    expected = (weights * means).sum(0)  # moving average from zero
    if debias:
        expected = expected / (1 - 0.9**5)
    np.testing.assert_allclose(state["batch_stats"]["mean"], expected, rtol=1e-5)
    variances = batches.astype(float).var(1)
    expected = (weights * variances).sum(0) + (0 if debias else 0.9**5)
    if debias:
        expected = expected / (1 - 0.9**5)
    np.testing.assert_allclose(state["batch_stats"]["var"], expected, rtol=1e-5)


def test_statistics_are_of_all_devices():
    """Two devices with half a batch each see the statistics of the whole batch."""
    rng = np.random.default_rng(0)
    batch = rng.normal(size=(4, 6, 3)).astype(np.float32)
    state = BatchNorm(3).init(jax.random.key(0), batch, train=True)
    expected, _ = BatchNorm(3).apply(state, batch, train=True, mutable=["batch_stats"])
    shared = BatchNorm(3, axis_name="data")
    run = jax.pmap(
        lambda s, x: shared.apply(s, x, train=True, mutable=["batch_stats"])[0],
        "data",
        in_axes=(None, 0),
    )
    got = run(state, batch.reshape(2, 2, 6, 3)).reshape(batch.shape)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_sizes_that_do_not_halve_three_times_are_refused():
    with pytest.raises(ValueError, match="divisible by 8"):
        DenseVNet(SMALL).init(jax.random.key(0), np.zeros((1, 16, 12, 16, 2)))


def test_dropout_is_off_unless_asked_for_and_training():
    image = np.random.default_rng(0).normal(size=(2, 8, 8, 8, 3)).astype(np.float32)
    plain = Unit(3, 8, lowering="plain")
    state = plain.init(jax.random.key(0), [image], False)
    expected = plain.apply(state, [image], False)
    train = {"train": True, "mutable": ["batch_stats"]}
    trained = np.asarray(plain.apply(state, [image], **train)[0])
    for options in ({"keep_prob": 0.5}, {"spatial_keep_prob": 0.5}):
        unit = Unit(3, 8, lowering="plain", **options)
        np.testing.assert_array_equal(unit.apply(state, [image], False), expected)
        rngs = {"dropout": jax.random.key(1)}
        dropped = np.asarray(unit.apply(state, [image], **train, rngs=rngs)[0])
        kept = dropped != 0
        np.testing.assert_allclose(dropped[kept], 2 * trained[kept], rtol=1e-5)
        assert 0.1 < kept.sum() / (trained != 0).sum() < 0.9
        if "spatial_keep_prob" in options:  # whole channels, the same for the batch
            assert all(
                np.all(kept[..., c] == (trained[..., c] != 0)) or not kept[..., c].any()
                for c in range(8)
            )


def test_the_last_unit_of_a_block_does_not_drop():
    block = DenseVNet(keep_prob=0.5).bind(network_variables()).block0
    assert [u.keep_prob for u in block.units] == [0.5] * 4 + [1.0]


def test_identity_affine_loses_only_the_last_planes():
    rng = np.random.default_rng(0)
    volume = rng.normal(size=(1, 6, 5, 4, 2)).astype(np.float32)
    same = jax.jit(resample_affine)(volume, jnp.eye(4)[None])
    np.testing.assert_allclose(
        same[:, :-1, :-1, :-1], volume[:, :-1, :-1, :-1], atol=1e-5
    )
    assert not np.any(same[:, -1]) and not np.any(same[:, :, :, -1])


def test_random_affines_are_mild_and_undone_by_their_inverse():
    affine = random_corner_affine(jax.random.key(0), 500)
    diagonal = np.diagonal(np.asarray(affine)[:, :3, :3], axis1=1, axis2=2)
    assert diagonal.mean() == pytest.approx(0.95, abs=0.002)
    assert np.asarray(affine)[:, 0, 1].std() == pytest.approx(0.0102, abs=0.001)
    unit = np.einsum("bij,bjk->bik", affine, invert_affine(affine))
    np.testing.assert_allclose(unit, np.broadcast_to(np.eye(4), unit.shape), atol=1e-5)
