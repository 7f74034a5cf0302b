from dataclasses import replace

import jax
import numpy as np
import pytest
from conftest import network_variables

from cervjax.inference import memory
from cervjax.inference.memory import (
    device_name,
    host_bytes,
    whole_memory_bytes,
    within_memory,
)
from cervjax.inference.stitching import _labels_of
from cervjax.inference.types import Settings
from cervjax.model.dense_vnet import DenseVNet


@pytest.mark.parametrize("tta", [1, 4])
def test_memory_estimate_is_the_compilers(tta):
    shape = (96, 64, 32)
    example = jax.ShapeDtypeStruct((1, *shape, 2), np.float32)
    lowered = _labels_of.lower(DenseVNet(), network_variables(), example, tta=tta)
    analysis = lowered.compile().memory_analysis()
    if analysis is None or not analysis.temp_size_in_bytes:
        pytest.skip("this backend gives no memory analysis")
    need = analysis.temp_size_in_bytes + analysis.output_size_in_bytes
    estimate = whole_memory_bytes(shape, tta)
    assert 0.5 * estimate < need < estimate


def test_the_device_named_is_the_one_used():
    second = jax.devices()[1]
    with jax.default_device(second):
        assert memory.device() == second
    assert memory.device() == jax.devices()[0]
    assert device_name().startswith("cpu (")


class Card:
    """An accelerator with 10 GB, 4 of them taken."""

    platform = "gpu"

    def memory_stats(self):
        return {"bytes_limit": 10e9, "bytes_in_use": 4e9}


def test_memory_is_judged_where_the_network_runs(monkeypatch):
    monkeypatch.setattr(memory, "device", Card)
    assert memory.network_bytes(Settings("whole")) == pytest.approx(0.9 * 6e9)
    assert memory.network_bytes(Settings("whole", max_memory_gb=2)) == 2e9


def test_a_containers_limit_counts(tmp_path):
    total, free = host_bytes(tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("5\n")
    assert host_bytes(tmp_path)[0] == total
    (tmp_path / "memory.max").write_text("3000000\n")
    assert host_bytes(tmp_path) == (3_000_000, 2_999_995)
    (tmp_path / "memory.max").unlink()
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory/memory.limit_in_bytes").write_text("2000\n")
    (tmp_path / "memory/memory.usage_in_bytes").write_text("2500\n")
    assert host_bytes(tmp_path) == (2000, 0) and free > 0


def test_a_fall_back_is_a_window_of_the_whole_height():
    how = Settings("whole", tta=2, snap_slice_ends=True)
    assert within_memory((400, 300, 61), how) == (how, [])
    need = whole_memory_bytes((400, 300, 61), 2) / 1e9
    short = replace(how, max_memory_gb=0.99 * need)
    found, (warning,) = within_memory((400, 300, 61), short)
    assert found == replace(short, mode="sliding_window", window=(360, 240, 64))
    assert "GB are allowed" in warning
    with pytest.raises(ValueError, match="GB allowed; crop"):
        within_memory((400, 300, 61), replace(how, max_memory_gb=0.1))
    with pytest.raises(ValueError, match="GB allowed; crop"):
        memory.check_ever_fits((400, 300, 61), replace(how, max_memory_gb=0.1))
