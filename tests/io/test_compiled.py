"""Compiled programs on disk: what is damaged or exchanged is not run."""

import os
import shutil
import subprocess
import sys

import pytest

from cervjax.io import compiled

SCRIPT = """
import shutil, sys
from pathlib import Path
import jax, jax.numpy as jnp
from cervjax.io.compiled import stamp_new, tend

folder = Path(sys.argv[1])
jax.config.update("jax_compilation_cache_dir", str(folder))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

def run():
    jax.clear_caches()
    def f(x):
        return x * 2
    plus = jax.jit(lambda x: x @ x + 1).lower(x).compile()(x)
    minus = jax.jit(lambda x: x @ x - 1).lower(x).compile()(x)
    return float(plus[0, 0]), float(minus[0, 0])

x = jnp.ones((3, 3))
tend(folder, is_ours=True)
before = set(folder.glob("*lambda*-cache"))
assert run() == (4, 2)
stamp_new()
one, other = sorted(set(folder.glob("*lambda*-cache")) - before)
shutil.copy(one, other)
tended = sys.argv[2] == "tended"
if tended:
    tend(folder, is_ours=True)
    assert not other.exists() and one.exists()
assert (run() == (4, 2)) == tended, run()
assert other.read_bytes() != one.read_bytes() or not tended
"""


@pytest.mark.parametrize("how", ["tended", "untended"])
def test_a_program_under_anothers_name_is_not_run(tmp_path, how):
    """As JAX runs it: the untended folder gives wrong numbers."""
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), how]
    env = os.environ | {"JAX_COMPILATION_CACHE_DIR": "", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "_left_alone", {tmp_path: frozenset()})
    for name in "abc":
        (tmp_path / f"{name}-cache").write_bytes(name.encode() * 9)
    compiled.stamp_new()
    return tmp_path


@pytest.mark.parametrize("content", [b"", b"a" * 8, b"a" * 8 + b"b", b"garbage"])
def test_damaged_entries_are_taken_away(folder, content):
    (folder / "a-cache").write_bytes(content)
    compiled.tend(folder, is_ours=False)
    assert sorted(p.name for p in folder.glob("*-cache")) == ["b-cache", "c-cache"]


def test_an_entry_with_its_stamp_under_another_name_goes(folder):
    shutil.copy(folder / "a-cache", folder / "b-cache")
    shutil.copy(folder / "a-cache.sha256", folder / "b-cache.sha256")
    compiled.tend(folder, is_ours=True)
    assert sorted(p.name for p in folder.glob("*-cache")) == ["a-cache", "c-cache"]


@pytest.mark.parametrize("is_ours", [True, False])
def test_entries_of_other_programs_stay_in_a_shared_folder(folder, is_ours):
    (folder / "d-cache").write_bytes(b"of a killed run, or of another program")
    compiled.tend(folder, is_ours=is_ours)
    compiled.stamp_new()
    assert (folder / "d-cache").exists() == (not is_ours)
    assert not (folder / "d-cache.sha256").exists()
