"""Batches of windows, cut from prepared volumes with grain."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grain
import numpy as np

from cervjax.data.cache import DataError, Volume

_KEPT_OPEN = 512  # memory maps of a process
_KEPT_VOXELS = 128  # lists of voxels: 0.3 MB each


def whole_volumes(
    volumes: Sequence[Volume],
) -> Iterator[tuple[Volume, np.ndarray, np.ndarray]]:
    """Gives each volume, its image and its labels, read-only and memory-mapped."""
    for volume in volumes:
        yield volume, _mapped(volume.image), _mapped(volume.labels)


@dataclass(frozen=True)
class Cut:
    """How windows are cut from a volume.

    Windows begin anywhere from 0 to volume - window, every place equally likely on each
    axis (NiftyNet); a ``foreground_share`` of them lies instead about a random voxel of
    a random muscle among those in the volume, as far as its borders allow.

    Attributes:
        window: voxels along x, y, z.
        margin: voxels more on every side, for an augmentation to draw from; outside the
            volume the image is its nearest voxel and the label is 0.
        foreground_share: from 0 to 1.

    Raises:
        DataError: a value is out of its range.
    """

    window: tuple[int, int, int]
    margin: tuple[int, int, int] = (0, 0, 0)
    foreground_share: float = 0.0

    def __post_init__(self):
        """Checks the ranges."""
        if min(self.window) < 1 or min(self.margin) < 0:
            raise DataError(
                "a window must have at least 1 voxel along each axis and margins must "
                f"not be negative, got {self.window} and {self.margin}"
            )
        if not 0 <= self.foreground_share <= 1:
            raise DataError(
                f"the foreground share must be from 0 to 1, got {self.foreground_share}"
            )

    def __call__(
        self, volume: Volume, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """One window and its margin: ``image`` (x, y, z, 2) and ``labels``."""
        size, shape = np.array(self.window), np.array(volume.shape)
        if rng.random() < self.foreground_share:
            by_label = _voxels(volume.voxels)
            at = rng.choice(by_label[rng.integers(len(by_label))])
            start = np.clip(at - size // 2, 0, shape - size)
        else:
            start = rng.integers(0, shape - size, endpoint=True)
        first, stop = start - self.margin, start + size + self.margin
        box = tuple(map(slice, np.maximum(first, 0), np.minimum(stop, shape)))
        before, after = np.maximum(-first, 0), np.maximum(stop - shape, 0)
        outside = list(zip(before, after, strict=True))
        image = np.pad(_mapped(volume.image)[box], [*outside, (0, 0)], mode="edge")
        return {"image": image, "labels": np.pad(_mapped(volume.labels)[box], outside)}


def windows(
    volumes: Sequence[Volume],
    cut: Cut,
    *,
    batch_size: int,
    seed: int,
    samples_per_volume: int = 3,
    shard: tuple[int, int] = (0, 1),
    workers: int = 0,
    buffer: int = 4,
) -> grain.IterDataset:
    """Endless batches of random windows; which ones depends on the seed alone.

    An epoch gives ``samples_per_volume`` windows of each volume in a random order.
    Iterators have ``get_state`` and ``set_state``, which resume to the bit with the
    same arguments; close them.

    Args:
        volumes: from `cache_volumes`.
        cut: size and place of the windows.
        batch_size: windows in a batch of this shard.
        seed: of the order and the places.
        samples_per_volume: windows of one volume in an epoch.
        shard: (index, number): takes every number-th window of the common order.
        workers: processes that cut windows, started by ``spawn``, which need absl's
            flags parsed and a main module that can be imported; 0 for two threads,
            which were the faster (17 against 137 ms for a batch of two windows of
            176x176x40 with two cores). Does not change the batches.
        buffer: batches read ahead.

    Returns:
        Batches ``{"image": float32 (b, x + 2 mx, y + 2 my, z + 2 mz, 2), "labels":
        uint8 (b, x + 2 mx, y + 2 my, z + 2 mz)}``, with m the margin.

    Raises:
        DataError: there is no volume, or one is smaller than the window.
        ValueError: an argument is out of its range.
    """
    _check_sizes(volumes, cut.window)
    if not 0 <= shard[0] < shard[1]:
        raise ValueError(f"a shard's index must be below their number, got {shard}")
    if min(batch_size, samples_per_volume, buffer) < 1 or workers < 0:
        raise ValueError(
            "batch size, samples per volume and buffer must be at least 1, workers "
            f"at least 0; got {batch_size=}, {samples_per_volume=}, {buffer=}, "
            f"{workers=}"
        )
    # Drawn before they are dealt to shards: the random numbers belong to the place in
    # the common order, or all shards would draw the same.
    order = [v for v in volumes for _ in range(samples_per_volume)]
    drawn = grain.MapDataset.source(order).seed(seed).shuffle().repeat().random_map(cut)
    batches = drawn[shard[0] :: shard[1]].batch(batch_size, drop_remainder=True)
    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=buffer)
    dataset = batches.to_iter_dataset(options)
    if workers:
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(workers))
    return dataset


def _check_sizes(volumes: Sequence[Volume], window: tuple[int, int, int]) -> None:
    if not volumes:
        raise DataError("windows need at least one volume")
    small = [
        v for v in volumes if any(n < w for n, w in zip(v.shape, window, strict=True))
    ]
    if small:
        names = ", ".join(f"{v.name} {v.shape}" for v in small[:8])
        shapes = [v.shape for v in volumes]
        least = [min(sizes) // 8 * 8 for sizes in zip(*shapes, strict=True)]
        fitting = tuple(min(n, w) for n, w in zip(least, window, strict=True))
        raise DataError(
            f"{len(small)} padded volume(s) are smaller than the window {window}: "
            f"{names}; choose a smaller window, at most {fitting} "
            "(config.data.window), or more padding"
        )


# Opened once in each process: windows of one volume are cut again and again. The files
# of an entry never change (its name is the hash of what it is made from).
@functools.lru_cache(_KEPT_OPEN)
def _mapped(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r")


@functools.lru_cache(_KEPT_VOXELS)
def _voxels(path: Path) -> list[np.ndarray]:
    """Some voxels of each label that occurs."""
    with np.load(path) as content:
        return [content[key] for key in content.files if len(content[key])]
