"""The tables of one scan, packed beside its side-car, and those of many joined.

A side-car of some kilobytes says where a result comes from; its rows are here, as text
that goes into the tables of a folder as it is. Of 100,000 scans, nobody could hold the
rows in memory.
"""

import csv
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from cervjax.inference.sidecar import DamagedError, paths
from cervjax.io.tables import as_text
from cervjax.measurement.composition import Rows

MEASUREMENTS = "measurements.csv"
SLICES = "measurements_slices.csv"
LEVELS = "measurements_levels.csv"
HISTOGRAM = "measurements_histogram.csv"
ROWS = {
    "Measurements": MEASUREMENTS,
    "SliceMeasurements": SLICES,
    "LevelMeasurements": LEVELS,
}
_TEXTS = {"scan", "mode", "weights_sha256", "cervjax_version", "reasons", "levels"}
_BOTH = {"True": True, "False": False}
_LARGEST = 64_000_000  # bytes, unpacked


class Packed(NamedTuple):
    """The tables of a scan: where they are, and their digest as its side-car says."""

    path: Path
    sha256: str


def pack(tables: Mapping[str, Rows]) -> bytes:
    """The content of a scan's file: by name of the table, its text; none without rows.

    The same rows give the same bytes.
    """
    texts = {}
    for name, rows in tables.items():
        if rows:
            columns = list(dict.fromkeys(column for row in rows for column in row))
            head = dict(zip(columns, columns, strict=True))
            texts[name] = as_text([head, *rows], columns)
    return gzip.compress(json.dumps(texts).encode(), mtime=0)


def packed_tables(out: Path, content: Mapping[str, object]) -> Packed:
    """Those of a complete side-car."""
    path = paths(out, str(content["Scan"])).tables
    files = content["Files"]
    digest = files.get(path.name, "") if isinstance(files, dict) else ""
    return Packed(path, str(digest))


def read_texts(packed: Packed) -> dict[str, str]:
    """The text of each table of a scan that has rows.

    Raises:
        DamagedError: they are not there, or not what was written.
    """
    try:
        raw = packed.path.read_bytes()
        if hashlib.sha256(raw).hexdigest() != packed.sha256:
            raise ValueError("changed")
        with gzip.open(io.BytesIO(raw)) as stream:
            texts = json.loads(stream.read(_LARGEST))
        if not all(isinstance(text, str) for text in texts.values()):
            raise ValueError("no tables")
    except (OSError, EOFError, ValueError, AttributeError, zlib.error) as error:
        raise DamagedError(f"{packed.path} is not what was written") from error
    return texts


def with_rows(out: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """A complete side-car with the rows of its scan, by `ROWS`.

    Raises:
        DamagedError: as `read_texts`.
    """
    texts = read_texts(packed_tables(out, content))
    rows = {key: read_table(texts, name) for key, name in ROWS.items()}
    return {**content, **rows}


def read_table(texts: Mapping[str, str], name: str) -> Rows:
    """The rows of a table of a scan; numbers as such, None where there is nothing."""
    rows = csv.DictReader(io.StringIO(texts.get(name, "")))
    return [{column: _value(column, cell) for column, cell in r.items()} for r in rows]


def _value(column: str, text: str) -> Any:
    if not text:
        return None
    if column in _TEXTS:
        return text
    try:
        return _BOTH[text] if text in _BOTH else int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def write_joined(folder: Path, scans: Iterable[Packed]) -> set[str]:
    """Writes the tables of many scans, one after the other.

    Args:
        folder: where to.
        scans: those that are damaged are left out.

    Returns:
        Names of the tables that have rows.
    """
    whole, heads = [], {}
    for packed in scans:
        try:
            texts = read_texts(packed)
        except DamagedError:
            continue
        whole.append(packed)
        for name, text in texts.items():
            columns = next(csv.reader(io.StringIO(text)))
            heads.setdefault(name, {}).update(dict.fromkeys(columns))
    with ExitStack() as stack:
        streams = {}
        for name, columns in heads.items():
            path = folder / name
            stream = path.open("w", encoding="utf-8", newline="")
            streams[name] = stack.enter_context(stream)
            streams[name].write(as_text([{c: c for c in columns}], list(columns)))
        for packed in whole:
            for name, text in read_texts(packed).items():
                streams[name].writelines(_rows(text, list(heads[name])))
    return set(heads)


def _rows(text: str, columns: list[str]) -> Iterator[str]:
    """Lines of a table of one scan, under the columns of all."""
    head, _, body = text.partition("\n")
    if next(csv.reader([head])) == columns:
        yield body
    else:
        rows = csv.DictReader(io.StringIO(text))
        yield as_text(rows, columns)
