"""What a run shows of itself: a table, TensorBoard's events, pictures, progress.

``metrics.csv`` holds numbers that the run's seed determines and no times, so that a
resumed run writes the same file as one that was never stopped.
"""

import csv
import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cervjax.anatomy import MUSCLES
from cervjax.io.files import write_atomically

COLUMNS = (
    "step",
    "split",
    "loss",
    "gradient_norm",
    "dice_mean",
    *(f"dice_{m.key}" for m in MUSCLES),
)
TABLE = "metrics.csv"


def row_of_step(step: int, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Row of a training step; Dice is the soft one of its windows."""
    dice = np.asarray(metrics["soft_dice"], np.float64)[1:]
    scalars = {k: float(metrics[k]) for k in ("loss", "gradient_norm")}
    return {"step": step, "split": "windows", **scalars, **_dice_columns(dice)}


def row_of_evaluation(step: int, split: str, dice: np.ndarray) -> dict[str, Any]:
    """Row of an evaluation: per muscle the mean over scans, ``dice`` (scans, 14)."""
    with np.errstate(invalid="ignore"):
        known = np.isfinite(dice)
        mean = np.where(known, dice, 0).sum(0) / known.sum(0)
    return {"step": step, "split": split, **_dice_columns(mean)}


def _dice_columns(dice: np.ndarray) -> dict[str, float]:
    columns = {"dice_mean": float(np.nanmean(dice))}
    return columns | {
        f"dice_{m.key}": float(d) for m, d in zip(MUSCLES, dice, strict=True)
    }


class Table:
    """The rows of ``metrics.csv``: appended to, cut back when a run resumes."""

    def __init__(self, folder: Path, steps_done: int):
        """Opens the table of a run that has done so many steps."""
        self._path = folder / TABLE
        self.rows: list[dict[str, str]] = []
        if self._path.exists() and steps_done:
            with open(self._path, newline="") as stream:
                rows = csv.DictReader(stream)
                self.rows = [r for r in rows if _is_whole(r, steps_done)]
        write_atomically(self._path, self._write)

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds one row to the file."""
        text = {k: _text(row.get(k, "")) for k in COLUMNS}
        self.rows.append(text)
        buffer = io.StringIO()
        csv.DictWriter(buffer, COLUMNS, lineterminator="\n").writerow(text)
        with open(self._path, "a") as stream:
            stream.write(buffer.getvalue())

    def series(self, split: str, column: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values of a column; missing values are NaN."""
        rows = [r for r in self.rows if r["split"] == split]
        values = [float(r[column]) if r[column] else np.nan for r in rows]
        return np.array([int(r["step"]) for r in rows]), np.array(values)

    def _write(self, path: Path) -> None:
        with open(path, "w") as stream:
            writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)


def _is_whole(row: Mapping[str, Any], steps_done: int) -> bool:
    """Whether a row was written whole (a kill may cut one) and is not of the future."""
    whole = len(row) == len(COLUMNS) and None not in row.values()
    return whole and row["step"].isdigit() and int(row["step"]) <= steps_done


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.9g}"
    return str(value)


class Progress:
    """Speed, shares of time spent waiting for data and augmenting, and time left.

    Attributes:
        waited: seconds spent waiting for data.
        aside: seconds spent on evaluation and the like.
        augmenting: seconds of a step that the augmentation takes, None until known.
    """

    def __init__(self, start_step: int, num_steps: int, batch_size: int):
        """Starts the clock."""
        self._first, self._last, self._batch = start_step, num_steps, batch_size
        self._start = self._mark = time.perf_counter()
        self._marked_step = start_step
        self.waited = self.aside = 0.0
        self.augmenting: float | None = None
        self._waited_before = self._aside_before = 0.0

    def line(self, step: int, row: Mapping[str, Any]) -> tuple[str, dict[str, float]]:
        """Describes the steps since the last line.

        Evaluation and the like (`aside`) do not count as training time.
        """
        now = time.perf_counter()
        aside = self.aside - self._aside_before
        seconds = max(now - self._mark - aside, 1e-9)
        steps = max(step - self._marked_step, 1)
        speed = steps * self._batch / seconds
        waiting = (self.waited - self._waited_before) / seconds
        augmenting = (self.augmenting or 0.0) * steps / seconds
        left = (self._last - step) * (now - self._start) / max(step - self._first, 1)
        self._mark, self._marked_step = now, step
        self._waited_before, self._aside_before = self.waited, self.aside
        text = (
            f"step {step}/{self._last}  loss {row['loss']:.4f}  "
            f"soft Dice {row['dice_mean']:.3f}  {speed:.2f} windows/s  "
            f"waiting for data {100 * waiting:.1f} %  "
            f"augmenting {100 * augmenting:.0f} %  "
            f"left {_duration(left)}"
        )
        return text, {
            "windows_per_second": speed,
            "waiting_share": waiting,
            "augmenting_share": augmenting,
        }


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


class Events:
    """TensorBoard's event file."""

    def __init__(self, folder: Path):
        """Opens a new file in ``folder/events``."""
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder / "events"), flush_secs=30)

    def write(self, step: int, split: str, values: Mapping[str, Any]) -> None:
        """Writes the numbers among the values."""
        for name, value in values.items():
            if isinstance(value, float) and np.isfinite(value):
                self._writer.add_scalar(f"{split}/{name}", value, step)

    def close(self) -> None:
        """Writes out what is left."""
        self._writer.close()


def best_of(table: Table, splits: Sequence[str]) -> tuple[int, float]:
    """Step and Dice of the best evaluation of the first split that has any."""
    for split in splits:
        steps, dice = table.series(split, "dice_mean")
        if len(dice) and np.isfinite(dice).any():
            k = int(np.nanargmax(dice))
            return int(steps[k]), float(dice[k])
    return -1, float("nan")
