"""Atomic writes and content hashes."""

import hashlib
import os
from collections.abc import Callable
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
