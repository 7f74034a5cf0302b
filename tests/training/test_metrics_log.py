"""The table of a run, and its lines of progress."""

import numpy as np
import pytest

from cervjax.training.metrics_log import Progress, open_table


def test_the_table_forgets_what_a_resumed_run_will_write_again(tmp_path):
    table = open_table(tmp_path, 0)
    for step in (1, 2, 3):
        table.append({"step": step, "split": "windows", "loss": step / 7})
    with open(tmp_path / "metrics.csv", "a") as stream:
        stream.write("4,windows,0.5")  # cut by a kill
    again = open_table(tmp_path, 2)
    assert [r["step"] for r in again.rows] == ["1", "2"]
    assert (tmp_path / "metrics.csv").read_text().count("\n") == 3
    steps, loss = again.series("windows", "loss")
    np.testing.assert_allclose(loss, steps / 7, rtol=1e-8)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def batches(self, seconds):
        """Batches that so many seconds are waited for."""
        for wait in seconds:
            self.now += wait
            yield "batch"


def test_waiting_is_counted_once_and_evaluation_not_at_all():
    """The first batch is long in coming: scans are read, processes started."""
    clock = Clock()
    progress = Progress(0, 4, 2, clock)
    batches = clock.batches([3.0, 1.0])
    progress.waiting_for(batches)
    clock.now += 1.0  # the step itself
    text, numbers = progress.line(1, {"loss": 1.0, "dice_mean": 0.5})
    assert numbers == {"windows_per_second": 2 / 4, "waiting_share": 3 / 4}
    assert "waiting for data 75.0 %" in text
    progress.waiting_for(batches)
    clock.now += 1.0
    with progress.paused():
        clock.now += 100.0
    _, numbers = progress.line(2, {"loss": 1.0, "dice_mean": 0.5})
    assert numbers["waiting_share"] == pytest.approx(1 / 2)
    assert numbers["windows_per_second"] == pytest.approx(2 / 2)


def test_the_programs_compilation_is_no_training_time():
    clock, said = Clock(), []
    progress = Progress(0, 10, 1, clock)
    for seconds in (90.0, 1.0):
        with progress.step(said.append):
            clock.now += seconds
    clock.now += 1.0  # the first step's own
    text, numbers = progress.line(2, {"loss": 1.0, "dice_mean": 0.5})
    assert numbers["windows_per_second"] == pytest.approx(1)
    assert len(said) == 1 and said[0].startswith("compiling the training step")
    clock.now += 478.0  # 1 min a step from here
    text, _ = progress.line(10 - 2, {"loss": 1.0, "dice_mean": 0.5})
    assert text.endswith("left 0 h 02 min")
