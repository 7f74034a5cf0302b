"""Many scans: overlapped, each alone in its failure, finished ones kept."""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cervjax.inference import results, standing
from cervjax.inference.ensemble import prepare_members, segment_members
from cervjax.inference.failures import DISK_FULL, Failure, Listener, failure_of
from cervjax.inference.given import edited_mask, given_levels
from cervjax.inference.levels import SliceLevels, levels_line
from cervjax.inference.measured import Segmented, measured
from cervjax.inference.method import Method
from cervjax.inference.origin import Origin
from cervjax.inference.result import Result, Source, pictures
from cervjax.inference.stages import Stopwatch
from cervjax.inference.types import Size
from cervjax.io.dixon import DixonImages, read_scan
from cervjax.io.files import sha256_of_file
from cervjax.io.level_files import levels_path
from cervjax.io.scans import Problem, Scan
from cervjax.measurement.maps import write_maps
from cervjax.preprocessing.pipeline import Prepared


@dataclass(frozen=True, eq=False)
class _Read:
    """A scan that is read and prepared."""

    source: Source
    images: DixonImages
    prepared: list[Prepared]
    levels: SliceLevels | None
    seconds: dict[str, float]
    notice: str


@dataclass(frozen=True, eq=False)
class _Drawn:
    """A scan that the network has drawn the muscles of."""

    source: Source
    images: DixonImages
    segmented: Segmented
    notice: str = ""


@dataclass(frozen=True)
class Outcome:
    """The end of a scan: lines for the user, and the seconds of its stages."""

    lines: tuple[str, ...]
    seconds: Mapping[str, float]


class NotTriedError(ValueError):
    """A scan that the full disk kept from being begun: its old result stands."""


Ends = Iterator[tuple[Scan, Outcome | Exception | Failure]]
"""Scans and their ends, as they come."""


def segment_scans(  # many: each is a flag of the command, or told
    scans: Collection[Scan],
    problems: Collection[Problem],
    method: Method,
    out: Path,
    *,
    overwrite: bool = False,
    discard_edits: bool = False,
    extras: Collection[str] = (),
    levels: Path | None = None,
    listener: Listener = Listener(),  # noqa: B008  frozen
    run: "Callable[[Stages, Collection[Scan]], Ends] | None" = None,
) -> list[Failure]:
    """Segments and measures scans into a folder.

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
        overwrite: compute scans again that have a result. A mask that was edited is
            kept and measured.
        discard_edits: draw such masks again, too.
        extras: of `result.EXTRAS`, to be written too.
        levels: file or folder of vertebral levels, see `level_files`, that stand above
            those that a network finds.
        listener: what is told.
        run: does the work; `one_after_the_other`, or that of `cluster`.

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
            standing.discard(out, failure.scan, failure.error)
        elif tried:
            standing.mark_failed(out, failure.scan, failure.error)

    work = Stages(method, out, overwrite, discard_edits, extras, levels, listener)
    try:
        for p in problems:
            files = "; ".join(map(str, p.files))
            fail(Failure(p.scan, files, f"{p.message}; {p.hint}"))
        for scan, outcome in (run or one_after_the_other)(work, scans):
            if isinstance(outcome, Outcome):
                for line in outcome.lines:
                    listener.log(f"{scan.name}: {line}")
                listener.on_finished(scan.name, outcome.seconds)
                continue
            tried = not isinstance(outcome, NotTriedError)
            is_told = isinstance(outcome, Failure)
            fail(outcome if is_told else failure_of(scan, outcome), tried=tried)
            listener.on_finished(scan.name, {})
    finally:
        failed = {failure.scan for failure in failures}
        order = {scan.name: place for place, scan in enumerate(scans)}
        failures.sort(key=lambda failure: order.get(failure.scan, -1))
        results.write_tables(out, shared, without=failed)
        results.write_failures(out, [failure.row() for failure in failures], names)
    return failures


def one_after_the_other(work: "Stages", scans: Collection[Scan]) -> Ends:
    """Works on scans in this process, in their order.

    While the network runs on one scan, the next one is read and preprocessed and the
    one before is measured and written; what comes out is the same as without.
    """
    full = threading.Event()
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        writer.submit(pictures)  # comes while the network is compiled
        read = _overlapped(reader, caught(work.read, full), scans)
        drawn = map(caught(work.draw, full), read)
        written = _overlapped(writer, caught(work.write, full), drawn)
        yield from zip(scans, written, strict=True)


@dataclass(frozen=True)
class Stages:
    """The stages of a scan: read, draw and write, each called in one thread at a time.

    Attributes are the arguments of `segment_scans`.
    """

    method: Method
    out: Path
    overwrite: bool
    discard_edits: bool
    extras: Collection[str]
    levels: Path | None
    listener: Listener

    def read(self, scan: Scan) -> _Read | _Drawn | Outcome:
        """Reads and prepares a scan, unless it has its result."""
        watch = self._watch(scan.name)
        watch.begin("read")
        paths = dict(scan.files)
        if self.levels is not None:
            paths["levels"] = levels_path(self.levels, scan.name)
        digests = {role: sha256_of_file(p) for role, p in paths.items()}
        found = standing.look_up(
            self.out,
            scan.name,
            self.method.identity(digests),
            overwrite=self.overwrite,
            discard_edits=self.discard_edits,
        )
        if found.done:
            if "maps" in self.extras:
                measure_on = self.method.settings.measure_on
                images = read_scan(scan, measure_on=measure_on)
                write_maps(self.out, scan.name, images)
            return Outcome((found.notice,), {})
        files = {role: str(path) for role, path in paths.items()}
        settings = self.method.settings
        images = read_scan(scan, measure_on=settings.measure_on)
        source = Source(scan.name, files, digests)
        levels = None
        if self.levels is not None:
            levels = given_levels(paths["levels"], images, scan.name)
        if found.edited is not None:
            told = [found.notice, *images.warnings]
            drawn, origin = edited_mask(
                self.out, source, images, found.edited, self.method
            )
            if levels is not None:
                drawn = drawn._replace(levels=levels)
            segmented = Segmented(drawn, origin, told, watch.stop())
            return _Drawn(source, images, segmented)
        watch.begin("prepare")
        prepared = prepare_members(images, self.method)
        return _Read(source, images, prepared, levels, watch.stop(), found.notice)

    def _watch(self, name: str) -> Stopwatch:
        return Stopwatch(lambda stage: self.listener.on_stage(name, stage))

    def draw(self, scan: _Read | _Drawn) -> _Drawn:
        """Runs the network, unless there is an edited mask."""
        if isinstance(scan, _Drawn):
            return scan
        watch = self._watch(scan.source.name)
        watch.begin("compile")
        found, executed, warnings = segment_members(
            scan.prepared,
            scan.images.in_phase.shape,
            self.method,
            on_compile=self._tell_compiling,
            on_compiled=lambda: watch.begin("network"),
            levels=scan.levels,
        )
        seconds = scan.seconds | watch.stop()
        told = [*scan.images.warnings, *warnings]
        origin = Origin.of_network(self.method, executed, scan.source.sha256)
        segmented = Segmented(found, origin, told, seconds)
        return _Drawn(scan.source, scan.images, segmented, scan.notice)

    def _tell_compiling(self, window: Size) -> None:
        size = "x".join(map(str, window))
        self.listener.log(f"compiling for scans of up to {size} voxels, once")

    def write(self, scan: _Drawn) -> Outcome:
        """Measures and writes."""
        self.listener.on_stage(scan.source.name, "measure")
        tables = self.method.calibration, self.method.intervals
        result = measured(scan.source, scan.images, scan.segmented, *tables)
        self.listener.on_stage(scan.source.name, "write")
        seconds = {**result.seconds, "write": self._written(result)}
        levels = () if result.levels is None else (levels_line(result.levels),)
        # Why it was done again is said, not written: a rerun leaves the same bytes.
        notices = (scan.notice,) if scan.notice else ()
        return Outcome((*levels, *notices, *result.warnings), seconds)

    def _written(self, result: Result) -> float:
        how = {"discard_edits": self.discard_edits, "extras": self.extras}
        return result.write(self.out, **how)


def caught(stage: Callable[[Any], Any], full: threading.Event) -> Callable[[Any], Any]:
    """The stage, but exceptions are returned, and passed on like a scan's end.

    This is the one place where the failure of a scan is kept from spreading. A full
    disk is for all: once met, it sets ``full`` and no other stage begins.
    """

    def run(value: Any) -> Any:
        if isinstance(value, Exception | Outcome):
            return value
        if full.is_set():
            return NotTriedError("not tried: the disk is full")
        try:
            return stage(value)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in DISK_FULL:
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
