"""From scans to masks and measurements: one scan, and the loop over many."""

import errno
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import psutil

from cervjax import results
from cervjax.anatomy import MUSCLES
from cervjax.composition import measure, measure_slices
from cervjax.dixon import DixonImages, read_scan
from cervjax.figures import qc_figure, save_png
from cervjax.files import sha256_of_file
from cervjax.preprocess import Recipe, prepare, resample_labels, resampled_shape, unpad
from cervjax.scans import Problem, Scan
from cervjax.segment import (
    Segmentation,
    segment_whole,
    segment_windows,
    whole_memory_bytes,
)
from cervjax.volumes import write_labels
from cervjax.weights import Weights

Mode = Literal["whole", "windows"]
_WINDOWS_BYTES_PER_VOXEL = 60
"""Volumes held at once in windows mode: input, masks, labels, the spline's copies."""


@dataclass(frozen=True)
class Settings:
    """How the network is run.

    Attributes:
        mode: "whole" or "windows".
        window: voxels of a window.
        border: voxels cut from every side of a window.
        predict_border: keep a window's border where it is the volume's own.
        batch_size: windows in one pass.
        max_memory_gb: what the network may take; None means what is free.
    """

    mode: Mode
    window: tuple[int, int, int] = (360, 240, 32)
    border: tuple[int, int, int] = (8, 8, 8)
    predict_border: bool = False
    batch_size: int = 1
    max_memory_gb: float | None = None


@dataclass(frozen=True)
class Failure:
    """A scan without a result."""

    scan: str
    files: str
    error: str


def run(
    scans: Collection[Scan],
    problems: Collection[Problem],
    weights: Weights,
    recipe: Recipe,
    settings: Settings,
    out: Path,
    *,
    overwrite: bool = False,
    say: Callable[[str], object] = print,
    advance: Callable[[str], object] = lambda name: None,
) -> list[Failure]:
    """Segments and measures scans one after the other into a folder.

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
        say: receives lines for the user.
        advance: called with each finished scan's name.

    Returns:
        All failures, in order.
    """
    failures = [
        Failure(p.scan, "; ".join(map(str, p.files)), f"{p.message}; {p.mend}")
        for p in problems
    ]
    for failure in failures:
        say(f"FAILED {failure.scan}: {failure.error}")
    results.write_label_tables(out)
    try:
        for i, scan in enumerate(scans):
            error = _run_one(scan, weights, recipe, settings, out, overwrite, say)
            if error is not None:
                say(f"FAILED {scan.name}: {_explain(error)}")
                failures.append(_failure(scan, _explain(error)))
            if isinstance(error, OSError) and error.errno in _DISK_FULL:
                rest = list(scans)[i + 1 :]
                failures += [_failure(s, "not tried: the disk is full") for s in rest]
                break
            advance(scan.name)
    finally:
        results.write_tables(out)
        results.write_failures(out, [asdict(f) for f in failures])
    return failures


def segment_images(
    images: DixonImages, weights: Weights, recipe: Recipe, settings: Settings
) -> tuple[Segmentation, list[str], dict[str, float]]:
    """Labels and confidence on the scan's own grid, in RAS.

    Returns:
        The segmentation; warnings, among them a fall-back from whole to windows; the
        seconds that preprocessing and network took.
    """
    started = time.perf_counter()
    spacing = images.grid.spacing_mm
    settings, warnings = _within_memory(
        images.in_phase.shape, spacing, recipe, settings
    )
    prepared = prepare(images.in_phase, images.out_phase, spacing, recipe)
    ready = time.perf_counter()
    if settings.mode == "whole":
        found = segment_whole(weights.variables, prepared.image, recipe.padding)
    else:
        size = prepared.image.shape[:3]
        if any(n < w for n, w in zip(size, settings.window, strict=True)):
            warnings.append(
                f"the padded scan {size} is smaller than the window {settings.window} "
                "and was extended (NiftyNet stops here)"
            )
        found = segment_windows(
            weights.variables,
            prepared.image,
            window=settings.window,
            border=settings.border,
            predict_border=settings.predict_border,
            batch_size=settings.batch_size,
        )
        found = Segmentation(*(unpad(volume, recipe.padding) for volume in found))
    segmented = time.perf_counter()

    def back(volume: np.ndarray) -> np.ndarray:
        return resample_labels(
            volume,
            images.in_phase.shape,
            keep_last_plane=recipe.keep_last_plane,
        )

    seconds = {"preprocess": ready - started, "network": segmented - ready}
    return Segmentation(*map(back, found)), warnings, seconds


def measure_images(
    images: DixonImages, found: Segmentation
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows per muscle, and per muscle and slice."""
    grid, fat, water = images.grid, images.fat_water.fat, images.fat_water.water
    common = {"voxel_volume_ml": grid.voxel_volume_ml, "confidence": found.confidence}
    rows = measure(found.labels, fat, water, **common)
    centre = [(n - 1) / 2 for n in found.labels.shape[:2]]
    indices = np.arange(found.labels.shape[2])
    positions = grid.affine[2, :2] @ centre + grid.affine[2, 2] * indices
    slices = measure_slices(
        found.labels,
        fat,
        water,
        voxel_area_mm2=1000 * grid.voxel_volume_ml / grid.spacing_mm[2],
        slice_positions_mm=positions + grid.affine[2, 3],
        **common,
    )
    return rows, slices


def label_warnings(labels: np.ndarray, rows: list[dict[str, Any]]) -> list[str]:
    """Muscles that are absent, cut by the field of view, or on the wrong side."""
    names = [m.key for m in MUSCLES]
    absent = [n for n, row in zip(names, rows, strict=True) if not row["voxels"]]
    cut = [n for n, row in zip(names, rows, strict=True) if row["touches_fov_edge"]]
    per_x = np.stack([np.bincount(plane.ravel(), minlength=15) for plane in labels])
    with np.errstate(invalid="ignore"):
        x = (np.arange(len(labels)) @ per_x) / per_x.sum(0)
    # x grows towards the patient's right; right labels are odd, left ones follow them
    wrong = [m.abbreviation for m in MUSCLES[::2] if x[m.label] < x[m.label + 1]]
    found = []
    if absent:
        found.append(f"not found: {', '.join(absent)}")
    if cut:
        found.append(f"touches the edge of the field of view: {', '.join(cut)}")
    if wrong:
        found.append(f"left lies right of right: {', '.join(wrong)}; check the sides")
    return found


def device_name() -> str:
    """Where the network runs."""
    device = jax.devices()[0]
    threads = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    return f"cpu ({threads} cores)" if device.platform == "cpu" else device.device_kind


def _run_one(
    scan: Scan,
    weights: Weights,
    recipe: Recipe,
    settings: Settings,
    out: Path,
    overwrite: bool,
    say: Callable[[str], object],
) -> Exception | None:
    """One scan; whatever goes wrong with it is returned, so that the others go on."""
    try:
        run_settings = {**asdict(settings), "recipe": asdict(recipe)}
        run_settings.pop("max_memory_gb")
        identity = results.Identity(
            {role: sha256_of_file(p) for role, p in scan.files.items()},
            weights.sha256,
            results.plain(run_settings),
        )
        if not overwrite and results.is_done(out, scan.name, identity):
            say(f"{scan.name}: already done, skipped (--overwrite computes it again)")
            return None
        warnings = _segment_and_write(scan, weights, recipe, settings, out, identity)
        for warning in warnings:
            say(f"{scan.name}: {warning}")
    except Exception as error:  # the one place where a scan's failure must not spread
        return error
    return None


def _segment_and_write(
    scan: Scan,
    weights: Weights,
    recipe: Recipe,
    settings: Settings,
    out: Path,
    identity: results.Identity,
) -> list[str]:
    started = time.perf_counter()
    images = read_scan(scan)
    seconds = {"read": time.perf_counter() - started}
    found, warnings, spent = segment_images(images, weights, recipe, settings)
    measured = time.perf_counter()
    rows, slices = measure_images(images, found)
    warnings = [*images.warnings, *warnings, *label_warnings(found.labels, rows)]
    seconds |= spent | {"measure": time.perf_counter() - measured}

    writing = time.perf_counter()
    paths = results.paths(out, scan.name)
    paths.sidecar.unlink(missing_ok=True)  # it marks a result as complete: last
    write_labels(paths.labels, found.labels, images.grid)
    figure = qc_figure(
        images.fat_water.water,
        found.labels,
        spacing_mm=images.grid.spacing_mm,
        title=scan.name,
        subtitle="; ".join(warnings),
    )
    results.write_atomically(paths.qc, lambda part: save_png(figure, part))
    seconds["write"] = time.perf_counter() - writing
    results.write_sidecar(
        paths.sidecar,
        scan=scan,
        identity=identity,
        weights=weights,
        fat_water_source=images.fat_water.source,
        device=device_name(),
        seconds=seconds,
        warnings=warnings,
        rows=rows,
        slices=slices,
    )
    return warnings


def _within_memory(
    shape: tuple[int, ...],
    spacing_mm: tuple[float, float, float],
    recipe: Recipe,
    settings: Settings,
) -> tuple[Settings, list[str]]:
    """Falls back to windows, or refuses, before memory runs out."""
    padded = [
        n + 2 * p
        for n, p in zip(
            resampled_shape(shape, spacing_mm, recipe.spacing_mm),
            recipe.padding,
            strict=True,
        )
    ]
    free = (
        settings.max_memory_gb * 1e9
        if settings.max_memory_gb is not None
        else 0.9 * psutil.virtual_memory().available
    )
    least = float(np.prod(padded)) * _WINDOWS_BYTES_PER_VOXEL
    if least > free:
        raise ValueError(
            f"the scan is {tuple(padded)} voxels at the network's spacing and needs "
            f"{least / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; crop it, or look at "
            "the voxel size in its header"
        )
    need = whole_memory_bytes(tuple(padded))
    if settings.mode == "whole" and need > free:
        reason = (
            f"whole mode would need {need / 1e9:.1f} GB, {free / 1e9:.1f} GB are free: "
            f"windows of {settings.window} used instead"
        )
        return replace(settings, mode="windows"), [reason]
    return settings, []


_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def _failure(scan: Scan, error: str) -> Failure:
    return Failure(scan.name, "; ".join(map(str, scan.files.values())), error)


def _explain(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return f"the disk is full ({error.filename}); free some space and run again"
    if isinstance(error, ValueError):
        return str(error)
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return f"out of memory ({error}); use --mode windows or a smaller --window"
    return f"unexpected {type(error).__name__}: {error}"
