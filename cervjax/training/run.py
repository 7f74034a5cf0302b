"""One training run: what belongs to it, and what it writes down besides checkpoints."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from cervjax.about import NOTICE, __version__
from cervjax.data.cache import Volume
from cervjax.data.dataset import TrainSet
from cervjax.io.tables import read_rows, write_rows
from cervjax.io.written import OthersFileError, check_ours, written_together
from cervjax.model.card import NO_PATIENTS, ModelCard
from cervjax.model.weights import save_weights
from cervjax.training.config import (
    architecture,
    levels_rule,
    masks_at_levels,
    unknown_muscles,
)
from cervjax.training.curve import draw_curve, save_picture
from cervjax.training.metrics_log import (
    COLUMNS,
    TABLE,
    Events,
    Progress,
    Table,
    row_of_evaluation,
    row_of_step,
)
from cervjax.training.setup import make_model
from cervjax.training.step import TrainState
from cervjax.training.validation import Best, Way, dice_of_scans

WEIGHTS = "weights.safetensors"
CONFIG = "config.json"
_CURVE = "curve.png"
_HELD_OUT = "held_out.csv"
WRITTEN = (CONFIG, WEIGHTS, _CURVE, _HELD_OUT)
"""Files of a run that are replaced as it goes on."""
Log = Callable[[str], object]


class Diverged(FloatingPointError):
    """The loss or its gradient is not a finite number."""


@dataclass(frozen=True)
class Run:
    """What stays the same during a run.

    Attributes:
        config: of the form of ``configs/dixon.py``.
        workdir: the work directory.
        data: prepared scans.
        checkpointer: open.
        iterator: of grain, over batches of windows.
        log: receives lines of text.
        progress: the clock.
        written: the table and TensorBoard's events; None on all hosts but the first.
    """

    config: ConfigDict
    workdir: Path
    data: TrainSet
    checkpointer: Any
    iterator: Any
    log: Log
    progress: Progress
    written: tuple[Table, Events] | None


def check_begun(workdir: Path) -> None:
    """Looks for files that a new run would replace.

    Raises:
        OthersFileError: one of them was not written by cervjax.
    """
    check_ours(workdir, WRITTEN)
    table = workdir / TABLE
    try:
        if table.exists() and table.stat().st_size:  # of a run killed at its start?
            read_rows(table, required=COLUMNS, may_be_cut=True)
    except ValueError as error:
        raise OthersFileError(
            f"{error}; a run would replace it: give another --workdir"
        ) from error


def describe(config: ConfigDict, data: TrainSet, workdir: Path) -> None:
    """Writes the config, and which of a user's scans validate.

    The latter as ``infer --only`` reads a list of scans.
    """
    with written_together(workdir) as new:
        (new / CONFIG).write_text(config.to_json(indent=1) + "\n")
        if config.data.root and data.validation:
            rows = [{"scan": v.name, "person": v.participant} for v in data.validation]
            write_rows(new / _HELD_OUT, rows)


def check_finite(step: int, metrics: dict[str, Any]) -> None:
    """Refuses to go on from a loss or a gradient that is no number.

    Raises:
        Diverged: with what to do.
    """
    loss, norm = metrics["loss"], metrics["gradient_norm"]
    if not (np.isfinite(loss) and np.isfinite(norm)):
        raise Diverged(
            f"step {step}: loss {loss}, gradient norm {norm}; the checkpoint before it "
            "is kept; lower config.optimizer.learning_rate, or set clip_norm, and "
            "train again in another work directory"
        )


def report(run: Run, step: int, metrics: Any) -> None:
    """Reads the metrics of a step and writes them down."""
    values = jax.device_get(metrics)
    check_finite(step, values)
    if step % run.config.train.log_every == 0 and run.written:
        table, events = run.written
        row = row_of_step(step, values)
        text, speed = run.progress.line(step, row)
        table.append(row)
        events.write(step, "windows", row | speed)
        run.log(text)


def evaluate(run: Run, state: TrainState, step: int, best: Best) -> tuple[Best, float]:
    """Segments whole scans; exports the weights if they are the best so far.

    Or in any case, where ``train.export`` is "last": then no scan chooses them.

    All hosts evaluate, so that they agree on the best; the first one writes.

    Returns:
        The best, and the mean Dice of the scans that choose it.
    """
    network = make_model(run.config).clone(axis_name=None)
    variables = jax.device_get(state.variables)
    choosing, mean_dice = None, 0.0
    for part, volumes in _evaluated(run).items():
        dice, labels = dice_of_scans(network, variables, volumes, _way(run))
        dice[:, [label - 1 for label in unknown_muscles(run.config) or ()]] = np.nan
        row = row_of_evaluation(step, part, dice)
        if choosing is None:
            choosing, mean_dice = part, float(np.nan_to_num(row["dice_mean"]))
        text = f"Dice of {len(volumes)} {part} scan(s) {row['dice_mean']:.4f}"
        run.log(f"step {step}: {text}")
        if run.written and labels is not None:
            table, events = run.written
            table.append(row)
            events.write(step, part, row)
            path = run.workdir / "pictures" / f"{part}-{step:06d}.png"
            title = f"{volumes[0].name}, step {step}"
            save_picture(path, volumes[0], labels, run.data.recipe, (title, text))
    best = best.after(step, mean_dice)
    if run.written:
        chosen = run.config.train.get("export", "best") == "best"
        if best.step == step or not chosen:
            how = "chosen on it" if chosen else "not chosen on it"
            text = f"{choosing} Dice {mean_dice:.4f} ({how})"
            _export(run, variables, step, text)
        with written_together(run.workdir) as new:
            draw_curve(run.written[0], new / _CURVE)
    return best, mean_dice


def _way(run: Run) -> Way:
    """How the labels of scans to evaluate are found."""
    recipe = run.data.recipe
    return Way(recipe.padding, recipe.spacing_mm, masks_at_levels(run.config))


def _evaluated(run: Run) -> dict[str, list[Volume]]:
    """Scans to evaluate on; the first part chooses the weights."""
    e = run.config.eval
    parts = {
        "validation": run.data.validation[: e.validation_scans],
        "train": run.data.train[: e.train_scans],
    }
    return {name: volumes for name, volumes in parts.items() if volumes}


def _export(run: Run, variables: dict[str, Any], step: int, dice: str) -> None:
    is_users = bool(run.config.data.root)
    card = ModelCard(
        name=f"{run.workdir.name}-{step}",
        source=f"cervjax {__version__} train, step {step}, seed {run.config.seed}, "
        f"{dice}",
        trained_on=run.data.description,
        licence="that of the data" if is_users else "Apache-2.0",
        limits=NOTICE if is_users else NO_PATIENTS,
        mode="whole",
        recipe=run.data.recipe,
        architecture=architecture(run.config),
        levels_rule=levels_rule(run.config),
    )
    with written_together(run.workdir) as new:
        save_weights(new / WEIGHTS, variables, card)
