"""Atomic writes, tables as CSV, content hashes, folders with links in them."""

import csv
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


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


def write_csv(
    path: Path,
    rows: Iterable[Mapping[str, Any]],
    header: Sequence[str] | None = None,
) -> None:
    """Writes rows: all their columns, or those of ``header`` if there is none.

    Numbers have six digits; None, NaN and what a row lacks are left empty.
    """
    rows = list(rows)
    header = (
        list(dict.fromkeys(key for row in rows for key in row)) or header or ["scan"]
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([[_cell(row.get(name)) for name in header] for row in rows])
    write_atomically(path, lambda part: part.write_text(text.getvalue(), "utf-8"))


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


def _cell(value: Any) -> str:
    if value is None or value != value:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
