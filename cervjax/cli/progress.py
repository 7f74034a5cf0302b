"""How far a batch of scans is: a bar on a terminal, lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping

from cervjax.inference.pipeline import Failure, Listener
from cervjax.inference.stages import STAGES

_SHARES = dict(zip(STAGES, (0.05, 0.15, 0.0, 0.6, 0.1, 0.1), strict=True))
"""Of a scan's work, for the bar; compiling is done for the first one."""


# long: functions that share one bar and its counts
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
    shown = console.is_terminal and not quiet
    started, stages, finished, counted = time.perf_counter(), {}, [], []
    with Progress(
        *columns,
        console=console,
        redirect_stdout=sys.stdout.isatty(),
        disable=not shown,
    ) as bar:
        task = bar.add_task("", total=total)

        def log(text: str) -> None:
            if not quiet:
                print(text, flush=True)

        def show() -> None:
            done = sum(map(_share_before, list(stages.values()))) + len(finished)
            now = ", ".join(f"{name}: {stage}" for name, stage in list(stages.items()))
            bar.update(task, completed=done, description=now)

        def on_stage(name: str, stage: str) -> None:
            stages[name] = stage
            show()

        def on_failure(failure: Failure) -> None:
            text = f"FAILED {failure.scan}: {failure.error}"
            if debug and failure.details:
                text += f"\n{failure.details}"
            print(text, file=sys.stderr, flush=True)

        def on_finished(name: str, seconds: Mapping[str, float]) -> None:
            stages.pop(name, None)
            finished.append(name)
            show()
            if not seconds:
                return
            counted.append(name)
            line = f"{name}: done in {sum(seconds.values()):.1f} s"
            if verbose:
                parts = ", ".join(f"{k} {s:.2f} s" for k, s in seconds.items())
                line += f" ({parts})"
            left = total - len(finished)
            if left:
                each = (time.perf_counter() - started) / len(counted)
                line += f"; {len(finished)}/{total}, about {_told(left * each)} left"
            log(line)

        yield Listener(log, on_failure, on_stage, on_finished)


def _share_before(stage: str) -> float:
    return sum(_SHARES[s] for s in STAGES[: STAGES.index(stage)])


def _told(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"
