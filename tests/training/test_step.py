import functools
import json
import operator
import os
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import SMALL, network_variables
from flax.traverse_util import flatten_dict
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from cervjax.model.dense_vnet import DenseVNet
from cervjax.model.layers import BatchNorm
from cervjax.model.niftynet_checkpoint import variable_names
from cervjax.model.weights import load_weights
from cervjax.training import parallel
from cervjax.training import step as training
from cervjax.training.losses import LOSSES, overlap_upsampled
from cervjax.training.step import (
    AXIS,
    StepSettings,
    create_state,
    make_step,
    tensorflow_adam,
)

pytestmark = [
    pytest.mark.xdist_group("training"),
    pytest.mark.usefixtures("forget_programs"),
]
MODEL = DenseVNet(SMALL, axis_name=AXIS, lowering="plain")


class Small(nn.Module):
    """A network of one layer, for what a step does whatever the network is."""

    @nn.compact
    def half_resolution(self, x, *, train):
        x = BatchNorm(2, axis_name=AXIS)(x[:, ::2, ::2, ::2], train=train)
        kernel = self.param("head_kernel", nn.initializers.normal(0.5), (2, 15))
        bias = self.param("head_bias", nn.initializers.zeros, (15,))
        return x @ kernel + bias.reshape(1, 1, 1, 1, 15)


def start_small(optimizer, **options):
    key, image = jax.random.key(0), made_up_batch()["image"]
    variables = Small().init(key, image, train=False, method="half_resolution")
    return start(optimizer, variables, **options)


def made_up_batch(size=2, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": rng.normal(size=(size, 16, 16, 8, 2)).astype(np.float32),
        "labels": rng.integers(0, 15, (size, 16, 16, 8)).astype(np.uint8),
    }


def start(optimizer, variables=None, **options):
    variables = jax.tree.map(
        jnp.asarray, variables or network_variables(architecture=SMALL)
    )
    options = {"with_average": False} | options
    return jax.device_put(
        create_state(variables, optimizer, **options), parallel.replicated()
    )


def tree_max_difference(a, b):
    return max(jax.tree.leaves(jax.tree.map(lambda x, y: np.abs(x - y).max(), a, b)))


@pytest.mark.slow
def test_three_steps_equal_niftynets(golden):
    """Losses, parameters and statistics of genuine Adam steps, on two devices.

    Of the paper's loss; the values and gradients of all others are compared in
    test_losses.
    """
    loss, name = "hinge_ours", "dice_hinge"
    batch = np.load(golden / "train_steps" / "dice.npz")
    expected = np.load(golden / "train_steps" / f"{loss}.npz")
    losses = json.loads((golden / "train_steps" / f"{loss}.json").read_text())["losses"]
    prefix = next((golden / "net_small" / "models").glob("*.index")).with_suffix("")
    variables = jax.tree.map(jnp.asarray, load_weights(prefix).variables)
    optimizer = tensorflow_adam(1e-3)
    state = jax.device_put(
        create_state(variables, optimizer, with_average=False), parallel.replicated()
    )
    model = DenseVNet(axis_name=AXIS)
    step = parallel.parallel_step(make_step(model, optimizer, StepSettings(name, 0)))
    shared = parallel.share(
        {"image": batch["input"], "labels": batch["label"][..., 0].astype(np.uint8)}
    )
    compared = 0
    for k, value in enumerate(losses, 1):
        state, metrics = step(state, shared)
        assert float(metrics["loss"]) == pytest.approx(value, rel=3e-5)
        tree = {"params": state.params, "batch_stats": state.batch_stats}
        for path, variable in variable_names().items():
            key = f"step{k}|" + variable.replace("/", "|")
            if key not in expected:
                continue
            ours = np.asarray(functools.reduce(operator.getitem, path, tree))
            theirs, norm = expected[key], np.linalg.norm(ours)
            if ours.shape != theirs.shape:  # of large ones only sum and norm are kept
                ours, theirs = np.array([ours.sum(), norm]), theirs[:2]
            # Adam divides a gradient by its own size: where it is nearly nothing, its
            # rounding decides the step, at most the learning rate.
            np.testing.assert_allclose(
                ours, theirs, rtol=1e-4, atol=2e-4 * norm + 1e-7, err_msg=key
            )
            compared += 1
    assert compared > 200


def test_two_devices_do_what_one_does():
    """One step of gradient descent and the statistics, from the same global batch."""
    optimizer = optax.sgd(1.0)
    body = make_step(MODEL, optimizer, StepSettings("dice", 0))
    batch = made_up_batch(4)
    two, metrics_two = parallel.parallel_step(body)(
        start(optimizer), parallel.share(batch)
    )
    one = jax.pmap(
        body,
        axis_name=AXIS,
        in_axes=(None, 0),
        out_axes=None,
        devices=jax.devices()[:1],
    )
    alone = jax.device_put(start(optimizer), jax.devices()[0])
    one, metrics_one = one(alone, {k: v[None] for k, v in batch.items()})
    assert (
        tree_max_difference(jax.device_get(one.params), jax.device_get(two.params))
        < 1e-6
    )
    assert (
        tree_max_difference(
            jax.device_get(one.batch_stats), jax.device_get(two.batch_stats)
        )
        < 1e-5
    )
    assert tree_max_difference(*map(jax.device_get, (metrics_one, metrics_two))) < 1e-5


def trace_under_shard_map(body, optimizer):
    mapped = jax.shard_map(
        body,
        mesh=parallel.mesh(),
        in_specs=(P(), P(AXIS)),
        out_specs=P(),
        check_vma=True,
    )
    return jax.eval_shape(mapped, start(optimizer, with_average=True), made_up_batch())


@pytest.mark.parametrize(
    ("accumulate", "options"),
    [
        (1, {}),
        (2, {}),
        (1, {"dtype": jnp.bfloat16, "remat": "units", "keep_prob": 0.5}),
        (1, {"remat": "blocks", "spatial_keep_prob": 0.5}),
    ],
    ids=["whole", "accumulated", "bfloat16", "remat"],
)
def test_every_copy_of_the_state_stays_the_same(accumulate, options):
    """`check_vma` proves at trace time that nothing differs between devices."""
    optimizer = optax.adam(1e-3)
    body = make_step(
        MODEL.clone(**options),
        optimizer,
        StepSettings(
            "dice_hinge",
            seed=0,
            affine_scale=0.1,
            weight_decay=1e-5,
            average_decay=0.9,
            accumulate=accumulate,
        ),
    )
    batch = {k: jnp.repeat(v, 2, 0) for k, v in made_up_batch().items()}
    mapped = jax.shard_map(
        body,
        mesh=parallel.mesh(),
        in_specs=(P(), P(AXIS)),
        out_specs=P(),
        check_vma=True,
    )
    state, metrics = jax.eval_shape(mapped, start(optimizer, with_average=True), batch)
    assert metrics["soft_dice"].shape == (15,)


def test_a_forgotten_mean_over_devices_is_noticed(monkeypatch):
    monkeypatch.setattr(training.lax, "pmean", lambda value, axis: value)
    optimizer = optax.sgd(1.0)
    with pytest.raises(ValueError, match="out_specs"):
        trace_under_shard_map(
            make_step(MODEL, optimizer, StepSettings("dice", 0)), optimizer
        )


def test_statistics_of_one_device_alone_are_noticed():
    optimizer = optax.sgd(1.0)
    alone = DenseVNet(SMALL, axis_name=None, lowering="plain")
    with pytest.raises(ValueError, match="out_specs"):
        trace_under_shard_map(
            make_step(alone, optimizer, StepSettings("dice", 0)), optimizer
        )


@pytest.mark.slow
def test_two_processes_do_what_one_does():
    """Two processes of one device each against one process of two."""
    script = Path(__file__).with_name("two_processes.py")
    with_port = {
        **os.environ,
        "JAX_COORDINATOR_ADDRESS": f"localhost:{_free_port()}",
        "JAX_NUM_PROCESSES": "2",
    }
    workers = [
        subprocess.Popen(
            [sys.executable, str(script)],
            env=with_port | {"JAX_PROCESS_ID": str(i)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    found = [
        json.loads(w.communicate(timeout=300)[0].splitlines()[-1]) for w in workers
    ]
    optimizer = optax.sgd(1.0)
    body = make_step(Small(), optimizer, StepSettings("dice", 0))
    state, metrics = parallel.parallel_step(body)(
        start_small(optimizer), parallel.share(made_up_batch(4))
    )
    kernel = np.asarray(state.params["head_kernel"]).reshape(-1)[:50]
    for numbers in found:
        assert numbers["processes"] == 2
        assert numbers["loss"] == pytest.approx(float(metrics["loss"]), rel=1e-6)
        np.testing.assert_allclose(numbers["kernel"], kernel, atol=1e-6)


def _free_port():
    import socket

    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


def test_accumulation_averages_the_parts():
    optimizer = optax.sgd(1.0)
    batch = made_up_batch(4)
    whole = make_step(Small(), optimizer, StepSettings("dice", 0))
    parts = make_step(Small(), optimizer, StepSettings("dice", 0, accumulate=2))
    before = start_small(optimizer)
    first = jax.device_get(before.params)
    # Each device has two windows; its parts are the first and the second of them.
    joined, _ = parallel.parallel_step(parts)(before, parallel.share(batch))
    step = parallel.parallel_step(whole)
    alone = [
        jax.device_get(
            step(
                start_small(optimizer),
                parallel.share({k: v[i::2] for k, v in batch.items()}),
            )[0].params
        )
        for i in range(2)
    ]
    mean = jax.tree.map(lambda a, b: (a + b) / 2, *alone)
    assert tree_max_difference(jax.device_get(joined.params), mean) < 2e-6
    assert tree_max_difference(first, mean) > 1e-3


def test_weight_decay_shrinks_kernels_alone():
    optimizer = optax.sgd(1.0)
    batch = parallel.share(made_up_batch())
    results = []
    for decay in (0.0, 0.01):
        settings = StepSettings("dice", 0, weight_decay=decay)
        body = make_step(Small(), optimizer, settings)
        state, metrics = parallel.parallel_step(body)(start_small(optimizer), batch)
        results.append((jax.device_get(state.params), float(metrics["loss"])))
    (plain, loss), (decayed, larger) = results
    kernel = jax.device_get(start_small(optimizer).params)["head_kernel"]
    np.testing.assert_allclose(
        plain["head_kernel"] - decayed["head_kernel"], 0.01 * kernel, atol=1e-6
    )
    np.testing.assert_array_equal(plain["head_bias"], decayed["head_bias"])
    expected = 0.005 * np.square(kernel).sum()
    assert larger - loss == pytest.approx(expected, rel=1e-4)


def test_weight_decay_knows_the_networks_kernels():
    params = network_variables()["params"]
    flat = flatten_dict(params, sep="/")
    kernels = [v for k, v in flat.items() if v.ndim == 5]  # 3D convolutions'
    assert len(kernels) > 20
    expected = 0.005 * sum(np.square(v).sum() for v in kernels)
    assert training._l2(params, 0.01) == pytest.approx(expected, rel=1e-4)


def test_moving_average_by_hand():
    optimizer = optax.sgd(1.0)
    body = make_step(Small(), optimizer, StepSettings("dice", 0, average_decay=0.999))
    state = start_small(optimizer, with_average=True)
    before = jax.device_get(state.average["params"]["head_bias"])
    state, _ = parallel.parallel_step(body)(state, parallel.share(made_up_batch()))
    after = jax.device_get(state.params["head_bias"])
    decay = (1 + 1) / (10 + 1)  # quick at first
    np.testing.assert_allclose(
        state.average["params"]["head_bias"],
        decay * before + (1 - decay) * after,
        atol=1e-6,
    )
    assert state.variables is state.average


def test_adam_of_tensorflow_by_hand():
    rule = tensorflow_adam(0.1, eps=0.5)
    params = {"a": jnp.array([1.0, -2.0])}
    state, m, v = rule.init(params), 0.0, 0.0
    for t, g in enumerate((np.array([0.3, -1.0]), np.array([0.1, 2.0])), 1):
        updates, state = rule.update({"a": jnp.asarray(g)}, state, params)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        factor = np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        expected = -0.1 * factor * m / (np.sqrt(v) + 0.5)
        np.testing.assert_allclose(updates["a"], expected, rtol=1e-4)  # float32


def test_randomness_depends_on_seed_step_and_device():
    """What `augment` is given differs between devices, steps and seeds."""
    seen = []

    def augment(key, batch):
        jax.debug.callback(lambda k: seen.append(int(k)), jax.random.bits(key))
        return batch["image"], batch["labels"]

    optimizer = optax.sgd(0.0)
    batch = parallel.share(made_up_batch())
    for seed in (0, 1, 0):
        body = make_step(Small(), optimizer, StepSettings("dice", seed), augment)
        step, state = parallel.parallel_step(body), start_small(optimizer)
        for _ in range(2):
            state, _ = step(state, batch)
        jax.effects_barrier()
    first, second, third = (sorted(seen[i : i + 4]) for i in (0, 4, 8))
    assert len({*first, *second}) == 8
    assert first == third


@pytest.mark.parametrize("accumulate", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_with_fixed_statistics_the_network_is_trained_as_it_is_run(accumulate):
    """The step is the gradient in inference mode, and leaves the statistics alone."""
    batch, optimizer, loss = made_up_batch(4), optax.sgd(1.0), "dice_plus_cross_entropy"
    key, how = jax.random.key(0), {"train": False, "method": "half_resolution"}
    variables = jax.device_get(Small().init(key, batch["image"], **how))
    variables["batch_stats"] = jax.tree.map(
        lambda v: 0.3 + np.arange(v.size, dtype=v.dtype).reshape(v.shape),
        variables["batch_stats"],
    )

    def loss_of(params):
        half = Small().apply(variables | {"params": params}, batch["image"], **how)
        return LOSSES[loss](overlap_upsampled(half, batch["labels"])).mean()

    expected, gradient = jax.jit(jax.value_and_grad(loss_of))(variables["params"])
    done = {}
    for fixed in (True, False):
        settings = StepSettings(
            loss, 0, fixed_statistics=fixed, average_decay=0.9, accumulate=accumulate
        )
        body = make_step(Small(), optimizer, settings)
        state = start(optimizer, variables, with_average=True)
        done[fixed] = parallel.parallel_step(body)(state, parallel.share(batch))
    state, metrics = done[True]
    assert float(metrics["loss"]) == pytest.approx(float(expected), rel=1e-5)
    new = jax.tree.map(np.subtract, variables["params"], gradient)
    assert tree_max_difference(state.params, new) < 1e-4
    for stats in (state.batch_stats, state.average["batch_stats"]):
        jax.tree.map(np.testing.assert_array_equal, stats, variables["batch_stats"])
    state, metrics = done[False]  # those of the batch
    assert abs(float(metrics["loss"]) - float(expected)) > 1e-3
    assert tree_max_difference(state.params, new) > 0.01
    assert tree_max_difference(state.batch_stats, variables["batch_stats"]) > 0.01


def test_fixed_statistics_on_several_hosts():
    """Where JAX checks that every device keeps the same state."""
    settings = StepSettings("dice", 0, fixed_statistics=True, accumulate=2)
    optimizer, batch = optax.sgd(0.1), made_up_batch(4)
    body = make_step(Small(), optimizer, settings)
    state = start_small(optimizer)
    stats = jax.device_get(state.batch_stats)
    place = NamedSharding(parallel.mesh(), P(AXIS))
    shared = {k: jax.device_put(v, place) for k, v in batch.items()}
    state, _ = parallel.sharded_step(body)(state, shared)
    jax.tree.map(np.testing.assert_array_equal, state.batch_stats, stats)


def test_unknown_loss_is_named():
    with pytest.raises(ValueError, match="dice_hinge.*'dise'"):
        StepSettings("dise", seed=0)


def test_a_batch_that_devices_cannot_share_is_refused():
    with pytest.raises(ValueError, match="multiple of 4"):
        parallel.check_batch(6, accumulate=2)
