"""A tiny data set, config and network for the tests of training runs.

Run as a program it trains in a process of its own, to be killed by test_kill.py.
"""

import json
import sys
import warnings
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

sys.path.insert(0, str(Path(__file__).parents[1]))

from conftest import SMALL, save_nifti  # noqa: E402

from cervjax.anatomy import MUSCLES  # noqa: E402
from cervjax.model.weights import load_weights  # noqa: E402
from cervjax.training import run  # noqa: E402
from cervjax.training.checkpoint import open_checkpoints  # noqa: E402
from cervjax.training.config import load_config  # noqa: E402
from cervjax.training.loop import train  # noqa: E402


def write_cohort(root: Path) -> Path:
    """Three small scans with all muscles, of three participants."""
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    for i in range(3):
        rng = np.random.default_rng(i)
        labels = np.zeros((36, 32, 16), np.uint8)
        for m in MUSCLES:
            x = 20 if m.side == "right" else 4
            k = (m.label - 1) // 2
            labels[x : x + 10, 3 + 4 * k : 6 + 4 * k, 4:12] = m.label
        body = rng.uniform(50, 150, labels.shape).astype(np.float32)
        in_phase = body + 40 * (labels > 0) * (1 + labels % 3)
        name = f"sub-{i + 1:02d}"
        save_nifti(root / name / f"{name}_inphase.nii.gz", in_phase, affine)
        save_nifti(root / name / f"{name}_outphase.nii.gz", 0.8 * in_phase, affine)
        save_nifti(root / name / f"{name}_dseg.nii.gz", labels, affine)
    return root


def tiny_config(root: Path) -> ConfigDict:
    """The CPU's config, for few steps of a small network on small windows."""
    config = load_config("dixon_cpu")
    config.data.root = str(root)
    config.data.cache = str(root / ".cache")
    config.data.num_validation = 1
    config.data.spacing_mm = (2.0, 2.0, 3.0)
    config.data.padding = (6, 4, 4)
    config.data.window = (16, 16, 8)
    config.augment.margin = (2, 2, 1)
    config.augment.low_resolution = (0.0, 0.0, 0.0)  # takes long to compile
    config.optimizer.schedule = "constant"
    config.optimizer.warmup_steps = 2
    config.train.num_steps = 8
    config.train.log_every = 1
    config.train.checkpoint_every = 3
    config.train.eval_every = 4
    config.model.update({k: getattr(SMALL, k) for k in ARCHITECTURE})
    return config


ARCHITECTURE = ("units", "growth", "skips", "stem", "downs")


def dice_of_parameters(network, variables, volumes, way):
    """An evaluation that is quick: a function of every parameter."""
    total = sum(float(np.abs(v).mean()) for v in jax.tree.leaves(variables))
    shape = tuple(n - 2 * p for n, p in zip(volumes[0].shape, way.padding, strict=True))
    return np.full((1, 14), total % 1), np.zeros(shape, np.uint8)


class Lines(list):
    """A log that does something when a line starts with a text."""

    def __init__(self, text=None, then=None):
        super().__init__()
        self.text, self.then = text, then

    def __call__(self, line):
        self.append(line)
        if self.text and line.startswith(self.text):
            self.then()


class Stopped(Exception):
    pass


def stop():
    raise Stopped


def state_of(workdir):
    """All arrays of the latest checkpoint, the table, and the exported weights."""
    with (
        open_checkpoints(workdir / "checkpoints") as checkpointer,
        warnings.catch_warnings(action="ignore"),  # of arrays placed as saved
    ):
        step = checkpointer.latest.step
        state = checkpointer.load_checkpointables(step, {"state": None})["state"]
    arrays = {k: np.asarray(v) for k, v in state.items()}
    digest = load_weights(workdir).sha256  # of tensors and card
    return step, arrays, (workdir / "metrics.csv").read_text(), digest


def assert_same(one, other):
    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys()
    for name, value in one[1].items():
        np.testing.assert_array_equal(value, other[1][name], err_msg=name)
    assert one[2:] == other[2:]


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    run.dice_of_scans = dice_of_parameters
    config = ConfigDict(json.loads(Path(sys.argv[1]).read_text()))
    sys.exit(train(config, Path(sys.argv[2])))
