"""How much memory the network needs, and how much there is where it runs."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import psutil

from cervjax.inference.tiling import bucket_shape
from cervjax.inference.types import Settings, Size
from cervjax.model.card import Tta
from cervjax.model.dense_vnet import SIZE_MULTIPLE

WHOLE_BYTES_PER_VOXEL = {1: 120, 2: 145, 4: 180}
"""Device memory of whole mode for as many versions of the volume;
`tests/inference/test_memory.py` holds it to the compiler's."""
_LEAST_BYTES_PER_VOXEL = 60
"""Volumes that the host holds in any mode: input, masks, logits, labels, splines."""


def device() -> Any:
    """Where the network runs: where JAX puts what nobody placed."""
    (found,) = jnp.zeros(()).devices()
    return found


def device_name() -> str:
    """The device's kind; of a CPU the number of cores."""
    found = device()
    threads = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    return f"cpu ({threads} cores)" if found.platform == "cpu" else found.device_kind


def whole_memory_bytes(shape: tuple[int, ...], tta: Tta = 1) -> float:
    """About what whole mode takes for a padded volume, beyond the volume itself."""
    return _window_bytes(bucket_shape(shape), tta)


def _window_bytes(window: tuple[int, ...], tta: Tta) -> float:
    return float(np.prod(window)) * WHOLE_BYTES_PER_VOXEL[tta]


def host_bytes(root: Path = Path("/")) -> tuple[float, float]:
    """Memory of this machine, or of the container that we are in: in all, and free."""
    memory = psutil.virtual_memory()
    total, free = float(memory.total), float(memory.available)
    for limit, used in _container_limits(root):
        total, free = min(total, limit), min(free, max(limit - used, 0.0))
    return total, free


def _container_limits(root: Path) -> Iterator[tuple[float, float]]:
    """Limit and use, in bytes, of each control group that holds this process.

    Versions 1 and 2 of Linux's control groups, the process's own and all above it: a
    limit may be on any. Inside a container its path is often that of the host, which
    is not to be seen there, and only the top is.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top, version = root / "sys/fs/cgroup", 2
        elif "memory" in controllers.split(","):
            top, version = root / "sys/fs/cgroup/memory", 1
        else:
            continue
        group = top / path.lstrip("/")
        while group.is_relative_to(top):
            yield from _limit_of(group, version)
            group = group.parent


def _limit_of(group: Path, version: int) -> Iterator[tuple[float, float]]:
    """Limit and use of a control group; nothing if it has none.

    Files that the kernel merely caches count as used there, but are dropped when memory
    is wanted: they are taken off.
    """
    names = ("memory.max", "memory.current", "inactive_file")
    if version == 1:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        names += ("total_inactive_file",)
    try:
        limit = float(int((group / names[0]).read_text()))  # "max" is no number
        used = float(int((group / names[1]).read_text()))
        stat = (group / "memory.stat").read_text()
    except (OSError, ValueError):
        return
    cached = dict(line.split()[:2] for line in stat.splitlines()).get(names[2], 0)
    yield limit, used - float(cached)


def network_bytes(settings: Settings) -> float:
    """What the network may take where it runs."""
    if settings.max_memory_gb is not None:
        return settings.max_memory_gb * 1e9
    stats = None if device().platform == "cpu" else device().memory_stats()
    if stats and "bytes_limit" in stats:
        return 0.9 * (stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    return 0.9 * host_bytes()[1]


def check_ever_fits(padded: Sequence[int], settings: Settings) -> None:
    """Raises ValueError for a volume too large for this machine's memory in all."""
    limit = settings.max_memory_gb
    total = host_bytes()[0] if limit is None else limit * 1e9
    _check(padded, total, "in all" if limit is None else "allowed")


def within_memory(
    padded: tuple[int, ...], settings: Settings
) -> tuple[Settings, list[str]]:
    """Falls back to a sliding window before memory runs out.

    Returns:
        The settings to run, and warnings.

    Raises:
        ValueError: even that would not fit.
    """
    free = network_bytes(settings)
    given = settings.max_memory_gb is not None
    on_host = free if given else 0.9 * host_bytes()[1]
    _check(padded, on_host, "allowed" if given else "free")
    need = whole_memory_bytes(padded, settings.tta)
    if settings.mode != "whole" or need <= free:
        return settings, []
    # Weights trained on whole volumes count levels along the whole height.
    high: Size = (*settings.window[:2], whole_height(padded))
    fits = _window_bytes(high, settings.tta) <= free
    window = high if fits else settings.window
    reason = (
        f"whole mode would need {need / 1e9:.1f} GB, {free / 1e9:.1f} GB are "
        f"{'allowed' if given else 'free'}: "
        f"a sliding window of {window} used instead"
    )
    return replace(settings, mode="sliding_window", window=window), [reason]


def whole_height(size: tuple[int, ...]) -> int:
    """Slices of a window that is as high as a volume."""
    return -(-size[2] // SIZE_MULTIPLE) * SIZE_MULTIPLE


def _check(padded: Sequence[int], there_is: float, which: str) -> None:
    least = float(np.prod(padded)) * _LEAST_BYTES_PER_VOXEL
    if least > there_is:
        raise ValueError(
            f"the scan is {tuple(padded)} voxels at the network's spacing and needs "
            f"{least / 1e9:.1f} GB, there are {there_is / 1e9:.1f} GB {which}; crop "
            "it, or look at the voxel size in its header"
        )
