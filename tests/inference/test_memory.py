from dataclasses import replace
from functools import partial

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


@pytest.mark.slow
@pytest.mark.parametrize("tta", [1, 4])
def test_memory_estimate_is_the_compilers(tta):
    shape = (96, 64, 32)
    example = jax.ShapeDtypeStruct((1, *shape, 2), np.float32)
    how = {"network": DenseVNet(), "tta": tta, "each": tta > 1}  # as scans are run
    labels = jax.jit(partial(_labels_of, **how))
    lowered = labels.lower(network_variables(), example)
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


def write_group(folder, limit, used, cached, *, version=2):
    """A control group's files."""
    names = ("memory.max", "memory.current", "inactive_file")
    if version == 1:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        names += ("total_inactive_file",)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{names[2]} {cached}\n")


def write_path(root, line):
    """Where the process's control group is."""
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/self/cgroup").write_text(line)


def test_a_containers_limit_counts(tmp_path):
    total, _ = host_bytes(tmp_path)
    write_path(tmp_path, "0::/\n")
    write_group(tmp_path / "sys/fs/cgroup", "max", 5, 0)
    assert host_bytes(tmp_path)[0] == total
    write_group(tmp_path / "sys/fs/cgroup", 3_000_000, 5, 0)
    assert host_bytes(tmp_path) == (3_000_000, 2_999_995)
    write_group(tmp_path / "sys/fs/cgroup", 3_000_000, 4_000_000, 0)
    assert host_bytes(tmp_path) == (3_000_000, 0)


def test_cached_files_are_not_used_memory(tmp_path):
    write_path(tmp_path, "0::/\n")
    write_group(tmp_path / "sys/fs/cgroup", 3_000_000, 2_900_000, 2_500_000)
    assert host_bytes(tmp_path) == (3_000_000, 2_600_000)


@pytest.mark.parametrize("version", [1, 2])
def test_a_limit_on_any_group_above_the_process_counts(tmp_path, version):
    top = tmp_path / "sys/fs/cgroup" / ("memory" if version == 1 else "")
    write_path(tmp_path, "4:memory:/job/step\n" if version == 1 else "0::/job/step\n")
    write_group(top / "job/step", 9_000, 100, 0, version=version)
    assert host_bytes(tmp_path) == (9_000, 8_900)
    write_group(top / "job", 5_000, 300, 0, version=version)
    assert host_bytes(tmp_path) == (5_000, 4_700)


def test_a_path_of_the_host_leads_to_the_containers_top(tmp_path):
    write_path(tmp_path, "4:cpu:/x\n3:memory:/docker/0123\n")
    top = tmp_path / "sys/fs/cgroup/memory"
    write_group(top, 2_000, 500, 0, version=1)
    assert host_bytes(tmp_path) == (2_000, 1_500)


def test_an_accelerator_spares_the_host_nothing(monkeypatch):
    """Volumes lie on the host whatever the network runs on."""
    monkeypatch.setattr(memory, "device", Card)
    monkeypatch.setattr(memory, "host_bytes", lambda: (1e9, 1e8))
    with pytest.raises(ValueError, match="there are 0.1 GB free"):
        within_memory((400, 300, 61), Settings("whole"))


def test_a_fall_back_is_a_window_of_the_whole_height():
    how = Settings("whole", tta=2, levels_rule="none")
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
