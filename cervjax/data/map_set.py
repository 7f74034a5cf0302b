"""A training set without scans: tissue maps, some of them scanned to validate on."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cervjax.anatomy import NUM_CLASSES
from cervjax.data.cache import DataError, Volume
from cervjax.data.dataset import TrainSet, cache_folder
from cervjax.data.image_maps import cache_image_maps
from cervjax.data.scanner import Scanner
from cervjax.data.tissue_maps import MapFile, cache_tissue_maps, read_codes
from cervjax.io.files import write_atomically
from cervjax.phantom.atlas import anatomy_names
from cervjax.preprocessing.pipeline import Recipe


def load_map_set(
    config: ConfigDict, scanner: Scanner, log: Callable[[str], object]
) -> TrainSet:
    """Makes the tissue maps of ``config.tissue_maps`` where they are missing.

    Args:
        config: with that section, and ``data``.
        scanner: by which the maps of the validation set are scanned, once each.
        log: receives lines about what is done.
    """
    m, folder = config.tissue_maps, cache_folder(config.data)
    total = m.count + m.validation
    log(f"tissue maps: {m.count} to train on, {m.validation} to validate, in {folder}")
    files = cache_tissue_maps(
        range(total),
        m.seed,
        tuple(m.anatomies),
        folder / "tissue-maps",
        workers=os.cpu_count() or 1,
        on_progress=lambda name: log(f"  {name}"),
    )
    recipe = Recipe(
        spacing_mm=tuple(config.data.spacing_mm),
        padding=tuple(config.data.padding),
        padding_mode="zero",
        skip_fitting_grid=True,
        keep_last_plane=True,
        normalisation="foreground",
    )
    scans = [_scanned(f, scanner, folder / "scanned-maps") for f in files[m.count :]]
    train = tuple(f for f in files[: m.count] if not set(f.people) & set(m.without))
    if not train:
        raise DataError(
            f"no tissue map is left without {', '.join(m.without)}; leave fewer people "
            "out, or raise config.tissue_maps.count"
        )
    images = cache_image_maps(
        [i for i in m.get("images", ()) if i[0] not in m.without], folder / "image-maps"
    )
    necks = len(train)
    train += _repeated(images, m.get("images_share", 0.0), len(train))
    known = [n for n in m.anatomies or anatomy_names() if n not in m.without]
    names = ", ".join(known)
    description = (
        f"{necks} digital necks with contrast drawn at random (cervjax phantom, "
        f"outlines of {names}, seed {m.seed}); "
        + _of_images([f.name for f in images], m.get("images_share", 0.0))
    )
    return TrainSet([], scans, recipe, description, train)


def _repeated(images: list[MapFile], share: float, others: int) -> tuple[MapFile, ...]:
    """Each image so often that all together are ``share`` of a training set."""
    if not images:
        return ()
    times = max(round(others * share / (1 - share) / len(images)), 1)
    return tuple(images) * times


def _of_images(names: list[str], share: float) -> str:
    if not names:
        return "no image of a person"
    return f"{share:.0%} of the steps on real images ({', '.join(names)})"


def _scanned(file: MapFile, scanner: Scanner, folder: Path) -> Volume:
    """One scan of a map, always the same, kept on disk."""
    settings: Any = [file.sha256, repr(scanner)]
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()
    image_file, label_file = (
        folder / f"{key[:24]}-{part}.npy" for part in ("image", "labels")
    )
    if not (image_file.exists() and label_file.exists()):
        codes = jnp.asarray(read_codes(file))[None]
        seed = int(key[:8], 16)
        image, labels = jax.jit(scanner)(jax.random.key(seed), codes)
        for path, array in ((image_file, image), (label_file, labels)):
            _save(path, np.asarray(array[0]))
    labels = np.load(label_file)
    counts = np.bincount(labels.reshape(-1), minlength=NUM_CLASSES)[:NUM_CLASSES]
    return Volume(
        file.name,
        file.name,
        image=image_file,
        labels=label_file,
        voxels=label_file,
        shape=labels.shape,
        counts=tuple(counts.tolist()),
        sha256=key,
    )


def _save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(part: Path) -> None:
        with part.open("wb") as file:
            np.save(file, array)

    write_atomically(path, write)
