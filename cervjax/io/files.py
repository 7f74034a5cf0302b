"""Atomic writes, tables as CSV, content hashes."""

import csv
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
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


def _cell(value: Any) -> str:
    if value is None or value != value:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
