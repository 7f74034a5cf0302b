"""Tissue maps of digital necks on disk, and batches of them for training."""

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import grain
import numpy as np

from cervjax.data.cache import CacheError
from cervjax.io.files import write_atomically
from cervjax.phantom.tissue_map import make_tissue_map

_FORMAT = 3  # raise it when `make_tissue_map` gives other necks


class MapFile(NamedTuple):
    """One tissue map on disk.

    Attributes:
        name: of the neck.
        path: .npy file, uint16 (x, y, z).
        sha256: of what determines it.
        people: whose outlines it was deformed from, one or two names.
        is_image: the low byte is a real image's grey, of `make_image_map`.
    """

    name: str
    path: Path
    sha256: str
    people: tuple[str, ...] = ()
    is_image: bool = False


def cache_tissue_maps(
    indices: Sequence[int],
    seed: int,
    anatomies: tuple[str, ...],
    folder: Path,
    *,
    workers: int = 1,
    on_progress: Callable[[str], object] = lambda name: None,
) -> list[MapFile]:
    """Makes the maps that are not there yet; some ten seconds each.

    Args:
        indices: of the necks in their set.
        seed: of the set.
        anatomies: names to draw from; all packaged ones if empty.
        folder: where to; 11 MB a map.
        workers: processes; does not change a byte.
        on_progress: called with each neck's name.

    Raises:
        CacheError: the folder cannot be written.
    """
    content = json.dumps([_FORMAT, seed, list(anatomies)])
    key = hashlib.sha256(content.encode()).hexdigest()
    place = folder / key[:16]
    files = [
        MapFile(f"neck-{i:04d}", place / f"{i:04d}.npy", f"{key}-{i}") for i in indices
    ]
    missing = [i for i, f in zip(indices, files, strict=True) if not f.path.exists()]
    make = partial(_write, place, seed, anatomies)
    try:
        place.mkdir(parents=True, exist_ok=True)
        if workers == 1 or len(missing) < 2:
            for index in missing:
                on_progress(make(index))
        else:
            spawn = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(min(workers, len(missing)), spawn) as pool:
                for name in pool.map(make, missing):
                    on_progress(name)
    except OSError as error:
        raise CacheError(
            f"{place}: tissue maps cannot be written ({error}); they take 11 MB each; "
            "make room, or give another folder"
        ) from error
    return [f._replace(people=_people(f.path)) for f in files]


def map_batches(
    maps: Sequence[MapFile],
    *,
    batch_size: int,
    seed: int,
    shard: tuple[int, int] = (0, 1),
) -> grain.IterDataset:
    """Endless batches of whole maps in a random order.

    Returns:
        Batches ``{"codes": uint16 (b, x, y, z), "is_image": bool (b,)}``; iterators
        save and resume.
    """
    drawn = grain.MapDataset.source(list(maps)).seed(seed).shuffle().repeat().map(_read)
    batches = drawn[shard[0] :: shard[1]].batch(batch_size, drop_remainder=True)
    return batches.to_iter_dataset(grain.ReadOptions(num_threads=1))


def read_codes(file: MapFile) -> np.ndarray:
    """The map, uint16 (x, y, z)."""
    return np.load(file.path)


def _people(path: Path) -> tuple[str, ...]:
    """Names in a note such as ``{"anatomy": "man_41*0.70+woman_59*0.30"}``."""
    anatomy = json.loads(path.with_suffix(".json").read_text())["anatomy"]
    return tuple(part.partition("*")[0] for part in anatomy.split("+"))


def _read(file: MapFile) -> dict[str, np.ndarray]:
    return {"codes": read_codes(file), "is_image": np.array(file.is_image)}


def _write(place: Path, seed: int, anatomies: tuple[str, ...], index: int) -> str:
    made = make_tissue_map(seed, index, anatomies)
    path = place / f"{index:04d}.npy"

    def save(part: Path) -> None:
        with part.open("wb") as file:
            np.save(file, made.codes)

    note = json.dumps({"anatomy": made.anatomy}) + "\n"
    write_atomically(path.with_suffix(".json"), lambda part: part.write_text(note))
    write_atomically(path, save)  # last: a map that is there is complete
    return f"neck-{index:04d} ({made.anatomy})"
