"""Whole runs of the tiny network: what they write, and how they are resumed."""

import csv
import functools
import json
import os
import shutil
import signal
from dataclasses import replace

import jax
import nibabel as nib
import numpy as np
import pytest
from conftest import save_nifti
from PIL import Image
from train_tiny import (
    Lines,
    Stopped,
    assert_same,
    dice_of_parameters,
    state_of,
    stop,
    tiny_config,
    write_cohort,
)

from cervjax.data.cache import DataError
from cervjax.io.lock import FolderInUseError, alone_in
from cervjax.io.review_list import KEPT, names_in
from cervjax.io.written import OthersFileError
from cervjax.model.weights import load_weights, save_weights
from cervjax.training import curve, loop
from cervjax.training import run as running
from cervjax.training.checkpoint import (
    CheckpointMismatch,
    DamagedCheckpoint,
    open_checkpoints,
)
from cervjax.training.config import ConfigError
from cervjax.training.metrics_log import COLUMNS
from cervjax.training.parallel import replicated
from cervjax.training.run import Diverged, check_finite
from cervjax.training.setup import initial_state

pytestmark = pytest.mark.xdist_group("fitting")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture
def config(cohort):
    return tiny_config(cohort)


@pytest.fixture(scope="module", autouse=True)
def quick():
    """A quick evaluation without pictures.

    And one compiled step, and one network drawn, for runs that differ in the rest.
    """
    make_body, parallel_step = loop.make_body, loop.parallel.parallel_step
    bodies, drawn = {}, {}

    def initial(config, init_from, log):
        if init_from is not None:
            return initial_state(config, init_from, log)
        parts = (config[p].to_json() for p in ("model", "optimizer"))
        key = (*parts, config.train.average_decay, config.seed)
        if key not in drawn:
            drawn[key] = jax.device_get(initial_state(config, None, log))
        return jax.device_put(drawn[key], replicated())

    def body(config):
        parts = ("augment", "domain_randomisation", "model", "optimizer")
        own = [config[p].to_json() for p in parts]
        t = config.train
        own += [t.loss, t.accumulate, t.average_decay, config.seed]
        if config.optimizer.schedule != "constant":
            own.append(t.num_steps)
        return bodies.setdefault(json.dumps(own), make_body(config))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "dice_of_scans", dice_of_parameters)
        patch.setattr(running, "draw_curve", lambda *args: None)
        patch.setattr(running, "save_picture", lambda *args: None)
        patch.setattr(loop, "initial_state", initial)
        patch.setattr(loop, "make_body", body)
        patch.setattr(loop.parallel, "parallel_step", functools.cache(parallel_step))
        yield
    jax.clear_caches()


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def uninterrupted(cohort, quick, tmp_path_factory):
    workdir, lines = tmp_path_factory.mktemp("runs") / "run", Lines()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "draw_curve", curve.draw_curve)
        patch.setattr(running, "save_picture", curve.save_picture)
        assert loop.train(tiny_config(cohort), workdir, log=lines) == loop.OK
    return workdir, lines


def test_the_work_directory_holds_what_it_should(uninterrupted):
    workdir, lines = uninterrupted
    with Image.open(workdir / "curve.png") as picture:
        assert picture.size[0] > 800
    assert list((workdir / "events").glob("events.*"))
    assert (workdir / "pictures" / "validation-000008.png").exists()
    assert json.loads((workdir / "config.json").read_text())["seed"] == 0
    with open(workdir / "metrics.csv") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == COLUMNS
    assert [r["step"] for r in rows if r["split"] == "windows"] == [*"12345678"]
    assert [r["step"] for r in rows if r["split"] == "validation"] == ["4", "8"]
    assert {r["split"] for r in rows} == {"windows", "validation", "train"}
    assert any("waiting for data" in line for line in lines)


def test_exported_weights_tell_what_they_are(uninterrupted, config):
    card = load_weights(uninterrupted[0]).card
    assert card.mode == "whole" and "user's data" in card.trained_on
    assert "validation Dice 0." in card.source and "(chosen on it)" in card.source
    assert card.recipe.spacing_mm == (2.0, 2.0, 3.0)
    assert len(card.recipe.landmarks["in_phase"]) == 13
    assert card.architecture.units == config.model.units == (1, 1, 1)


@pytest.mark.parametrize(
    ("stop_at", "kept"), [pytest.param(2, 0, marks=pytest.mark.slow), (7, 6)]
)
def test_resuming_gives_the_same_bits(config, uninterrupted, tmp_path, stop_at, kept):
    """Stopped anywhere, between checkpoints or just after one."""
    workdir = tmp_path / "run"
    with pytest.raises(Stopped):
        loop.train(config, workdir, log=Lines(f"step {stop_at}/8", stop))
    lines = Lines()
    assert loop.train(config, workdir, log=lines) == loop.OK
    assert (f"going on after step {kept}" in lines) == (kept > 0)
    assert_same(state_of(workdir), state_of(uninterrupted[0]))


def damage(path):
    if path.stat().st_size:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


@pytest.mark.parametrize(
    "how",
    ["bits", *(pytest.param(h, marks=pytest.mark.slow) for h in ("empty", "gone"))],
)
def test_a_damaged_checkpoint_is_set_aside(config, uninterrupted, tmp_path, how):
    """The one before is taken, and the run ends with the same bits."""
    workdir = tmp_path / "run"
    shutil.copytree(uninterrupted[0], workdir)
    folder = workdir / "checkpoints"
    steps = sorted((int(p.name), p) for p in folder.iterdir() if p.name.isdigit())
    assert len(steps) > 1
    for path in [p for p in steps[-1][1].rglob("*") if p.is_file()]:
        if how == "bits":
            damage(path)
        elif how == "empty":
            path.write_bytes(b"")
        elif path.name != "_CHECKPOINT_METADATA":
            path.unlink()
    lines = Lines()
    assert loop.train(config, workdir, log=lines) == loop.OK
    assert any("checkpoint of step 8 is damaged" in line for line in lines)
    assert f"going on after step {steps[-2][0]}" in lines
    assert (workdir / "damaged" / "8").is_dir()
    assert_same(state_of(workdir), state_of(uninterrupted[0]))


@pytest.mark.slow
def test_one_flipped_bit_of_any_file_is_never_trained_on(
    config, uninterrupted, tmp_path
):
    """It is noticed, or changes nothing."""
    steps = (uninterrupted[0] / "checkpoints").glob("[0-9]*")
    latest = max(steps, key=lambda p: int(p.name))
    inside = [p.relative_to(latest) for p in latest.rglob("*") if p.is_file()]
    chosen = [p for p in inside if (latest / p).stat().st_size][:: len(inside) // 2]
    for i, name in enumerate(chosen):
        workdir = tmp_path / str(i) / "run"
        shutil.copytree(uninterrupted[0], workdir)
        damage(workdir / "checkpoints" / latest.name / name)
        assert loop.train(config, workdir, log=Lines()) == loop.OK
        assert_same(state_of(workdir), state_of(uninterrupted[0]))


def test_the_only_checkpoint_is_left_where_it_is(config, uninterrupted, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(uninterrupted[0], workdir)
    folder = workdir / "checkpoints"
    for path in folder.iterdir():
        if path.name.isdigit() and int(path.name) != 8:
            shutil.rmtree(path)
    for path in [p for p in folder.rglob("*") if p.is_file()]:
        damage(path)
    with pytest.raises(DamagedCheckpoint, match="step 8 is damaged"):
        loop.train(config, workdir, log=Lines())
    assert (folder / "8").is_dir()


def test_two_trainings_in_one_folder_are_refused(config, tmp_path):
    with (
        alone_in(tmp_path),
        pytest.raises(FolderInUseError, match="used by another run"),
    ):
        loop.train(config, tmp_path, log=Lines())


@pytest.mark.parametrize("name", ["weights.safetensors", "config.json", "metrics.csv"])
def test_files_of_others_in_a_work_directory_are_kept(config, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(OthersFileError, match=f"{name}.*give another"):
        loop.train(config, tmp_path, log=Lines())
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.slow
def test_sigterm_saves_and_leaves(config, uninterrupted, tmp_path):
    lines = Lines("step 4/8", terminate)
    assert loop.train(config, tmp_path / "run", log=lines) == loop.TERMINATED == 143
    assert any(line.startswith("terminated: saved after step") for line in lines)
    assert loop.train(config, tmp_path / "run", log=Lines()) == loop.OK
    assert_same(state_of(tmp_path / "run"), state_of(uninterrupted[0]))


def scripted(monkeypatch, values):
    """Evaluations that give these Dice, one after another."""
    left = list(values)

    def dice_of_scans(network, variables, volumes, way):
        _, labels = dice_of_parameters(network, variables, volumes, way)
        return np.full((1, 14), left.pop(0)), labels

    monkeypatch.setattr(running, "dice_of_scans", dice_of_scans)


@pytest.mark.parametrize(
    ("patience", "dice", "name"),
    [
        pytest.param(
            0,
            (0.80000, 0.80006, 0.80012, 0.80018),
            "run-3",
            id="creeping",
            marks=pytest.mark.slow,
        ),
        pytest.param(2, (0.8, 0.80006, 0.8), "", id="patience", marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_exports_the_same_weights(
    config, tmp_path, monkeypatch, patience, dice, name
):
    """The best so far and the patience go on where they were.

    Less than `validation.GAIN` more is no gain, but two such steps may be one.
    """
    config.train.update(eval_every=1, num_steps=4, patience=patience)
    config.eval.train_scans = 0
    ends = []
    for stopped in (False, True):
        workdir = tmp_path / str(stopped) / "run"
        scripted(monkeypatch, dice)
        if stopped:
            log = Lines("step 2: Dice", terminate)
            status = loop.train(config, workdir, log=log)
            assert status == loop.TERMINATED
        assert loop.train(config, workdir, log=Lines()) == loop.OK
        table = (workdir / "metrics.csv").read_text()
        ends.append((load_weights(workdir).sha256, table))
    assert ends[0] == ends[1]
    assert name in load_weights(workdir).card.name


@pytest.mark.slow
def test_the_best_evaluation_is_exported_not_the_last(config, tmp_path, monkeypatch):
    config.train.update(eval_every=1, num_steps=3)
    config.eval.train_scans = 0
    scripted(monkeypatch, (0.5, 0.7, 0.6))
    loop.train(config, tmp_path, log=Lines())
    card = load_weights(tmp_path).card
    assert "step 2," in card.source and "validation Dice 0.7000" in card.source


@pytest.mark.slow
def test_the_last_evaluation_is_exported_where_nothing_is_to_choose(
    config, tmp_path, monkeypatch
):
    """And who was held out is written down, as `infer --only` reads it."""
    config.data.update(num_validation=0, folds=3, fold=1)
    config.train.update(eval_every=1, num_steps=3)
    with config.unlocked():
        config.train.export = "last"
    config.eval.train_scans = 0
    scripted(monkeypatch, (0.5, 0.7, 0.6))
    lines = Lines()
    loop.train(config, tmp_path, log=lines)
    card = load_weights(tmp_path).card
    assert "step 3," in card.source and "0.6000 (not chosen on it)" in card.source
    (held_out,) = names_in(tmp_path / "held_out.csv", KEPT)
    assert f"held out: {held_out}" in lines
    config.data.fold = 0
    with pytest.raises(ConfigError, match="data.fold = 1, now it is 0"):
        loop.train(config, tmp_path, log=Lines())


def test_training_scans_choose_where_none_validate(config, tmp_path, monkeypatch):
    config.train.update(eval_every=1, num_steps=1)
    config.eval.validation_scans = 0
    scripted(monkeypatch, (0.5,))
    loop.train(config, tmp_path, log=Lines())
    assert "train Dice 0.5000" in load_weights(tmp_path).card.source


@pytest.mark.slow
def test_patience_ends_a_flat_run(config, tmp_path, monkeypatch):
    config.train.update(num_steps=20, eval_every=1, patience=2)
    config.eval.train_scans = 0
    scripted(monkeypatch, [0.5] * 3)
    lines = Lines()
    assert loop.train(config, tmp_path, log=lines) == loop.OK
    assert "validation Dice is flat since step 1" in lines
    assert state_of(tmp_path)[0] == 3


@pytest.fixture
def finished(uninterrupted, tmp_path):
    """A copy of a finished run's work directory."""
    return shutil.copytree(uninterrupted[0], tmp_path / "run")


def test_a_longer_run_goes_on(config, finished):
    config.train.num_steps = 9
    lines = Lines()
    loop.train(config, finished, log=lines)
    assert "going on after step 8" in lines
    assert state_of(finished)[0] == 9


def test_weights_that_were_taken_away_are_missed(config, finished):
    (finished / "weights.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="was taken away"):
        loop.train(config, finished, log=Lines())


def test_another_config_in_the_same_directory_is_refused(config, finished):
    config.optimizer.learning_rate = 1.0
    with pytest.raises(ConfigError, match=r"optimizer\.learning_rate = 0\.003.*1\.0"):
        loop.train(config, finished, log=Lines())


def test_a_checkpoint_of_other_arrays_names_the_leaf(config, finished, monkeypatch):
    config.train.average_decay = 0.0
    monkeypatch.setattr(loop, "check_same", lambda *a: None)
    with pytest.raises(
        CheckpointMismatch, match="average/batch_stats/.* is .* needs absent"
    ):
        loop.train(config, finished, log=Lines())


def test_other_scans_in_the_same_directory_are_refused(
    config, cohort, finished, tmp_path
):
    """Or one that was trained on could become a validation scan."""
    root = tmp_path / "data"
    shutil.copytree(cohort, root, ignore=shutil.ignore_patterns(".cache"))
    config.data.root = str(root)
    assert loop.train(config, finished, log=Lines()) == loop.OK  # the same, elsewhere
    shutil.rmtree(root / "sub-01")
    with pytest.raises(CheckpointMismatch, match=r"scan\(s\), now there.*sub-0"):
        loop.train(config, finished, log=Lines())


@pytest.mark.parametrize(("loss", "norm"), [(np.nan, 1.0), (0.5, np.inf)])
def test_numbers_that_are_none_are_noticed(loss, norm):
    with pytest.raises(Diverged, match=f"step 7: loss {loss}, gradient norm {norm}"):
        check_finite(7, {"loss": loss, "gradient_norm": norm})
    check_finite(7, {"loss": 0.5, "gradient_norm": 1.0})


@pytest.mark.parametrize("name", ["loss", "gradient_norm"])
def test_divergence_keeps_the_checkpoint_before(config, tmp_path, monkeypatch, name):
    """The loss may be a number, and the gradient none."""
    config.train.update(num_steps=5, checkpoint_every=1)
    parallel_step = loop.parallel.parallel_step

    def diverging(body):
        take_step, taken = parallel_step(body), []

        def step(state, batch):
            state, metrics = take_step(state, batch)
            taken.append(metrics)
            return state, metrics | ({name: np.nan} if len(taken) == 4 else {})

        return step

    monkeypatch.setattr(loop.parallel, "parallel_step", diverging)
    with pytest.raises(Diverged, match="step 4: loss"):
        loop.train(config, tmp_path, log=Lines())
    with open_checkpoints(tmp_path / "checkpoints") as checkpointer:
        assert checkpointer.latest.step == 3


def test_a_full_disk_during_a_save_is_told_and_nothing_is_lost(config, tmp_path):
    config.train.update(num_steps=3, checkpoint_every=1)

    class Full:
        def result(self):
            raise OSError(28, "No space left on device")

    original, calls = loop.checkpoint.save, []

    def save(*args, **kwargs):
        calls.append(args[1])
        return original(*args, **kwargs) if len(calls) < 2 else Full()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.checkpoint, "save", save)
        with pytest.raises(OSError, match="could not be written.*No space.*make room"):
            loop.train(config, tmp_path, log=Lines())
    lines = Lines()
    assert loop.train(config, tmp_path, log=lines) == loop.OK
    assert "going on after step 1" in lines


def test_init_from_starts_from_weights(config, uninterrupted):
    weights = load_weights(uninterrupted[0])
    state = initial_state(config, uninterrupted[0], Lines())
    assert int(state.step) == 0
    for started in (state.params, state.average["params"]):
        jax.tree.map(
            np.testing.assert_array_equal, started, weights.variables["params"]
        )


@pytest.mark.slow
def test_init_from_keeps_the_histogram_and_is_not_needed_again(
    config, uninterrupted, tmp_path
):
    config.train.num_steps = 1
    weights = load_weights(uninterrupted[0])
    recipe = weights.card.recipe
    wider = {k: tuple(1.5 * x for x in v) for k, v in recipe.landmarks.items()}
    card = replace(weights.card, recipe=replace(recipe, landmarks=wider))
    theirs = tmp_path / "theirs.safetensors"
    save_weights(theirs, weights.variables, card)
    lines = Lines()
    loop.train(config, tmp_path / "run", theirs, log=lines)
    assert not [line for line in lines if line.startswith("learning the standard")]
    assert load_weights(tmp_path / "run").card.recipe.landmarks == wider
    theirs.unlink()
    config.train.num_steps = 2
    lines = Lines()
    assert loop.train(config, tmp_path / "run", theirs, log=lines) == loop.OK
    assert "going on after step 1" in lines


def test_weights_of_another_network_are_refused(config, uninterrupted, tmp_path):
    config.model.stem = 7
    with pytest.raises(ConfigError, match="stem=6.*stem=7"):
        loop.train(config, tmp_path, uninterrupted[0], log=Lines())


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_participant_in_both_folders_is_refused(config, cohort, tmp_path, part):
    """Whichever of the two folders has more."""
    few = tmp_path / "few"
    shutil.copytree(cohort / "sub-02", few / "sub-02")
    roots = (few, cohort) if part == "train" else (cohort, few)
    config.data.root, config.data.validation_root = map(str, roots)
    with pytest.raises(DataError, match=r"sub-02 occur\(s\) in both"):
        loop.train(config, tmp_path / "run", log=Lines())


def test_a_validation_folder_of_others_is_used(config, cohort, tmp_path):
    root = tmp_path / "train"
    for name in ("sub-01", "sub-02"):
        shutil.copytree(cohort / name, root / name)
    shutil.copytree(cohort / "sub-03", tmp_path / "validation" / "sub-03")
    config.data.root = str(root)
    config.data.validation_root = str(tmp_path / "validation")
    config.train.num_steps = 1
    lines = Lines()
    loop.train(config, tmp_path / "run", log=lines)
    assert any("2 training, 1 validation scan(s)" in line for line in lines)


def test_a_muscle_that_no_scan_shows_is_named(config, cohort, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(cohort, root, ignore=shutil.ignore_patterns(".cache"))
    for path in root.rglob("*_dseg.nii.gz"):
        image = nib.load(path)
        data = np.asarray(image.dataobj)
        save_nifti(path, np.where(data == 12, 0, data).astype(np.uint8), image.affine)
    config.data.root = str(root)
    with pytest.raises(DataError, match="trapezius, left"):
        loop.train(config, tmp_path / "run", log=Lines())
