"""Segmentation and measurement of one scan from Python: `cervjax.segment`, `measure`.

A scan is given as paths, as nibabel images, or as arrays along any axes with the affine
that tells where they lie.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jax import Array
from jaxtyping import Real

from cervjax.inference.ensemble import ensemble, prepare_members, segment_members
from cervjax.inference.measured import Segmented
from cervjax.inference.measured import measured as measured_result
from cervjax.inference.origin import Origin
from cervjax.inference.result import Result, Source, as_table
from cervjax.inference.stages import Stopwatch
from cervjax.io.dixon import dixon_images
from cervjax.io.files import sha256_of_file
from cervjax.io.labels import read_labels
from cervjax.io.nifti import NiftiImage, NiftiInput, image_of_array, read_nifti
from cervjax.io.scans import explicit_scan
from cervjax.measurement.calibration import Calibration, read_calibration
from cervjax.measurement.interval_table import Intervals, table_beside
from cervjax.measurement.scan import measure_scan
from cervjax.model.weights import SHIPPED, Weights, load_weights

Image = NiftiInput | Real[Array | np.ndarray, "i j k"]
"""A path, a nibabel image, or an array (i, j, k) that comes with ``affine=``."""

WeightsOf = Weights | str | Path

Affine = Real[Array | np.ndarray, "4 4"]


def segment(
    in_phase: Image,
    out_phase: Image,
    *,
    affine: Affine | None = None,
    weights: WeightsOf | Sequence[WeightsOf] | None = None,
    calibration: Calibration | str | Path | None = None,
    name: str | None = None,
    **settings: Any,
) -> Result:
    """Segments and measures one scan; the numbers are those of ``cervjax infer``.

    Args:
        in_phase: path, nibabel image, or array (i, j, k) of any real type and unit.
        out_phase: the same of the out-of-phase image, on the same grid.
        affine: (4, 4) voxel index to scanner mm (RAS+), for arrays.
        weights: path or loaded, or several whose probabilities are averaged; by default
            the package's own.
        calibration: path or read, see ``cervjax evaluate``.
        name: of the scan; by default that of the files, or "scan".
        settings: `Settings` and `RECIPE_SETTINGS` by name (``tta=4``); by default the
            weights'.

    Returns:
        Labels on the scan's own grid, vertebral levels, tables, warnings.

    Raises:
        ValueError: images, weights or settings cannot be used; not enough memory.
    """
    if isinstance(calibration, str | Path):
        calibration = read_calibration(Path(calibration))
    method = ensemble(_loaded(weights), calibration, **settings)
    method = method.with_intervals(_intervals_of(weights))
    given = {"in_phase": in_phase, "out_phase": out_phase}

    watch = Stopwatch()
    watch.begin("read")
    files = {role: _read(image, affine) for role, image in given.items()}
    images = dixon_images(files, measure_on=method.settings.measure_on)
    source = _source(given, files, name)
    watch.begin("prepare")
    prepared = prepare_members(images, method)
    watch.begin("compile")
    found, executed, warnings = segment_members(
        prepared,
        images.in_phase.shape,
        method,
        on_compiled=lambda: watch.begin("network"),
    )
    told = [*images.warnings, *warnings]
    origin = Origin.of_network(method, executed, source.sha256)
    segmented = Segmented(found, origin, told, watch.stop())
    tables = method.calibration, method.intervals
    return measured_result(source, images, segmented, *tables)


def measure(
    labels: Image,
    in_phase: Image,
    out_phase: Image,
    *,
    affine: Affine | None = None,
) -> Any:
    """Fat infiltration and volume of muscles that are drawn already.

    Args:
        labels: 0-14 (see `cervjax.anatomy`), on the grid of the images.
        in_phase: path, nibabel image, or array (i, j, k) of any real type and unit.
        out_phase: the same of the out-of-phase image.
        affine: (4, 4) voxel index to scanner mm (RAS+), for arrays.

    Returns:
        A row per muscle, as a pandas DataFrame or, without pandas, a list of dicts;
        columns as in `composition.measure`.

    Raises:
        ValueError: images or labels cannot be used, or lie on different grids.
    """
    files = {
        "in_phase": _read(in_phase, affine),
        "out_phase": _read(out_phase, affine),
    }
    images = dixon_images(files)
    drawn = read_labels(_image(labels, affine), images.grid, may_be_empty=True)
    rows, _ = measure_scan(drawn, images)
    return as_table(rows)


def _loaded(
    weights: WeightsOf | Sequence[WeightsOf] | None,
) -> dict[str, Weights]:
    """Weights by their file, or by their name."""
    if weights is None:
        weights = SHIPPED
    if isinstance(weights, Weights | str | Path):
        weights = [weights]
    found = {}
    for i, one in enumerate(weights, 1):
        if isinstance(one, Weights):
            found[f"{i}: {one.card.name}"] = one
        else:
            found[str(one)] = load_weights(one)
    return found


def _intervals_of(weights: object) -> Intervals | None:
    """The table beside a weights file, if there is one."""
    path = SHIPPED if weights is None else weights
    return table_beside(Path(path)) if isinstance(path, str | Path) else None


def _image(image: Image, affine: Affine | None) -> NiftiInput:
    """What `read_nifti` reads."""
    if isinstance(image, NiftiInput):
        return image
    if affine is None:
        raise ValueError(
            "an array alone does not tell left from right: give affine=, the (4, 4) "
            "matrix from voxel index to scanner mm (image.affine in nibabel)"
        )
    return image_of_array(np.asarray(image), np.asarray(affine))


def _read(image: Image, affine: Affine | None) -> NiftiImage:
    return read_nifti(_image(image, affine))


def _source(
    given: dict[str, Image], files: dict[str, NiftiImage], name: str | None
) -> Source:
    """Name and digests as the command has them, where all are files."""
    paths = [Path(p) for p in given.values() if isinstance(p, str | Path)]
    if len(paths) == len(given):
        scan = explicit_scan(*paths, name=name)
        digests = {role: sha256_of_file(path) for role, path in scan.files.items()}
        return Source(scan.name, {k: str(p) for k, p in scan.files.items()}, digests)
    digests = {
        role: hashlib.sha256(image.data.tobytes() + image.affine.tobytes()).hexdigest()
        for role, image in files.items()
    }
    return Source(name or "scan", {k: str(f.path) for k, f in files.items()}, digests)
