"""Trains with a config from a JSON file; run, and killed, by test_fitting.py."""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from cervjax.training import config as experiment
from cervjax.training import loop as fitting


def stand_ins(patch: pytest.MonkeyPatch) -> None:
    """What is quick to compile: the textbook convolution, and an evaluation of none.

    The Dice that it makes up is a function of every parameter.
    """
    make_model = experiment.make_model

    def evaluate(variables, volumes, padding):
        total = sum(float(np.abs(v).mean()) for v in jax.tree.leaves(variables))
        shape = tuple(n - 2 * p for n, p in zip(volumes[0].shape, padding, strict=True))
        return np.full((1, 14), total % 1), np.zeros(shape, np.uint8)

    patch.setattr(
        experiment,
        "make_model",
        lambda config: make_model(config).clone(lowering="plain"),
    )
    patch.setattr(fitting, "evaluate", evaluate)
    patch.setattr(fitting, "augmentation_seconds", lambda config, batch: 0.0)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    stand_ins(pytest.MonkeyPatch())
    config = ConfigDict(json.loads(Path(sys.argv[1]).read_text()))
    sys.exit(fitting.run(config, Path(sys.argv[2])))
