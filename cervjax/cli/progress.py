"""How far a batch of scans is: a bar on a terminal, lines elsewhere."""

import contextlib
import functools
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from cervjax.cli.flags import OK, SOME_FAILED
from cervjax.inference.failures import Failure, Listener
from cervjax.inference.results import FAILURES, verdicts
from cervjax.inference.stages import STAGES

_SHARES = dict(zip(STAGES, (0.05, 0.15, 0.0, 0.6, 0.1, 0.1), strict=True))
"""Of a scan's work, for the bar; compiling is done for the first one."""


@contextlib.contextmanager
def scan_listener(
    total: int, *, quiet: bool = False, verbose: bool = False, debug: bool = False
) -> Iterator[Listener]:
    """What `segment_scans` tells, on stdout and stderr.

    Failures go to stderr, all else to stdout; a terminal gets a bar on stderr with the
    stage of each scan under way and the time left, a file gets the time left with each
    finished scan.

    Args:
        total: number of scans.
        quiet: nothing but failures.
        verbose: the seconds of each stage.
        debug: tracebacks of failures.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("scans {task.description}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(
        *columns,
        console=console,
        redirect_stdout=sys.stdout.isatty(),
        disable=quiet or not console.is_terminal,
    ) as bar:
        task = bar.add_task("", total=total)
        show = functools.partial(bar.update, task)
        account = _Account(total, show, quiet=quiet, verbose=verbose, debug=debug)
        yield Listener(
            account.log, account.on_failure, account.on_stage, account.on_finished
        )


def end_of_run(out: Path, names: Collection[str], failed: bool) -> int:
    """Tells how much may be used; the exit status.

    Args:
        out: results folder.
        names: of the run's scans.
        failed: some have no result.
    """
    found = verdicts(out, names)
    print(found.line())
    if failed:
        print(f"see {out / FAILURES}", file=sys.stderr)
    return SOME_FAILED if failed or found.unusable else OK


class _Account:
    """How far each scan is; the methods are those of a `Listener`.

    Args:
        total: number of scans.
        show: takes the bar's scans ``completed`` and its ``description``.
        flags: of `scan_listener`.
    """

    def __init__(self, total: int, show: Callable[..., object], **flags: bool):
        self._total, self._show, self._flags = total, show, flags
        self._started = time.perf_counter()
        self._stages: dict[str, str] = {}
        self._finished = self._counted = 0
        self._compiling = 0.0

    def log(self, text: str) -> None:
        if not self._flags["quiet"]:
            print(text, flush=True)

    def on_failure(self, failure: Failure) -> None:
        text = f"FAILED {failure.scan}: {failure.error}"
        if self._flags["debug"] and failure.details:
            text += f"\n{failure.details}"
        print(text, file=sys.stderr, flush=True)

    def on_stage(self, name: str, stage: str) -> None:
        self._stages[name] = stage
        self._update()

    def on_finished(self, name: str, seconds: Mapping[str, float]) -> None:
        self._stages.pop(name, None)
        self._finished += 1
        self._update()
        if not seconds:
            return
        line = f"{name}: done in {sum(seconds.values()):.1f} s"
        if self._flags["verbose"]:
            parts = ", ".join(f"{k} {s:.2f} s" for k, s in seconds.items())
            line += f" ({parts})"
        self._counted += 1
        self._compiling += seconds.get("compile", 0.0)
        left = self._total - self._finished
        if left:
            # Compiling is done once, and tells nothing of the scans to come.
            spent = time.perf_counter() - self._started - self._compiling
            told = _told(left * spent / self._counted)
            line += f"; {self._finished}/{self._total}, about {told} left"
        self.log(line)

    def _update(self) -> None:
        under_way = list(self._stages.items())  # others may add to it meanwhile
        done = self._finished + sum(_share_before(stage) for _, stage in under_way)
        now = ", ".join(f"{name}: {stage}" for name, stage in under_way)
        self._show(completed=done, description=now)


def _share_before(stage: str) -> float:
    return sum(_SHARES[s] for s in STAGES[: STAGES.index(stage)])


def _told(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"
