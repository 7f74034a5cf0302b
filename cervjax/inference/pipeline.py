"""Many scans: overlapped, each alone in its failure, finished ones kept."""

import errno
import sys
import threading
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cervjax.inference import results
from cervjax.inference.levels import levels_line
from cervjax.inference.method import Method
from cervjax.inference.result import Segmented, Source, measured
from cervjax.inference.segment import prepare_images, segment_prepared
from cervjax.inference.stages import Stopwatch
from cervjax.io.dixon import DixonImages, read_scan
from cervjax.io.files import sha256_of_file
from cervjax.io.scans import Problem, Scan
from cervjax.preprocessing.pipeline import Prepared

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Failure:
    """A scan without a result.

    Attributes:
        scan: its name.
        files: its files, separated by semicolons.
        error: what is wrong and what to do.
        details: the traceback, where an exception was raised.
    """

    scan: str
    files: str
    error: str
    details: str = ""

    def row(self) -> dict[str, str]:
        """The row of ``failures.csv``."""
        return {"scan": self.scan, "files": self.files, "error": self.error}


def _print_failure(failure: Failure) -> None:
    print(f"FAILED {failure.scan}: {failure.error}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Listener:
    """What is called while scans are segmented.

    Attributes:
        log: with a line for the user.
        on_failure: with each scan that has no result.
        on_stage: with a scan's name and one of `stages.STAGES` that begins; called from
            several threads.
        on_finished: with a scan's name and the seconds of its stages, none if it was
            skipped or has failed.
    """

    log: Callable[[str], object] = print
    on_failure: Callable[[Failure], object] = _print_failure
    on_stage: Callable[[str, str], object] = lambda name, stage: None
    on_finished: Callable[[str, Mapping[str, float]], object] = lambda name, s: None


@dataclass(frozen=True, eq=False)
class _Read:
    """A scan that is read and prepared."""

    source: Source
    images: DixonImages
    prepared: Prepared
    seconds: dict[str, float]
    notice: str


@dataclass(frozen=True, eq=False)
class _Drawn:
    """A scan that the network has drawn the muscles of."""

    source: Source
    images: DixonImages
    segmented: Segmented


@dataclass(frozen=True)
class _Outcome:
    """The end of a scan."""

    lines: tuple[str, ...]
    seconds: Mapping[str, float]


class _NotTriedError(ValueError):
    """A scan that the full disk kept from being begun: its old result stands."""


def segment_scans(
    scans: Collection[Scan],
    problems: Collection[Problem],
    method: Method,
    out: Path,
    *,
    overwrite: bool = False,
    listener: Listener = Listener(),  # noqa: B008  frozen
) -> list[Failure]:
    """Segments and measures scans one after the other into a folder.

    While the network runs on one scan, the next one is read and preprocessed and the
    one before is measured and written; what comes out is the same as without.

    A scan that fails is recorded and the others go on; a full disk ends the run, since
    every other scan would meet it. The tables are rebuilt from the results of all
    scans in the folder, whatever ends the run, but for scans that have failed: of these
    an older result is removed if it was to be overwritten, else its files are kept and
    marked as failed.

    Args:
        scans: what to segment.
        problems: what was found not to be a scan; becomes failures.
        method: weights, preprocessing, settings, calibration.
        out: results folder; must exist.
        overwrite: compute scans again that have a result.
        listener: what is told.

    Returns:
        All failures, in order.

    Raises:
        ResultError: the folder holds results of other weights, settings or versions of
            cervjax, beside the scans that would be overwritten.
    """
    names = {scan.name for scan in scans} | {problem.scan for problem in problems}
    shared = method.identity({})
    results.check_folder(out, shared, replaced=names if overwrite else ())
    results.write_label_tables(out)
    failures: list[Failure] = []

    def fail(failure: Failure, *, tried: bool = True) -> None:
        failures.append(failure)
        listener.on_failure(failure)
        if tried and overwrite:
            results.discard(out, failure.scan)
        elif tried:
            results.mark_failed(out, failure.scan, failure.error)

    full = threading.Event()
    work = _Stages(method, out, overwrite, listener.on_stage)
    try:
        for p in problems:
            files = "; ".join(map(str, p.files))
            fail(Failure(p.scan, files, f"{p.message}; {p.hint}"))
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            read = _overlapped(reader, _caught(work.read, full), scans)
            drawn = map(_caught(work.draw, full), read)
            written = _overlapped(writer, _caught(work.write, full), drawn)
            for scan, outcome in zip(scans, written, strict=True):
                if isinstance(outcome, Exception):
                    tried = not isinstance(outcome, _NotTriedError)
                    fail(_failure(scan, outcome), tried=tried)
                    listener.on_finished(scan.name, {})
                else:
                    for line in outcome.lines:
                        listener.log(f"{scan.name}: {line}")
                    listener.on_finished(scan.name, outcome.seconds)
    finally:
        failed = {failure.scan for failure in failures}
        results.write_tables(out, shared, without=failed)
        results.write_failures(out, [failure.row() for failure in failures])
    return failures


@dataclass(frozen=True)
class _Stages:
    """The stages of a scan, each called in a thread of its own."""

    method: Method
    out: Path
    overwrite: bool
    on_stage: Callable[[str, str], object]

    def read(self, scan: Scan) -> _Read | _Outcome:
        """Reads and prepares a scan, unless it has its result."""
        watch = self._watch(scan.name)
        watch.begin("read")
        digests = {role: sha256_of_file(p) for role, p in scan.files.items()}
        notice = ""
        if not self.overwrite:
            identity = self.method.identity(digests)
            done, notice = results.look_up(self.out, scan.name, identity)
            if done:
                return _Outcome((notice,), {})
        files = {role: str(path) for role, path in scan.files.items()}
        settings = self.method.settings
        images = read_scan(scan, measure_on=settings.measure_on)
        watch.begin("prepare")
        prepared = prepare_images(images, self.method.recipe, settings)
        seconds = watch.stop()
        source = Source(scan.name, files, digests)
        return _Read(source, images, prepared, seconds, notice)

    def _watch(self, name: str) -> Stopwatch:
        return Stopwatch(lambda stage: self.on_stage(name, stage))

    def draw(self, scan: _Read) -> _Drawn:
        """Runs the network."""
        watch = self._watch(scan.source.name)
        watch.begin("compile")
        found, executed, warnings = segment_prepared(
            scan.prepared,
            scan.images.in_phase.shape,
            self.method.weights,
            self.method.recipe,
            self.method.settings,
            on_compiled=lambda: watch.begin("network"),
        )
        seconds = scan.seconds | watch.stop()
        notices = [scan.notice] if scan.notice else []
        told = [*notices, *scan.images.warnings, *warnings]
        segmented = Segmented(found, executed, told, seconds)
        return _Drawn(scan.source, scan.images, segmented)

    def write(self, scan: _Drawn) -> _Outcome:
        """Measures and writes."""
        self.on_stage(scan.source.name, "measure")
        result = measured(scan.source, scan.images, scan.segmented, self.method)
        self.on_stage(scan.source.name, "write")
        seconds = {**result.seconds, "write": result.write(self.out)}
        levels = () if result.levels is None else (levels_line(result.levels),)
        return _Outcome((*levels, *result.warnings), seconds)


def _caught(stage: Callable[[Any], Any], full: threading.Event) -> Callable[[Any], Any]:
    """The stage, but exceptions are returned, and passed on like a scan's end.

    This is the one place where the failure of a scan is kept from spreading. A full
    disk is for all: once met, it sets ``full`` and no other stage begins.
    """

    def run(value: Any) -> Any:
        if isinstance(value, Exception | _Outcome):
            return value
        if full.is_set():
            return _NotTriedError("not tried: the disk is full")
        try:
            return stage(value)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _DISK_FULL:
                full.set()
            return error

    return run


def _overlapped(pool: Executor, stage: Callable, values: Iterable) -> Iterator:
    """Maps a stage in the background; gives a result when the next value has come."""
    ahead: Future | None = None
    for value in values:
        now, ahead = ahead, pool.submit(stage, value)
        if now is not None:
            yield now.result()
    if ahead is not None:
        yield ahead.result()


def _failure(scan: Scan, error: Exception) -> Failure:
    files = "; ".join(map(str, scan.files.values()))
    details = "".join(traceback.format_exception(error))
    return Failure(scan.name, files, _explain(error), details)


def _explain(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return f"the disk is full ({error.filename}); free some space and run again"
    if isinstance(error, ValueError):
        return str(error)
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return (
            f"out of memory ({error}); use --mode sliding_window or a smaller --window"
        )
    return f"unexpected {type(error).__name__}: {error}"
