"""Atomic writes, content hashes, folders with links in them."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> None:
    """Calls ``write(part)`` on a file beside ``path``, then renames it into place.

    A reader finds the old file or the whole new one, never a piece.
    """
    path = Path(path)
    part = path.with_name(f".{os.getpid()}.part.{path.name}")
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def sha256_of_file(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def walk_once(
    root: str | Path, onerror: Callable[[OSError], object] | None = None
) -> Iterator[tuple[Path, list[str], list[str]]]:
    """`os.walk` from the top that follows links, but enters no folder twice.

    Args:
        root: folder to begin with.
        onerror: called for a folder that cannot be read.

    Yields:
        A folder, the names of its subfolders (taken away, they are not entered), and
        the names of its files.
    """
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(root, onerror=onerror, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
        else:
            seen.add(real)
            yield Path(folder), subfolders, names
