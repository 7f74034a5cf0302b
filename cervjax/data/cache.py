"""Prepared volumes, kept on disk: the network's input, computed once."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cervjax.anatomy import IGNORED, NUM_CLASSES
from cervjax.data.entry import CacheError, DataError, read_record, write_entry
from cervjax.io.dixon import DixonImages, read_scan
from cervjax.io.echo_checks import exchanged_phases
from cervjax.io.files import sha256_of_file
from cervjax.io.label_sets import PAPER, LabelSet, read_label_set
from cervjax.io.labels import LabelledScan, exchanged_sides, read_labels
from cervjax.io.scans import Scan
from cervjax.preprocessing.histogram import CHANNELS, train_landmarks
from cervjax.preprocessing.pipeline import Recipe, pad, prepare, to_network_grid
from cervjax.preprocessing.resampling import resample_labels

VOXELS_PER_CLASS = 4000
"""Places kept of each class, to draw windows from."""

_FORMAT = 3  # of an entry; raise it when `prepare` gives or refuses others


class Volume(NamedTuple):
    """A prepared scan in the cache.

    Attributes:
        name: the scan's.
        participant: whose scan it is.
        image: .npy file, float32 (x, y, z, 2), exactly what `prepare` gives.
        labels: .npy file, uint8 (x, y, z), 0-14 or `IGNORED`, 0 in the padding.
        voxels: .npz file, per label 1-14 uint16 (n, 3): up to `VOXELS_PER_CLASS` of
            its voxels, drawn at random.
        shape: (x, y, z), padded.
        counts: voxels of each of the 15 classes.
        sha256: of the scan's files and its preprocessing.
    """

    name: str
    participant: str
    image: Path
    labels: Path
    voxels: Path
    shape: tuple[int, int, int]
    counts: tuple[int, ...]
    sha256: str = ""


def learn_landmarks(
    scans: Sequence[LabelledScan], recipe: Recipe
) -> dict[str, tuple[float, ...]]:
    """Learns the standard histogram of the training scans; see `train_landmarks`.

    Args:
        scans: the training scans, none of the validation set.
        recipe: grid and histogram ends; its own landmarks do not matter.

    Raises:
        DataError: no scan was given, or one cannot be used.
    """

    def pairs() -> Iterator[list[np.ndarray]]:
        for scan in scans:
            images = read_scan(_inputs(scan))
            spacing_mm = images.grid.spacing_mm
            yield [
                to_network_grid(v, spacing_mm, recipe, flush_denormals=False)
                for v in (images.in_phase, images.out_phase)
            ]

    try:
        return train_landmarks(pairs(), cutoff=recipe.cutoff)
    except ValueError as error:
        raise DataError(f"standard histogram: {error}") from error


def cache_volumes(
    scans: Sequence[LabelledScan],
    recipe: Recipe,
    folder: str | Path,
    *,
    ignore_label: int = -1,
    log: Callable[[str], object] = print,
    on_progress: Callable[[str], object] = lambda name: None,
    workers: int = 1,
) -> list[Volume]:
    """Prepares scans and their labels for the network, once.

    Labels follow their image: onto the network's grid by nearest neighbour, corner
    voxel onto corner voxel, then into the padding, as 0. An entry is named by the
    SHA-256 of its files, the recipe and a format number, so that nothing is ever out of
    date. It appears whole or not at all; one whose files are not what was written is
    made again. Hidden ``.part`` folders are left by killed runs and may be deleted.

    Args:
        scans: what to prepare.
        recipe: with landmarks, if its normalisation needs them.
        folder: where to; may be shared by runs. An entry takes 9 bytes a voxel.
        ignore_label: value in masks of what nobody knows, besides the "ignore" of a
            ``dataset.json``; below 0 is none.
        log: receives warnings about scans.
        on_progress: called with each finished scan's name, in order.
        workers: scans at a time, each with two threads and a few times its own size of
            memory; does not change a byte.

    Returns:
        The volumes, in the order of ``scans``.

    Raises:
        CacheError: the folder cannot be written, or the disk is full.
        DataError: scans that cannot be used, each with the reason, after the others
            have been prepared; or the recipe has no landmarks.
    """
    missing = [channel for channel in CHANNELS if channel not in recipe.landmarks]
    if missing and recipe.normalisation == "histogram":
        raise DataError(
            f"the recipe has no landmarks for {' and '.join(missing)}; learn them from "
            "the training scans (learn_landmarks)"
        )
    folder, sets = Path(folder), _label_sets(scans, ignore_label)

    def make(scan: LabelledScan) -> tuple[Volume, list[str]] | ValueError:
        try:
            return _cached(scan, recipe, folder, sets[scan.labels.parent])
        except CacheError:
            raise
        except ValueError as error:
            return error

    volumes, failures = [], []
    with ThreadPoolExecutor(workers) as pool:
        for scan, outcome in zip(scans, pool.map(make, scans), strict=True):
            if isinstance(outcome, ValueError):
                failures.append(f"{scan.scan.name}: {outcome}")
            else:
                volumes.append(outcome[0])
                for warning in outcome[1]:
                    log(f"{scan.scan.name}: {warning}")
            on_progress(scan.scan.name)
    if failures:
        raise DataError(
            f"{len(failures)} of {len(scans)} scan(s) cannot be used; fix them or "
            "take them away:\n" + "\n".join(failures)
        )
    return volumes


def _label_sets(
    scans: Sequence[LabelledScan], ignore_label: int
) -> dict[Path, LabelSet]:
    """What the numbers in the masks of each folder mean.

    Raises:
        DataError: a ``dataset.json`` cannot be used, or ignores a muscle.
    """
    try:
        return {
            folder: read_label_set("", folder).with_ignored(ignore_label)
            for folder in {scan.labels.parent for scan in scans}
        }
    except ValueError as error:
        raise DataError(str(error)) from error


def _cached(
    scan: LabelledScan, recipe: Recipe, folder: Path, label_set: LabelSet
) -> tuple[Volume, list[str]]:
    """The entry of a scan, made if need be, and the warnings that belong to it."""
    key = _key(scan, recipe, label_set)
    entry = folder / key
    record = read_record(entry)
    if record is None:
        seed = int(key[:16], 16)
        arrays, voxels, details = _prepare(scan, recipe, label_set, seed)
        record = write_entry(entry, arrays, voxels, details)
    volume = Volume(
        scan.scan.name,
        scan.participant,
        image=entry / "image.npy",
        labels=entry / "labels.npy",
        voxels=entry / "voxels.npz",
        shape=tuple(record["shape"]),
        counts=tuple(record["counts"]),
        sha256=key,
    )
    return volume, record["warnings"]


def _inputs(scan: LabelledScan) -> Scan:
    """The scan without images that the network does not take."""
    return replace(scan.scan, water=None, fat=None) if scan.scan.has_pair else scan.scan


def _key(scan: LabelledScan, recipe: Recipe, label_set: LabelSet) -> str:
    files = _inputs(scan).files | {"labels": scan.labels}
    try:
        hashes = {role: sha256_of_file(path) for role, path in files.items()}
    except OSError as error:
        raise DataError(
            f"{error.filename} cannot be read ({error.strerror})"
        ) from error
    landmarks = {  # as `prepare` uses them, learnt just now or read from a model card
        channel: np.asarray(recipe.landmarks[channel], np.float32).tolist()
        for channel in CHANNELS
        if channel in recipe.landmarks
    }
    content: list[Any] = [
        _FORMAT,
        hashes,
        {**asdict(recipe), "landmarks": landmarks},
    ]
    if label_set != PAPER:
        muscles = sorted(label_set.muscles.items())
        content += [muscles, sorted(label_set.others), sorted(label_set.ignored)]
    text = json.dumps(content, sort_keys=True, default=float)
    return hashlib.sha256(text.encode()).hexdigest()


def _prepare(
    scan: LabelledScan, recipe: Recipe, label_set: LabelSet, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
    """The arrays of an entry, voxels by label, and what its record tells."""
    images = read_scan(_inputs(scan))
    labels = read_labels(
        scan.labels, images.grid, label_set=label_set, keep_ignored=True
    )
    blank = np.where(labels == IGNORED, 0, labels).astype(np.uint8)
    _check_sides_and_channels(scan, images, blank)
    spacing_mm = images.grid.spacing_mm
    prepared = prepare(images.in_phase, images.out_phase, spacing_mm, recipe)
    labels = resample_labels(
        labels if prepared.box is None else labels[prepared.box],
        prepared.resampled_shape,
        keep_last_plane=recipe.keep_last_plane,
    )
    labels = pad(labels, recipe.padding, "zero")
    counts = np.bincount(labels[labels != IGNORED], minlength=NUM_CLASSES)
    if not counts[1:].any():
        raise DataError(
            f"{scan.labels}: no label is left on the grid of {recipe.spacing_mm} mm; "
            "choose a finer grid, or draw more than single voxels"
        )
    rng = np.random.default_rng(seed)
    voxels = {}
    for label in range(1, NUM_CLASSES):
        at = np.flatnonzero(labels == label)
        at = rng.choice(at, min(len(at), VOXELS_PER_CLASS), replace=False)
        indices = np.unravel_index(at, labels.shape)
        voxels[str(label)] = np.stack(indices, axis=-1).astype(np.uint16)
    details = {
        "name": scan.scan.name,
        "files": {role: str(path) for role, path in _inputs(scan).files.items()},
        "labels": str(scan.labels),
        "stored_spacing_mm": spacing_mm,
        "spacing_mm": recipe.spacing_mm,
        "padding": recipe.padding,
        "shape": labels.shape,
        "counts": counts.tolist(),
        "warnings": list(images.warnings),
    }
    return {"image.npy": prepared.image, "labels.npy": labels}, voxels, details


def _check_sides_and_channels(
    scan: LabelledScan, images: DixonImages, labels: np.ndarray
) -> None:
    """Refuses what a network would learn the wrong way round.

    Raises:
        DataError: most muscles lie on the other side than their labels say, or the
            echoes have each other's names.
    """
    sides = exchanged_sides(labels)
    if sides:
        raise DataError(f"{scan.labels}: {sides}")
    phases = exchanged_phases(images.in_phase, images.out_phase)
    if phases:
        names = " and ".join(str(path) for path in _inputs(scan).files.values())
        raise DataError(
            f"{names}: {phases}; exchange the names (nnU-Net: look at channel_names in "
            "dataset.json)"
        )
