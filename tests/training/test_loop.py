import csv
import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import jax
import nibabel as nib
import numpy as np
import pytest
from conftest import save_nifti
from PIL import Image
from safetensors.numpy import load_file
from train_tiny import stand_ins

from cervjax.anatomy import MUSCLES
from cervjax.inference.types import Settings
from cervjax.model.weights import load_weights, save_weights
from cervjax.training import loop as fitting
from cervjax.training.checkpoint import open_checkpoints
from cervjax.training.config import make_augment
from cervjax.training.metrics_log import COLUMNS, Table

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # configs belong to the checkout, not to the package

from configs import dixon, dixon_cpu, dixon_niftynet, overfit, shipped_levels  # noqa: E402

pytestmark = pytest.mark.xdist_group("fitting")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Three small scans with all muscles, of three participants."""
    root = tmp_path_factory.mktemp("cohort")
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


@pytest.fixture
def config(cohort, tmp_path_factory):
    """The CPU's config, tiny."""
    config = dixon_cpu.get_config()
    config.data.root = str(cohort)
    config.data.cache = str(cohort / ".cache")
    config.data.num_test = 1
    config.data.spacing_mm = (2.0, 2.0, 3.0)
    config.data.padding = (6, 4, 4)
    config.data.window = (16, 16, 8)
    config.augment.margin = (2, 2, 1)
    config.optimizer.schedule = "constant"
    config.optimizer.warmup_steps = 2
    config.train.num_steps = 8
    config.train.log_every = 1
    config.train.checkpoint_every = 3
    config.train.eval_every = 4
    return config


def run(config, workdir, **options):
    lines = []
    status = fitting.train(config, workdir, log=lines.append, **options)
    return status, lines


def state_of(workdir):
    """All arrays of the latest checkpoint, and the table."""
    with (
        open_checkpoints(workdir / "checkpoints") as checkpointer,
        warnings.catch_warnings(action="ignore"),  # of arrays placed as saved
    ):
        loaded = checkpointer.load_checkpointables(
            checkpointer.latest.step, {"state": None}
        )
        step = checkpointer.latest.step
    arrays = {k: np.asarray(v) for k, v in loaded["state"].items()}
    return step, arrays, (workdir / "metrics.csv").read_text()


def assert_same(one, other):
    assert one[0] == other[0]
    assert one[1].keys() == other[1].keys()
    for name, value in one[1].items():
        np.testing.assert_array_equal(value, other[1][name], err_msg=name)
    assert one[2] == other[2]


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Stand-ins; and one compiled step for all runs that differ only in their loop."""
    make_body, parallel_step = fitting.make_body, fitting.parallel.parallel_step
    bodies = {}

    def body(config):
        own = json.loads(config.to_json())
        del own["eval"], own["data"]["root"], own["data"]["cache"]
        for name in ("log", "checkpoint", "eval"):
            del own["train"][f"{name}_every"]
        del own["train"]["patience"]
        if own["optimizer"]["schedule"] == "constant":
            del own["train"]["num_steps"]
        return bodies.setdefault(json.dumps(own), make_body(config))

    with pytest.MonkeyPatch.context() as patch:
        stand_ins(patch)
        patch.setattr(fitting, "make_body", body)
        patch.setattr(fitting.parallel, "parallel_step", functools.cache(parallel_step))
        yield
    jax.clear_caches()


@pytest.fixture(scope="module")
def uninterrupted(cohort, quick, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    config = _config(cohort)
    status, lines = run(config, workdir)
    assert status == fitting.OK
    return workdir, lines


def _config(cohort):
    return config.__wrapped__(cohort, None)


class Stopped(Exception):
    pass


def test_the_work_directory_holds_what_it_should(uninterrupted):
    workdir, lines = uninterrupted
    assert (workdir / "curve.png").stat().st_size > 10_000
    with Image.open(workdir / "curve.png") as curve:
        assert curve.size[0] > 800
    assert list((workdir / "events").glob("events.*"))
    assert (workdir / "pictures" / "test-000008.png").exists()
    assert json.loads((workdir / "config.json").read_text())["seed"] == 0
    with open(workdir / "metrics.csv") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == COLUMNS
    assert [r["step"] for r in rows if r["split"] == "windows"] == [*"12345678"]
    assert [r["step"] for r in rows if r["split"] == "test"] == ["4", "8"]
    assert any("waiting for data" in line for line in lines)


def test_exported_weights_run_in_inference(uninterrupted):
    workdir, _ = uninterrupted
    loaded = load_weights(workdir)
    assert loaded.card.mode == "whole"
    assert "user's data" in loaded.card.trained_on
    assert loaded.card.recipe.spacing_mm == (2.0, 2.0, 3.0)
    assert len(loaded.card.recipe.landmarks["in_phase"]) == 13
    assert Settings(mode="whole").mode == loaded.card.mode
    best = load_file(workdir / "weights.safetensors")
    assert best["params/head_bias"].shape == (15,)


@pytest.mark.parametrize("stop_after", [2, 5])
def test_resuming_gives_the_same_bits(cohort, uninterrupted, tmp_path, stop_after):
    """Stopped anywhere, between checkpoints or just after one."""
    config = _config(cohort)
    original = fitting._Loop._advance

    def on_progress(self, state, done):
        if done == stop_after:
            raise Stopped
        return original(self, state, done)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting._Loop, "_advance", on_progress)
        with pytest.raises(Stopped):
            run(config, tmp_path)
    status, lines = run(config, tmp_path)
    assert status == fitting.OK
    kept = (
        stop_after - stop_after % 3 if stop_after < 4 else max(4, stop_after // 3 * 3)
    )
    if kept:
        assert f"going on after step {kept}" in lines
    assert_same(state_of(tmp_path), state_of(uninterrupted[0]))


@pytest.mark.slow
def test_kill_9_at_any_moment(cohort, uninterrupted, tmp_path):
    """The real command in a process of its own, killed twice, once while it saves."""
    config = _config(cohort)
    path = tmp_path / "config.json"
    path.write_text(config.to_json())
    command = [
        sys.executable,
        str(Path(__file__).with_name("train_tiny.py")),
        str(path),
        str(tmp_path / "run"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    rng = random.Random(0)
    kills = 0
    checkpoints = tmp_path / "run" / "checkpoints"
    for attempt in range(20):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        deadline = time.time() + 120
        wait_for_save = attempt % 2 == 0
        before = set(checkpoints.glob("*"))
        while process.poll() is None and time.time() < deadline:
            fresh = set(checkpoints.glob("*")) - before
            if fresh and (wait_for_save or rng.random() < 0.05):
                break  # in the first case a save has just begun
            time.sleep(0.002)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        if kills == 2:
            process = subprocess.Popen(command, env=environment)
            assert process.wait(timeout=300) == 0
            break
    assert process.returncode == 0
    assert kills == 2
    assert_same(state_of(tmp_path / "run"), state_of(uninterrupted[0]))


def test_sigterm_saves_and_leaves(cohort, uninterrupted, tmp_path):
    config = _config(cohort)
    original = fitting._Loop._advance

    def on_progress(self, state, done):
        if done == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, state, done)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting._Loop, "_advance", on_progress)
        status, lines = run(config, tmp_path)
    assert status == 143
    assert "terminated: saved after step 5" in lines
    assert run(config, tmp_path)[0] == fitting.OK
    assert_same(state_of(tmp_path), state_of(uninterrupted[0]))


def test_a_longer_run_goes_on(config, uninterrupted, tmp_path):
    config.train.num_steps = 3
    run(config, tmp_path)
    config.train.num_steps = 4
    _, lines = run(config, tmp_path)
    assert "going on after step 3" in lines
    assert state_of(tmp_path)[0] == 4


@pytest.fixture
def finished(uninterrupted, tmp_path):
    """A copy of a finished run's work directory."""
    return shutil.copytree(uninterrupted[0], tmp_path / "finished")


def test_another_config_in_the_same_directory_is_refused(config, finished):
    config.optimizer.learning_rate = 1.0
    with pytest.raises(ValueError, match=r"optimizer\.learning_rate = 0\.003.*1\.0"):
        run(config, finished)


def test_a_checkpoint_of_other_arrays_names_the_leaf(config, finished, monkeypatch):
    config.train.average_decay = 0.0
    monkeypatch.setattr(fitting, "check_same", lambda *a: None)
    with pytest.raises(ValueError, match="average/batch_stats/.* is .* needs absent"):
        run(config, finished)


def test_divergence_stops_with_the_step_and_keeps_the_checkpoint(config, tmp_path):
    config.train.num_steps = 5
    config.train.checkpoint_every = 1
    original = fitting._Loop._advance

    def on_progress(self, state, done):
        if done == 3:
            bias = state.params["head_bias"] * np.nan
            state = state._replace(params=state.params | {"head_bias": bias})
        return original(self, state, done)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting._Loop, "_advance", on_progress)
        with pytest.raises(fitting.Diverged, match="step 4: loss nan"):
            run(config, tmp_path)
    step, arrays, _ = state_of(tmp_path)
    assert step == 3
    assert all(np.isfinite(v).all() for v in arrays.values())


def test_a_full_disk_during_a_save_is_said_and_nothing_is_lost(config, tmp_path):
    config.train.num_steps = 3
    config.train.checkpoint_every = 1

    class Full:
        def result(self):
            raise OSError(28, "No space left on device")

    original, calls = fitting.checkpoint.save, []

    def save(*args, **kwargs):
        calls.append(args[1])
        return original(*args, **kwargs) if len(calls) < 2 else Full()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting.checkpoint, "save", save)
        with pytest.raises(OSError, match="could not be written.*No space.*make room"):
            run(config, tmp_path)
    assert state_of(tmp_path)[0] == 1
    assert run(config, tmp_path)[0] == fitting.OK


def test_patience_ends_a_flat_run(config, tmp_path, monkeypatch):
    config.train.num_steps = 20
    config.train.eval_every = 1
    config.train.patience = 2
    config.eval.train_scans = 1
    monkeypatch.setattr(
        fitting,
        "evaluate",
        lambda v, volumes, p: (np.full((1, 14), 0.5), np.zeros((36, 32, 16), np.uint8)),
    )
    status, lines = run(config, tmp_path)
    assert status == fitting.OK
    assert "validation Dice is flat since step 1" in lines
    assert state_of(tmp_path)[0] == 3


def test_init_from_starts_from_weights(config, uninterrupted, tmp_path, monkeypatch):
    states = []
    monkeypatch.setattr(
        fitting._Loop, "run", lambda _, state: states.append(state) or fitting.OK
    )
    run(config, tmp_path, init_from=uninterrupted[0])
    (state,) = states
    weights = load_weights(uninterrupted[0])
    assert int(state.step) == 0
    for started in (state.params, state.average["params"]):
        jax.tree.map(
            np.testing.assert_array_equal, started, weights.variables["params"]
        )


def test_init_from_keeps_the_histogram_the_weights_know(
    config, uninterrupted, tmp_path
):
    weights = load_weights(uninterrupted[0])
    recipe = weights.card.recipe
    wider = {k: tuple(1.5 * x for x in v) for k, v in recipe.landmarks.items()}
    card = replace(weights.card, recipe=replace(recipe, landmarks=wider))
    save_weights(tmp_path / "theirs.safetensors", weights.variables, card)
    config.train.num_steps = 3
    _, lines = run(config, tmp_path / "a", init_from=tmp_path / "theirs.safetensors")
    assert not [line for line in lines if line.startswith("learning the standard")]
    assert load_weights(tmp_path / "a").card.recipe.landmarks == wider


def test_some_windows_are_changed_as_the_config_says(config):
    config.augment.channel_mix = 0.0
    for name in ("bias_field", "noise", "tone"):
        config.augment[name] = config.foreign[name] = 0.0
    config.foreign.channel_mix = 1.0
    shape = (3, *(w + 2 * m for w, m in zip((16, 16, 8), (2, 2, 1), strict=True)))
    image = jax.random.normal(jax.random.key(0), (*shape, 2))
    labels = np.zeros(shape, np.uint8)
    for share in (0.0, 1.0):
        config.foreign.share = share
        got, _ = jax.jit(make_augment(config))(jax.random.key(1), image, labels)
        assert np.array_equal(got[..., 0], got[..., 1]) == (share == 1.0)


def test_the_last_stage_of_the_packages_weights_keeps_slices_flat():
    """A slice of the window is all of one slice of the scan, moved along z or not."""
    config = shipped_levels.get_config()
    config.data.window = (24, 24, 16)
    shape = (4, *(w + 2 * m for w, m in zip((24, 24, 16), (10, 10, 6), strict=True)))
    slices = np.broadcast_to(np.arange(shape[3]) % 15, shape).astype(np.uint8)
    image = np.zeros((*shape, 2), np.float32)
    augment = make_augment(config)
    moved = jax.jit(lambda *args: augment(*args)[1])  # labels alone compile quickly
    got = np.asarray(moved(jax.random.key(3), image, slices))
    np.testing.assert_array_equal(got, np.broadcast_to(got[:, :1, :1], got.shape))
    assert all(len(np.unique(sample)) > 10 for sample in got)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train.loss": "dise"}, "train.loss must be one of"),
        ({"data.window": (20, 24, 16)}, "multiples of 8"),
        ({"train.eval_every": 0}, "eval_every must be at least 1"),
        ({"foreign.share": 1.5}, "foreign.share must lie from 0 to 1"),
        ({"train.batch_size": 3}, "multiple of 2"),
        ({"data.window": (64, 24, 16)}, "window"),
        (
            {"optimizer.schedule": "cosine", "train.num_steps": 2},
            "warm up in fewer",
        ),
        ({"data.num_test": 3}, "participants"),
        ({"data.root": "/nonexistent"}, "nonexistent"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_bad_settings_are_named(config, tmp_path, change, message, capsys):
    with config.unlocked():
        config.update_from_flattened_dict(change)
    assert fitting.run(config, tmp_path) == fitting.NOT_STARTED
    assert message in capsys.readouterr().out


def test_a_muscle_that_no_scan_shows_is_named(config, cohort, tmp_path, capsys):
    root = tmp_path / "data"
    shutil.copytree(cohort, root, ignore=shutil.ignore_patterns(".cache"))
    for path in root.rglob("*_dseg.nii.gz"):
        image = nib.load(path)
        data = np.asarray(image.dataobj)
        save_nifti(path, np.where(data == 12, 0, data).astype(np.uint8), image.affine)
    config.data.root = str(root)
    assert fitting.run(config, tmp_path / "run") == fitting.NOT_STARTED
    assert "trapezius, left" in capsys.readouterr().out


def test_evaluation_of_whole_scans_by_hand(cohort, uninterrupted):
    """Dice in the scan's own voxels, padding taken off, against a count by NumPy."""
    from cervjax.data.cache import cache_volumes
    from cervjax.data.windows import whole_volumes
    from cervjax.inference.segment import segment_whole
    from cervjax.io.labels import find_labelled
    from cervjax.training.validation import evaluate

    weights = load_weights(uninterrupted[0])
    recipe = weights.card.recipe
    scans = find_labelled(cohort)[0][:1]
    volumes = cache_volumes(scans, recipe, cohort / ".cache" / "volumes")
    dice, labels = evaluate(weights.variables, volumes, recipe.padding)
    _, image, reference = next(whole_volumes(volumes))
    found = segment_whole(weights.network, weights.variables, image, recipe.padding)
    np.testing.assert_array_equal(labels, found)
    inner = reference[6:-6, 4:-4, 4:-4]
    assert found.shape == inner.shape and (inner > 0).sum() == (reference > 0).sum()
    for m in MUSCLES:
        a, b = found == m.label, inner == m.label
        assert dice[0, m.label - 1] == pytest.approx(
            2 * (a & b).sum() / (a.sum() + b.sum())
        )


@pytest.mark.parametrize("module", [dixon, dixon_niftynet, dixon_cpu, overfit])
def test_configs_are_sound(module):
    config = module.get_config()
    fitting.check(config)
    assert json.loads(config.to_json())["train"]["num_steps"] > 0


def test_niftynets_config_differs_where_the_software_did():
    ours, theirs = dixon.get_config(), dixon_niftynet.get_config()
    assert ours.optimizer.weight_decay == 1e-5 and theirs.optimizer.weight_decay == 0
    assert ours.augment.exchange_labels and not theirs.augment.exchange_labels
    assert theirs.augment.affine_in_network == 0.1
    assert tuple(ours.data.window) == tuple(theirs.data.window) == (360, 240, 32)


def test_the_table_forgets_what_a_resumed_run_will_write_again(tmp_path):
    table = Table(tmp_path, 0)
    for step in (1, 2, 3):
        table.append({"step": step, "split": "windows", "loss": step / 7})
    with open(tmp_path / "metrics.csv", "a") as stream:
        stream.write("4,windows,0.5")  # cut by a kill
    again = Table(tmp_path, 2)
    assert [r["step"] for r in again.rows] == ["1", "2"]
    assert (tmp_path / "metrics.csv").read_text().count("\n") == 3
    steps, loss = again.series("windows", "loss")
    np.testing.assert_allclose(loss, steps / 7, rtol=1e-8)
