"""Devices: the step over all of them, batches split among them, several hosts.

Nothing else knows devices. `jax.pmap` is, since JAX 0.8, ``jit(shard_map(...))``
with the mapped axis taken off; it is used on one host. Several hosts run the same body
under `jax.shard_map` (https://docs.jax.dev/en/latest/migrate_pmap.html).
"""

import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from cervjax.training.config import ConfigError
from cervjax.training.step import AXIS


def connect() -> None:
    """Joins the other hosts, where the environment names a coordinator.

    Set ``JAX_COORDINATOR_ADDRESS``, ``JAX_NUM_PROCESSES`` and ``JAX_PROCESS_ID``; on
    Cloud TPU and under Slurm, ``JAX_NUM_PROCESSES`` alone is enough.
    """
    if "JAX_NUM_PROCESSES" not in os.environ:
        return
    given = os.environ.get
    jax.distributed.initialize(
        given("JAX_COORDINATOR_ADDRESS"),
        int(os.environ["JAX_NUM_PROCESSES"]),
        int(os.environ["JAX_PROCESS_ID"]) if given("JAX_PROCESS_ID") else None,
    )


def mesh() -> Mesh:
    """All devices of all hosts, along the one axis."""
    return Mesh(np.array(jax.devices()), (AXIS,))


def replicated() -> NamedSharding:
    """Where the state lives: a copy on every device."""
    return NamedSharding(mesh(), P())


def parallel_step(body: Callable[..., Any]) -> Callable[..., Any]:
    """The step ``(state, batch)`` over all devices; the state is donated.

    Args:
        body: of `training.make_step`.
    """
    if jax.process_count() > 1:
        return sharded_step(body)
    return jax.pmap(
        body, axis_name=AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=0
    )


def sharded_step(body: Callable[..., Any]) -> Callable[..., Any]:
    """The same by `jax.shard_map`, which checks that every copy stays the same."""
    mapped = jax.shard_map(
        body, mesh=mesh(), in_specs=(P(), P(AXIS)), out_specs=P(), check_vma=True
    )
    return jax.jit(mapped, donate_argnums=0)


def check_batch(batch_size: int, accumulate: int = 1) -> None:
    """Requires that devices, and their parts, get equal shares of a batch."""
    parts = jax.device_count() * accumulate
    if batch_size % parts:
        raise ConfigError(
            f"train.batch_size is {batch_size}, which {jax.device_count()} device(s) "
            f"with train.accumulate={accumulate} cannot share evenly; make it a "
            f"multiple of {parts}"
        )


def share(batch: dict[str, np.ndarray]) -> dict[str, Any]:
    """Splits this host's part of a batch among the devices.

    Returns:
        Arrays ``(devices, b / devices, ...)`` for `jax.pmap`, or global ones for
        several hosts.
    """
    if jax.process_count() > 1:
        place = NamedSharding(mesh(), P(AXIS))
        return {
            k: jax.make_array_from_process_local_data(place, v)
            for k, v in batch.items()
        }
    n = jax.local_device_count()
    return {k: v.reshape(n, len(v) // n, *v.shape[1:]) for k, v in batch.items()}


def is_first() -> bool:
    """Whether this process writes what is written once."""
    return jax.process_index() == 0
