"""A training run: from a config to weights, resumable to the bit.

The work directory holds ``checkpoints/``, ``metrics.csv``, ``curve.png``,
``weights.safetensors`` (the best so far), ``events/``, ``pictures/``, ``config.json``,
and of a user's scans ``held_out.csv``, those that validate.
"""

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from cervjax.about import __version__
from cervjax.data.cache import DataError
from cervjax.data.dataset import Landmarks, TrainSet, cache_folder, load_train_set
from cervjax.data.map_set import load_map_set
from cervjax.io.compiled import tend
from cervjax.io.lock import alone_in
from cervjax.io.written import adopt
from cervjax.model.weights import weights_path
from cervjax.training import checkpoint, parallel
from cervjax.training.config import check_same, load_config, normalisation
from cervjax.training.config_checks import check
from cervjax.training.metrics_log import Events, Progress, Table, open_table
from cervjax.training.run import (
    WEIGHTS,
    WRITTEN,
    Log,
    Run,
    check_begun,
    describe,
    evaluate,
    report,
)
from cervjax.training.setup import (
    check_start,
    initial_state,
    like_state,
    make_body,
    make_scanner,
    make_windows,
)
from cervjax.training.step import TrainState
from cervjax.training.validation import Best

OK, TERMINATED = 0, 143


def _print(text: str) -> None:
    print(text, flush=True)


def train(
    config: ConfigDict | str | Path,
    workdir: str | Path,
    init_from: str | Path | None = None,
    log: Log = _print,
) -> int:
    """Trains, or goes on training, in a work directory.

    Args:
        config: of the form of ``configs/dixon.py``; or its file, or the name of one of
            the package's configs, such as "dixon_cpu".
        workdir: of this run; made if need be. A run in it is resumed.
        init_from: weights to start from, see `load_weights`, or "shipped", the
            package's own; not read when resuming.
        log: receives lines of progress.

    Returns:
        `OK`, or `TERMINATED` after a signal, with everything saved.

    Raises:
        OthersFileError: a new run would replace a file that cervjax has not written.
        ConfigError: the config cannot be used, or the run in ``workdir`` has another.
        DataError: nor can the scans; also NiftiError, PairingError and WeightsError.
        CheckpointMismatch: the checkpoint is of another network or of other scans.
        DamagedCheckpoint: so is the only one there is; of several, the one before is
            taken.
        Diverged: not finite; the last good checkpoint is kept.
        OSError: a file cannot be written; the last good checkpoint is kept. Or another
            process trains there.
    """
    found = config if isinstance(config, ConfigDict) else load_config(config)
    weights = None if init_from is None else weights_path(init_from)
    return _train(found, Path(workdir), weights, log)


def _train(config: ConfigDict, workdir: Path, init_from: Path | None, log: Log) -> int:
    """Opens what a run needs, and runs the loop."""
    check(config)
    parallel.connect()
    parallel.check_batch(config.train.batch_size, config.train.accumulate)
    _keep_compiled_programs(config)
    workdir.mkdir(parents=True, exist_ok=True)
    log(f"cervjax {__version__} on {jax.device_count()} {jax.devices()[0].device_kind}")
    with alone_in(workdir) if parallel.is_first() else nullcontext():
        if parallel.is_first() and not (workdir / "checkpoints").exists():
            check_begun(workdir)
        while True:
            try:
                return _go_on(config, workdir, init_from, log)
            except checkpoint.DamagedCheckpoint as error:
                aside = checkpoint.set_aside(workdir / "checkpoints", error.step)
                if aside is None:
                    raise
                log(f"{error}: moved to {aside}; the one before it is taken")


def _go_on(config: ConfigDict, workdir: Path, init_from: Path | None, log: Log) -> int:
    """From the latest checkpoint, or from the beginning."""
    with checkpoint.open_checkpoints(workdir / "checkpoints") as checkpointer:
        latest = checkpointer.latest
        if latest is None:
            data = _load(config, _landmarks(config, init_from, log), log)
            state, best = initial_state(config, init_from, log), Best()
        else:  # everything is in the checkpoint, the weights it started from too
            record = checkpoint.read_record(checkpointer, latest.step)
            check_same(json.loads(config.to_json()), record["config"], workdir)
            landmarks = {k: tuple(v) for k, v in record["landmarks"].items()}
            data = _load(config, landmarks, log)
            checkpoint.check_scans(_scans(data), record["scans"], workdir)
            if parallel.is_first():
                adopt(workdir, WRITTEN)
            state, best = like_state(config), Best(**record["best"])
        with closing(iter(make_windows(config, data))) as iterator:
            if latest is not None:
                state = checkpoint.restore(checkpointer, latest.step, state, iterator)
                log(f"going on after step {latest.step}")
            _describe(config, state, data, workdir, log)
            done, first = int(state.step), parallel.is_first()
            run = Run(
                config,
                workdir,
                data,
                checkpointer,
                iterator,
                log,
                Progress(done, config.train.num_steps, config.train.batch_size),
                (_table(workdir, done), Events(workdir)) if first else None,
            )
            return _finished(run, _run_steps(run, state, best))


def _table(workdir: Path, done: int) -> Table:
    try:
        return open_table(workdir, done)
    except ValueError as error:
        raise DataError(str(error)) from error


def _run_steps(run: Run, state: TrainState, best: Best) -> int:
    """The loop: a step, now and then an evaluation and a checkpoint."""
    t, done = run.config.train, int(state.step)
    take_step = parallel.parallel_step(make_body(run.config))
    unread: tuple[int, Any] | None = None  # step and metrics
    saving = None
    with _termination() as terminated:
        try:
            while done < t.num_steps and not best.is_flat(t.patience):
                batch = run.progress.waiting_for(run.iterator)
                with run.progress.step(run.log):
                    state, metrics = take_step(state, parallel.share(batch))
                if unread is not None:  # while the devices work on this step
                    report(run, *unread)
                done += 1
                unread = (done, metrics)
                is_evaluated = done % t.eval_every == 0 or done == t.num_steps
                stop = terminated.is_set()
                if is_evaluated or stop or done % t.checkpoint_every == 0:
                    report(run, *unread)
                    unread = dice = None
                    if is_evaluated:
                        with run.progress.paused():
                            best, dice = evaluate(run, state, done, best)
                    _wait_for(saving, run.workdir)
                    saving = _save(run, state, done, best, dice)
                if stop:
                    run.log(f"terminated: saved after step {done}")
                    return TERMINATED
        finally:
            _wait_for(saving, run.workdir)
    if best.is_flat(t.patience):
        run.log(f"validation Dice is flat since step {best.step}")
    return OK


def _save(run: Run, state: TrainState, step: int, best: Best, dice: float | None):
    """Starts to save; `_wait_for` it before the next one."""
    record = {
        "config": json.loads(run.config.to_json()),
        "landmarks": asdict(run.data.recipe)["landmarks"],
        "scans": _scans(run.data),
        "best": asdict(best),
    }
    return checkpoint.save(
        run.checkpointer, step, state, run.iterator, record, dice=dice
    )


def _wait_for(saving: Any, workdir: Path) -> None:
    """Until a checkpoint is written."""
    try:
        if saving is not None:
            saving.result()
    except Exception as error:  # whatever the storage meets
        raise OSError(
            f"{workdir}: the checkpoint could not be written ({error}); make room and "
            "start the same command again: it goes on from the checkpoint before"
        ) from error


def _finished(run: Run, status: int) -> int:
    """Closes what is written to, and tells where the weights are."""
    if run.written:
        run.written[1].close()
    path = run.workdir / WEIGHTS
    if status == OK and not path.exists():
        raise FileNotFoundError(
            f"{path} was taken away, and the training has ended; train in another "
            "work directory, or put it back"
        )
    if status == OK:
        run.log(f"done: {path}")
    return status


def _load(config: ConfigDict, landmarks: Landmarks | None, log: Log) -> TrainSet:
    """The scans, or the tissue maps that are scanned on the way."""
    if "tissue_maps" in config:
        return load_map_set(config, make_scanner(config), log)
    return load_train_set(config.data, landmarks, log)


def _landmarks(config: ConfigDict, init_from: Any, log: Log) -> Landmarks | None:
    """The standard histogram that the weights to start from know, if there are any."""
    card = check_start(config, init_from)
    if card is None or normalisation(config) != "histogram":
        return None
    if config.data.get("landmarks"):
        return None
    log("standard histogram: that of the weights to start from")
    return dict(card.recipe.landmarks)


def _scans(data: TrainSet) -> dict[str, list[list[str]]]:
    """Name and hash of each prepared scan, for the checkpoint."""
    parts = {"train": data.maps or data.train, "validation": data.validation}
    return {part: [[v.name, v.sha256] for v in parts[part]] for part in parts}


def _describe(
    config: ConfigDict, state: TrainState, data: TrainSet, workdir: Path, log: Log
) -> None:
    numbers = sum(v.size for v in jax.tree.leaves(state.params))
    log(
        f"{numbers:,} parameters; {len(data.maps or data.train)} training, "
        f"{len(data.validation)} validation scan(s); windows "
        f"{tuple(config.data.window)}, batch {config.train.batch_size}"
    )
    log(f"results in {workdir}")
    if parallel.is_first():
        describe(config, data, workdir)


def _keep_compiled_programs(config: ConfigDict) -> None:
    if not getattr(jax.config, "jax_compilation_cache_dir"):  # noqa: B009
        folder = cache_folder(config.data) / "xla"
        tend(folder, is_ours=True)
        jax.config.update("jax_compilation_cache_dir", str(folder))


_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGHUP")
    if hasattr(signal, name)
]
"""After which the step is finished, and a checkpoint written."""


@contextmanager
def _termination() -> Iterator[threading.Event]:
    """An event that signals set instead of ending the process."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    kept = {s: signal.signal(s, lambda *_: event.set()) for s in _SIGNALS}
    try:
        yield event
    finally:
        for s, handler in kept.items():
            signal.signal(s, handler)
