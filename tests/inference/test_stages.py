import time

import jax
import numpy as np
from conftest import SMALL, network_variables

from cervjax.inference.segment import segment_volume
from cervjax.inference.stages import Stopwatch
from cervjax.inference.stitching import Forward
from cervjax.inference.types import Settings
from cervjax.model.dense_vnet import DenseVNet


def test_a_stage_lasts_until_the_next_one(monkeypatch):
    clock = iter([10.0, 11.0, 13.5])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    told = []
    watch = Stopwatch(told.append)
    watch.begin("read")
    watch.begin("prepare")
    assert told == ["read", "prepare"]
    assert watch.stop() == {"read": 1.0, "prepare": 2.5}


def test_a_program_is_compiled_once_before_it_runs():
    """The call finds what was compiled ahead, and so does the next scan."""
    compiled, when_told = [], []

    def count(event, seconds, **_):
        if event.endswith("backend_compile_duration"):
            compiled.append(seconds)

    variables = network_variables(5, SMALL)
    forward = Forward(
        DenseVNet(SMALL), variables, on_compiled=lambda: when_told.append(len(compiled))
    )
    image = np.random.default_rng(0).normal(size=(32, 16, 24, 2)).astype(np.float32)
    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        for _ in range(2):
            segment_volume(forward, image, Settings("whole"))
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
    assert when_told == [len(compiled)] * 2 and compiled
