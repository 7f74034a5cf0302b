"""A training run: from a config to weights, resumable to the bit.

The work directory holds ``checkpoints/``, ``metrics.csv``, ``curve.png``,
``weights.safetensors`` (the best so far), ``events/``, ``pictures/``, ``config.json``.
"""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from cervjax import NOTICE, __version__
from cervjax.data.dataset import cache_folder, load_train_set
from cervjax.data.windows import whole_volumes
from cervjax.figures.quality import qc_figure, save_png
from cervjax.io.files import write_atomically
from cervjax.model.card import SYNTHETIC, ModelCard
from cervjax.model.weights import load_weights, save_weights
from cervjax.training import checkpoint, parallel
from cervjax.training.config import (
    augmentation_seconds,
    check,
    check_same,
    initial_state,
    make_body,
    make_model,
    make_windows,
)
from cervjax.training.curve import draw_curve
from cervjax.training.metrics_log import (
    Events,
    Progress,
    Table,
    best_of,
    row_of_evaluation,
    row_of_step,
)
from cervjax.training.step import TrainState
from cervjax.training.validation import evaluate

OK, FAILED, NOT_STARTED, TERMINATED = 0, 1, 2, 143


class Diverged(FloatingPointError):
    """The loss or its gradient is not a finite number."""


def run(config: ConfigDict, workdir: Path, init_from: Path | None = None) -> int:
    """Trains, says what goes wrong in one line, and returns the exit status."""
    try:
        return train(config, workdir, init_from, partial(print, flush=True))
    except Diverged as error:
        print(f"train: error: {error}", flush=True)
        return FAILED
    except (ValueError, OSError) as error:
        print(f"train: error: {error}", flush=True)
        return NOT_STARTED


def train(
    config: ConfigDict,
    workdir: Path,
    init_from: Path | None = None,
    log: Callable[[str], object] = print,
) -> int:
    """Trains, or goes on training, in a work directory.

    Args:
        config: of ``configs/dixon.py``'s form.
        workdir: of this run; made if need be.
        init_from: weights to start from, see `load_weights`.
        log: receives lines of progress.

    Returns:
        `OK`, or `TERMINATED` after a signal, with everything saved.

    Raises:
        ValueError: the config, the data or the checkpoint cannot be used.
        Diverged: not finite; the last good checkpoint is kept.
        OSError: a file cannot be written; the last good checkpoint is kept.
    """
    check(config)
    parallel.connect()
    parallel.check_batch(config.train.batch_size, config.train.accumulate)
    _keep_compiled_programs(config)
    workdir.mkdir(parents=True, exist_ok=True)
    log(f"cervjax {__version__} on {jax.device_count()} {jax.devices()[0].device_kind}")
    with checkpoint.open_checkpoints(workdir / "checkpoints") as checkpointer:
        latest = checkpointer.latest
        record = None
        if latest is not None:
            record = checkpoint.read_record(checkpointer, latest.step)
            check_same(json.loads(config.to_json()), record["config"], workdir)
        landmarks = record and {k: tuple(v) for k, v in record["landmarks"].items()}
        if landmarks is None and init_from is not None and not config.data.landmarks:
            landmarks = dict(load_weights(init_from).card.recipe.landmarks)
            log("standard histogram: that of the weights to start from")
        data = load_train_set(config.data, landmarks, log)
        state = initial_state(config, init_from, log)
        with _closing(iter(make_windows(config, data))) as iterator:
            if latest is not None:
                state = checkpoint.restore(checkpointer, latest.step, state, iterator)
                log(f"going on after step {latest.step}")
            _describe(config, state, data, workdir, log)
            loop = _Loop(config, workdir, data, checkpointer, iterator, log)
            return loop.run(state)


class _Best(NamedTuple):
    dice: float
    step: int
    evaluations_without_gain: int


class _Loop:
    """The loop's own state: what is open, and what is pending."""

    def __init__(self, config, workdir, data, checkpointer, iterator, log):
        self.config, self.workdir, self.data = config, workdir, data
        self.checkpointer, self.iterator, self.log = checkpointer, iterator, log
        self.pending: tuple[int, Any] | None = None  # metrics of the step before
        self.saving = None
        self.step = parallel.parallel_step(make_body(config))

    def run(self, state: TrainState) -> int:
        t, done = self.config.train, int(state.step)
        self.table = Table(self.workdir, done) if parallel.is_first() else None
        self.events = Events(self.workdir) if parallel.is_first() else None
        self.progress = Progress(done, t.num_steps, t.batch_size)
        best = self._best()
        status = OK
        with _termination() as terminated:
            while done < t.num_steps:
                if t.patience and best.evaluations_without_gain >= t.patience:
                    self.log(f"validation Dice is flat since step {best.step}")
                    break
                state = self._advance(state, done)
                done += 1
                judged = done % t.eval_every == 0 or done == t.num_steps
                stop = terminated.is_set()
                dice = None
                if judged:
                    self._settle()
                    best, dice = self._judge(state, done, best)
                if judged or stop or done % t.checkpoint_every == 0:
                    self._settle()
                    self._save(state, done, dice)
                if stop:
                    self.log(f"terminated: saved after step {done}")
                    status = TERMINATED
                    break
            self._settle()
            self._finish_saving()
        if self.events:
            self.events.close()
        if status == OK:
            self.log(f"done: {self.workdir / 'weights.safetensors'}")
        return status

    def _advance(self, state: TrainState, done: int) -> TrainState:
        start = time.perf_counter()
        batch = next(self.iterator)
        self.progress.waited += time.perf_counter() - start
        if self.progress.augmenting is None:
            self.progress.augmenting = augmentation_seconds(self.config, batch)
            self.progress.aside += time.perf_counter() - start
        state, metrics = self.step(state, parallel.share(batch))
        self._settle()  # while the devices work on this step, read the one before
        self.pending = (done + 1, metrics)
        return state

    def _settle(self) -> None:
        """Reads the pending metrics; refuses to go on from numbers that are none."""
        if self.pending is None:
            return
        step, metrics = self.pending
        self.pending = None
        values = jax.device_get(metrics)
        if not (np.isfinite(values["loss"]) and np.isfinite(values["gradient_norm"])):
            self._finish_saving()
            raise Diverged(
                f"step {step}: loss {values['loss']}, gradient norm "
                f"{values['gradient_norm']}; the checkpoint before it is kept in "
                f"{self.workdir / 'checkpoints'}; lower config.optimizer."
                "learning_rate, or set clip_norm, and start again"
            )
        if step % self.config.train.log_every == 0 and self.table and self.events:
            row = row_of_step(step, values)
            text, speed = self.progress.line(step, row)
            self.table.append(row)
            self.events.write(step, "windows", row | speed)
            self.log(text)

    def _judge(self, state: TrainState, step: int, best: _Best):
        """Evaluates whole scans; keeps weights, pictures and table up to date."""
        start = time.perf_counter()
        variables = jax.device_get(state.variables)
        e, padding = self.config.eval, self.data.recipe.padding
        network = make_model(self.config).clone(axis_name=None)
        parts = {
            "test": self.data.test[: e.test_scans],
            "train": self.data.train[: e.train_scans],
        }
        found = {}
        for split, volumes in parts.items():
            if not volumes:
                continue
            dice, labels = evaluate(network, variables, volumes, padding)
            row = row_of_evaluation(step, split, dice)
            found.setdefault("dice", row["dice_mean"])
            if self.table and self.events:
                self.table.append(row)
                self.events.write(step, split, row)
                self._picture(step, split, volumes[0], labels, row["dice_mean"])
            self.log(
                f"step {step}: Dice of {len(dice)} {split} scan(s) "
                f"{row['dice_mean']:.4f}"
            )
        dice = float(np.nan_to_num(found["dice"]))
        if dice > best.dice + 1e-4:
            best = _Best(dice, step, 0)
            self._export(variables, step, dice)
        else:
            best = best._replace(
                evaluations_without_gain=best.evaluations_without_gain + 1
            )
        if self.table:
            draw_curve(self.table, self.workdir / "curve.png")
        self.progress.aside += time.perf_counter() - start
        return best, dice

    def _best(self) -> _Best:
        """Where the table says the run stands."""
        if self.table is None:
            return _Best(-1.0, -1, 0)
        step, dice = best_of(self.table, ("test", "train"))
        split = "test" if self.data.test else "train"
        later = sum(s > step for s in self.table.series(split, "dice_mean")[0])
        return _Best(dice, step, later) if step >= 0 else _Best(-1.0, -1, 0)

    def _picture(self, step, split, volume, labels, dice) -> None:
        inner = tuple(slice(p, -p or None) for p in self.data.recipe.padding)
        image = next(whole_volumes([volume]))[1][inner][..., 0]
        folder = self.workdir / "pictures"
        folder.mkdir(exist_ok=True)
        figure = qc_figure(
            np.asarray(image) - image.min(),
            labels,
            spacing_mm=self.data.recipe.spacing_mm,
            title=f"{volume.name} ({split}), step {step}",
            subtitle=f"in-phase, standardised; Dice of all {split} scans {dice:.3f}",
        )
        save_png(figure, folder / f"{split}-{step:06d}.png")

    def _export(self, variables, step: int, dice: float) -> None:
        if not parallel.is_first():
            return
        judged = "held-out" if self.data.test else "training"
        theirs = bool(self.config.data.root)
        card = ModelCard(
            name=f"{self.workdir.name}-{step}",
            source=f"cervjax {__version__} train, step {step}, seed "
            f"{self.config.seed}, {judged} Dice {dice:.4f}",
            trained_on=self.data.description,
            licence="that of the data" if theirs else "Apache-2.0",
            limits=NOTICE if theirs else SYNTHETIC,
            mode="whole",
            recipe=self.data.recipe,
        )
        save_weights(self.workdir / "weights.safetensors", variables, card)

    def _save(self, state: TrainState, step: int, dice: float | None) -> None:
        self._finish_saving()
        record = {
            "config": json.loads(self.config.to_json()),
            "landmarks": asdict(self.data.recipe)["landmarks"],
        }
        self.saving = checkpoint.save(
            self.checkpointer, step, state, self.iterator, record, dice=dice
        )

    def _finish_saving(self) -> None:
        if self.saving is not None:
            saving, self.saving = self.saving, None
            try:
                saving.result()
            except Exception as error:  # whatever the storage meets
                raise OSError(
                    f"{self.workdir / 'checkpoints'}: the checkpoint could not be "
                    f"written ({error}); make room and start the same command again: "
                    "it goes on from the checkpoint before"
                ) from error


def _describe(config, state, data, workdir, log) -> None:
    numbers = sum(v.size for v in jax.tree.leaves(state.params))
    log(
        f"{numbers:,} parameters; {len(data.train)} training, {len(data.test)} "
        f"held-out scan(s); windows {tuple(config.data.window)}, "
        f"batch {config.train.batch_size}"
    )
    log(f"results in {workdir}")
    if parallel.is_first():
        text = config.to_json(indent=1) + "\n"
        path = workdir / "config.json"
        write_atomically(path, lambda part: part.write_text(text))


def _keep_compiled_programs(config: ConfigDict) -> None:
    if not getattr(jax.config, "jax_compilation_cache_dir"):  # noqa: B009
        folder = cache_folder(config.data) / "xla"
        jax.config.update("jax_compilation_cache_dir", str(folder))


@contextmanager
def _closing(iterator) -> Iterator[Any]:
    try:
        yield iterator
    finally:
        if hasattr(iterator, "close"):
            iterator.close()


@contextmanager
def _termination() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set instead of ending the process."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    kept = {
        s: signal.signal(s, lambda *_: event.set())
        for s in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield event
    finally:
        for s, handler in kept.items():
            signal.signal(s, handler)
