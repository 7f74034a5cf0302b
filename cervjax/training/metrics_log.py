"""What a run shows of itself: a table, TensorBoard's events, lines of progress.

``metrics.csv`` holds numbers that the run's seed determines and no times, so that a
resumed run writes the same file as one that was never stopped.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from cervjax.anatomy import MUSCLES
from cervjax.io.tables import as_text, read_rows, write_rows

T = TypeVar("T")

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
    dice = np.asarray(metrics["soft_dice"], np.float64)[1 : 1 + len(MUSCLES)]
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


def open_table(folder: Path, steps_done: int) -> "Table":
    """Opens the table of a run that has done so many steps; later rows are removed.

    A resumed run writes them again. The file is made if need be.

    Raises:
        ValueError: what is there is no such table.
    """
    path, rows = folder / TABLE, []
    if path.exists() and steps_done:
        found = read_rows(path, required=COLUMNS, may_be_cut=True)  # a kill may cut it
        rows = [r for line, r in found if _was_done(r, steps_done, path, line)]
    write_rows(path, rows, COLUMNS)
    return Table(path, rows)


@dataclass(frozen=True)
class Table:
    """The rows of ``metrics.csv``, of `open_table`.

    Attributes:
        path: the file.
        rows: texts by column.
    """

    path: Path
    rows: list[dict[str, str]]

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds one row to the file."""
        text = {k: _text(row.get(k, "")) for k in COLUMNS}
        self.rows.append(text)
        with open(self.path, "a") as stream:
            stream.write(as_text([text], COLUMNS))

    def series(self, split: str, column: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values of a column; missing values are NaN."""
        rows = [r for r in self.rows if r["split"] == split]
        values = [float(r[column]) if r[column] else np.nan for r in rows]
        return np.array([int(r["step"]) for r in rows]), np.array(values)


def _was_done(row: Mapping[str, str], steps_done: int, path: Path, line: int) -> bool:
    """Whether a row is not of the future; raises ValueError if it is none."""
    try:
        for column in COLUMNS[2:]:
            float(row[column] or "nan")
        return int(row["step"]) <= steps_done
    except ValueError:
        raise ValueError(
            f"{path}, line {line}: not a row of this table; correct it, or move the "
            "file away: training goes on without it"
        ) from None


def _text(value: Any) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.9g}"
    return str(value)


class Progress:
    """Speed, time spent waiting for data, and time left; a clock."""

    def __init__(
        self,
        first: int,
        last: int,
        batch_size: int,
        clock: Callable[[], float] = time.perf_counter,
    ):
        """Starts the clock.

        Args:
            first: steps done.
            last: steps to be done in all.
            batch_size: windows in a step.
            clock: seconds.
        """
        self._first, self._last, self._batch = first, last, batch_size
        self._clock = clock
        self._start = self._mark = clock()
        self._marked_step = first
        self._waited = self._paused = 0.0  # since the last line
        self._has_begun = False

    @contextmanager
    def step(self, log: Callable[[str], object]) -> Iterator[None]:
        """A step: the first one waits until its program is there, which does not count.

        Args:
            log: is told so before.
        """
        if self._has_begun:
            yield
            return
        self._has_begun = True
        log("compiling the training step: minutes the first time, then it is kept")
        start = self._clock()
        yield
        spent = self._clock() - start
        self._paused += spent
        self._start += spent

    def waiting_for(self, iterator: Iterator[T]) -> T:
        """The next batch; the time it takes counts as waiting."""
        start = self._clock()
        batch = next(iterator)
        self._waited += self._clock() - start
        return batch

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Evaluation and the like do not count as training."""
        start = self._clock()
        yield
        self._paused += self._clock() - start

    def line(self, step: int, row: Mapping[str, Any]) -> tuple[str, dict[str, float]]:
        """Describes the steps since the last line, as text and as numbers."""
        now = self._clock()
        seconds = max(now - self._mark - self._paused, 1e-9)
        speed = max(step - self._marked_step, 1) * self._batch / seconds
        waiting = self._waited / seconds
        left = (self._last - step) * (now - self._start) / max(step - self._first, 1)
        self._mark, self._marked_step = now, step
        self._waited = self._paused = 0.0
        text = (
            f"step {step}/{self._last}  loss {row['loss']:.4f}  "
            f"soft Dice {row['dice_mean']:.3f}  {speed:.2f} windows/s  "
            f"waiting for data {100 * waiting:.1f} %  left {_duration(left)}"
        )
        return text, {"windows_per_second": speed, "waiting_share": waiting}


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
