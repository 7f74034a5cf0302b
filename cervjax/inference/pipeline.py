"""Many scans: overlapped, each alone in its failure, finished ones kept."""

import errno
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cervjax.figures.quality import qc_figure, save_png
from cervjax.inference import results
from cervjax.inference.memory import device_name
from cervjax.inference.segment import prepare_images, segment_prepared
from cervjax.inference.types import Segmentation, Settings
from cervjax.io.dixon import DixonImages, exchange_warnings, read_scan
from cervjax.io.files import sha256_of_file
from cervjax.io.nifti import write_labels
from cervjax.io.scans import Problem, Scan
from cervjax.measurement.calibration import Calibration, calibrated
from cervjax.measurement.scan import label_warnings, measure_scan
from cervjax.model.weights import Weights
from cervjax.preprocessing.pipeline import Prepared, Recipe

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Failure:
    """A scan without a result."""

    scan: str
    files: str
    error: str


@dataclass(frozen=True, eq=False)
class _Work:
    """A scan on its way: read and prepared, then segmented."""

    scan: Scan
    identity: results.Identity
    images: DixonImages
    prepared: Prepared | None
    found: Segmentation | None
    warnings: tuple[str, ...]
    seconds: dict[str, float]


def run(
    scans: Collection[Scan],
    problems: Collection[Problem],
    weights: Weights,
    recipe: Recipe,
    settings: Settings,
    out: Path,
    *,
    overwrite: bool = False,
    calibration: Calibration | None = None,
    log: Callable[[str], object] = print,
    on_progress: Callable[[str], object] = lambda name: None,
) -> list[Failure]:
    """Segments and measures scans one after the other into a folder.

    While the network runs on one scan, the next one is read and preprocessed and the
    one before is measured and written; what comes out is the same as without.

    A scan that fails is recorded and the others go on; a full disk ends the run, since
    every other scan would meet it. The tables are rebuilt from the results of all
    scans in the folder, whatever ends the run.

    Args:
        scans: what to segment.
        problems: what was found not to be a scan; becomes failures.
        weights: network and card.
        recipe: preprocessing, the card's unless overridden.
        settings: how to run.
        out: results folder; must exist.
        overwrite: compute scans again that have a result.
        calibration: slopes, for calibrated values beside the measured ones.
        log: receives lines for the user.
        on_progress: called with each finished scan's name.

    Returns:
        All failures, in order.
    """
    failures = [
        Failure(p.scan, "; ".join(map(str, p.files)), f"{p.message}; {p.hint}")
        for p in problems
    ]
    for failure in failures:
        log(f"FAILED {failure.scan}: {failure.error}")
    results.write_label_tables(out)

    def read(scan: Scan) -> _Work | None:
        identity = _identity(scan, weights, recipe, settings, calibration)
        if not overwrite and results.is_done(out, scan.name, identity):
            return None
        return _read(scan, identity, recipe, settings)

    def segment(work: _Work) -> _Work:
        return _segment(work, weights, recipe, settings)

    def write(work: _Work) -> tuple[str, ...]:
        return _measure_and_write(work, weights, calibration, out)

    full = threading.Event()
    try:
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            works = _overlapped(reader, _caught(read, full), scans)
            segmented = map(_caught(segment, full), works)
            written = _overlapped(writer, _caught(write, full), segmented)
            for scan, outcome in zip(scans, written, strict=True):
                if outcome is None:
                    name = scan.name
                    log(
                        f"{name}: already done, skipped (--overwrite computes it again)"
                    )
                elif isinstance(outcome, Exception):
                    log(f"FAILED {scan.name}: {_explain(outcome)}")
                    files = "; ".join(map(str, scan.files.values()))
                    failures.append(Failure(scan.name, files, _explain(outcome)))
                else:
                    for warning in outcome:
                        log(f"{scan.name}: {warning}")
                on_progress(scan.name)
    finally:
        results.write_tables(out)
        results.write_failures(out, [asdict(f) for f in failures])
    return failures


def _caught(stage: Callable[[Any], Any], full: threading.Event) -> Callable[[Any], Any]:
    """The stage, but exceptions are returned, and passed on like None (nothing to do).

    This is the one place where the failure of a scan is kept from spreading. A full
    disk is for all: once met, it sets ``full`` and no other stage begins.
    """

    def run(value: Any) -> Any:
        if value is None or isinstance(value, Exception):
            return value
        if full.is_set():
            return ValueError("not tried: the disk is full")
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


def _identity(
    scan: Scan,
    weights: Weights,
    recipe: Recipe,
    settings: Settings,
    calibration: Calibration | None,
) -> results.Identity:
    run_settings = {**asdict(settings), "recipe": asdict(recipe)}
    if calibration is not None:
        run_settings["calibration_sha256"] = calibration.sha256
    run_settings.pop("max_memory_gb")
    return results.Identity(
        {role: sha256_of_file(p) for role, p in scan.files.items()},
        weights.sha256,
        results.plain(run_settings),
    )


def _read(
    scan: Scan, identity: results.Identity, recipe: Recipe, settings: Settings
) -> _Work:
    started = time.perf_counter()
    images = read_scan(scan, measure_on=settings.measure_on)
    read = time.perf_counter()
    prepared = prepare_images(images, recipe, settings)
    seconds = {"read": read - started, "preprocess": time.perf_counter() - read}
    return _Work(scan, identity, images, prepared, None, images.warnings, seconds)


def _segment(
    work: _Work, weights: Weights, recipe: Recipe, settings: Settings
) -> _Work:
    assert work.prepared is not None
    started = time.perf_counter()
    shape = work.images.in_phase.shape
    found, _, new = segment_prepared(work.prepared, shape, weights, recipe, settings)
    seconds = work.seconds | {"network": time.perf_counter() - started}
    warnings = (*work.warnings, *new)
    return replace(work, prepared=None, found=found, warnings=warnings, seconds=seconds)


def _measure_and_write(
    work: _Work, weights: Weights, calibration: Calibration | None, out: Path
) -> tuple[str, ...]:
    assert work.found is not None
    started = time.perf_counter()
    images, found = work.images, work.found
    rows, slices = measure_scan(found.labels, images, found.confidence)
    if calibration is not None:
        rows = calibrated(rows, calibration)
    warnings = [
        *work.warnings,
        *exchange_warnings(found.labels, images),
        *label_warnings(found.labels, rows),
    ]
    measured = time.perf_counter()

    paths = results.paths(out, work.scan.name)
    paths.sidecar.unlink(missing_ok=True)  # it marks a result as complete: last
    write_labels(paths.labels, found.labels, images.grid)
    figure = qc_figure(
        images.fat_water.water,
        found.labels,
        spacing_mm=images.grid.spacing_mm,
        title=work.scan.name,
        subtitle="; ".join(warnings),
    )
    save_png(figure, paths.qc)
    written = time.perf_counter()
    seconds = {"measure": measured - started, "write": written - measured}
    results.write_sidecar(
        paths.sidecar,
        scan=work.scan,
        identity=work.identity,
        weights=weights,
        fat_water_source=images.fat_water.source,
        device=device_name(),
        seconds=work.seconds | seconds,
        warnings=warnings,
        rows=rows,
        slices=slices,
    )
    return tuple(warnings)


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
