import gc
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import SMALL, network_variables

from cervjax.inference import programs
from cervjax.inference.programs import MOST, program
from cervjax.inference.segment import segment_volume
from cervjax.inference.stitching import Forward
from cervjax.inference.tiling import bucket_shape
from cervjax.inference.types import Settings
from cervjax.model.dense_vnet import DenseVNet

MAPS = Path("/proc/self/maps")


@pytest.fixture(autouse=True)
def none_kept(monkeypatch):
    monkeypatch.setattr(programs, "_kept", type(programs._kept)())


def times(x, *, by):
    return x * by


def other(x, *, by):
    return x + by


def run(function, size, by=2):
    """What comes out, and whether it was compiled."""
    compiled = []
    x = (jnp.ones(size),)
    found = program(function, x, {"by": by}, lambda: compiled.append(size))(*x)
    assert found.shape == (size,) and found[0] == (by if function is times else 1 + by)
    return bool(compiled)


def test_the_oldest_of_a_kind_goes():
    assert all(run(times, size) for size in range(1, MOST + 1))
    assert not run(times, 1)  # used last now
    assert run(other, 1)  # of another kind: takes no place
    assert not any(run(times, size) for size in range(2, MOST + 1))
    assert not run(times, 1)
    assert run(times, 1, by=3)  # another program; the one of 2 goes
    assert not run(times, 1) and run(times, 2)
    assert not run(other, 1)


@pytest.mark.slow
@pytest.mark.skipif(not MAPS.exists(), reason="counts the memory maps of Linux")
def test_two_hundred_sizes_keep_few_memory_maps(monkeypatch):
    """Each has a bucket of its own here, as if no two scans were alike."""
    monkeypatch.setattr("cervjax.inference.programs.MOST", 2)
    counted = []
    for size in range(1, 201):
        x = (np.ones((size, 3, 5), np.float32),)
        static = {"by": 2}
        program(several, x, static)(*x)
        gc.collect() if size % 50 == 0 else None
        counted.append(len(MAPS.read_text().splitlines()))
    assert counted[-1] < counted[5] + 100


def several(x, *, by):
    """Enough for maps to show."""
    for _ in range(by):
        x = jnp.sin(x) @ jnp.ones((5, 5), np.float32)
    return x


@pytest.mark.slow
@pytest.mark.skipif(not MAPS.exists(), reason="counts the memory maps of Linux")
def test_a_cohort_of_many_sizes_keeps_few_programs():
    network, variables = DenseVNet(SMALL), network_variables(5, SMALL)
    forward = Forward(network, variables)
    rng = np.random.default_rng(0)
    sizes = rng.integers((24, 33, 9), (65, 65, 25), (200, 3)).tolist()
    counted, buckets = [], set()
    for i, (x, y, z) in enumerate(sorted(sizes, key=bucket_shape)):
        image = rng.normal(size=(x, y, z, 2)).astype(np.float32)
        shape = (x, y, z) if i % 25 else (x + 1, y, z)  # some are interpolated
        found = segment_volume(forward, image, Settings("whole"), shape=shape)
        assert found.labels.shape == shape
        buckets.add(bucket_shape((x, y, z)))
        counted.append(len(MAPS.read_text().splitlines()))
        assert len(programs._kept) <= 2 * MOST
    assert len(buckets) == 2
    # As users compile them, programs of this network have up to 500 maps each.
    assert max(counted) < counted[0] + 2 * MOST * 500
