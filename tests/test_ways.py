"""The drawings of the architecture page are the ways that are really gone."""

import inspect
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import save_pair

from cervjax.cli.main import main
from cervjax.inference import programs

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "docs"))
sys.path.insert(0, str(Path(__file__).resolve().parent / "training"))
from ways import BATCH, SCAN, function_of  # noqa: E402


def called(run: Callable[[], object], steps: tuple[str, ...]) -> list[str]:
    """The steps that a run takes, in the order of their first calls."""
    codes = {inspect.unwrap(function_of(step)).__code__: step for step in steps}
    found: list[str] = []

    def note(frame, event, argument):
        step = codes.get(frame.f_code) if event == "call" else None
        if step and step not in found:
            found.append(step)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return found


def test_the_way_of_a_scan(two_blobs, threshold_weights, tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "_kept", OrderedDict())  # the network is traced anew
    save_pair(tmp_path / "in", two_blobs)
    out = str(tmp_path / "out")
    line = ["infer", str(tmp_path / "in"), "-o", out, "--weights"]
    run = [*line, str(threshold_weights)]
    assert called(lambda: main(run), SCAN) == [*SCAN]


@pytest.mark.slow
def test_the_way_of_a_batch(tmp_path, monkeypatch):
    from train_tiny import tiny_config, write_cohort

    from cervjax.training.loop import train

    config = tiny_config(write_cohort(tmp_path / "scans"))
    config.train.num_steps = 2
    config.train.eval_every = config.train.checkpoint_every = 2
    workdir = tmp_path / "run"
    quiet = lambda text: None  # noqa: E731
    assert called(lambda: train(config, workdir, log=quiet), BATCH) == [*BATCH]


def test_a_step_that_is_not_there_is_found():
    with pytest.raises(ValueError, match="no function io.nifti.gone"):
        function_of("io.nifti.gone")
    assert called(lambda: None, SCAN) == []
