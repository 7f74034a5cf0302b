"""The real command in a process of its own, killed twice, once while it saves."""

import os
import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest
from train_tiny import tiny_config, write_cohort

from cervjax.model.weights import load_weights
from cervjax.training.checkpoint import open_checkpoints

ROOT = Path(__file__).parents[2]


def content(workdir):
    """Arrays of the latest checkpoint, and table and digest of the weights."""
    with (
        open_checkpoints(workdir / "checkpoints") as checkpointer,
        warnings.catch_warnings(action="ignore"),  # of arrays placed as saved
    ):
        step = checkpointer.latest.step
        state = checkpointer.load_checkpointables(step, {"state": None})["state"]
    ends = (workdir / "metrics.csv").read_text(), load_weights(workdir).sha256
    return step, {k: np.asarray(v) for k, v in state.items()}, ends


@pytest.mark.slow
def test_kill_9_at_any_moment(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(tiny_config(write_cohort(tmp_path / "data")).to_json())
    script = str(Path(__file__).with_name("train_tiny.py"))
    command = [sys.executable, script, str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    whole, killed = (tmp_path / name / "run" for name in ("whole", "killed"))
    subprocess.run([*command, str(whole)], env=environment, check=True)
    rng = random.Random(0)
    for attempt in range(2):
        before = set((killed / "checkpoints").glob("*"))
        process = subprocess.Popen([*command, str(killed)], env=environment)
        deadline = time.time() + 200
        while process.poll() is None and time.time() < deadline:
            fresh = set((killed / "checkpoints").glob("*")) - before
            if fresh and (attempt == 0 or rng.random() < 0.05):
                break  # in the first case a save has just begun
            time.sleep(0.002)
        assert process.poll() is None, "ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run([*command, str(killed)], env=environment, check=True)
    (step, arrays, ends), (other_step, others, other_ends) = map(
        content, (whole, killed)
    )
    assert step == other_step == 8 and ends == other_ends
    jax.tree.map(np.testing.assert_array_equal, arrays, others)
