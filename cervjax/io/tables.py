"""Tables as text: comma-separated (CSV), or tab-separated (TSV, as BIDS has them)."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cervjax.io.files import write_atomically

LARGEST_TABLE = 2_000_000_000  # bytes; 100,000 scans have 300 MB
MOST_COLUMNS = 10_000
_FORMULA = re.compile(r"[=@\t\r]|[-+](?![\d.]+([eE][-+]?\d+)?$|inf$|nan$)")
"""Begins a cell that a spreadsheet would run as a formula; a number does not."""


def read_rows(
    path: str | Path,
    *,
    required: Sequence[str] = (),
    optional: Sequence[str] = (),
    delimiter: str = ",",
    may_be_cut: bool = False,
) -> list[tuple[int, dict[str, str]]]:
    """Reads a table with a line of column names; empty lines do not count.

    Args:
        path: UTF-8 text.
        required: columns that must be there. Upper and lower case are the same in the
            file, and do not matter; the rows have the names as they are given here.
        optional: columns that may be there, likewise. Others keep their names.
        delimiter: between cells.
        may_be_cut: leaves out rows with another number of cells than the first line,
            for a file whose writer may have been killed.

    Returns:
        Of each row, its line in the file (1 is that of the names), and its cells by
        column, without blanks around them.

    Raises:
        ValueError: no regular file, larger than `LARGEST_TABLE` or with more columns
            than `MOST_COLUMNS`, not UTF-8, a column is missing or there twice, or a
            row has another number of cells than there are columns.
        OSError: the file cannot be read.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not a regular file; give a table")
    if path.exists() and path.stat().st_size > LARGEST_TABLE:
        raise ValueError(
            f"{path} has {path.stat().st_size:,} bytes, more than {LARGEST_TABLE:,}; "
            "give a table of fewer scans"
        )
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8"
        ) from error
    try:
        return list(_rows(path, text, (required, optional), delimiter, may_be_cut))
    except csv.Error as error:
        raise ValueError(f"{path} is no table ({error}); save it again") from error


def _rows(
    path: Path,
    text: str,
    wanted: tuple[Sequence[str], Sequence[str]],
    delimiter: str,
    may_be_cut: bool,
) -> Iterator[tuple[int, dict[str, str]]]:
    required, optional = wanted
    reader = csv.reader(text.splitlines(), delimiter=delimiter)
    known = {c.casefold(): c for c in (*required, *optional)}
    names = [c.strip() for c in next(reader, [])]
    names = [known.get(c.casefold(), c) for c in names]
    _check_names(path, names, required, delimiter)
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) == len(names):
            stripped = (_read_cell(cell.strip()) for cell in cells)
            yield reader.line_num, dict(zip(names, stripped, strict=True))
        elif not may_be_cut:
            raise ValueError(
                f"{path}, line {reader.line_num}: {len(cells)} cells, but the header "
                f"has {len(names)}; correct the row"
            )


def write_rows(
    path: str | Path,
    rows: Iterable[Mapping[str, Any]],
    columns: Sequence[str] | None = None,
    *,
    delimiter: str = ",",
    digits: int | None = 6,
) -> None:
    """Writes a table, atomically: all columns of the rows, in order of appearance.

    Args:
        path: overwritten if it exists.
        rows: cells by column; None, NaN and what a row lacks are left empty.
        columns: of a table without rows.
        delimiter: between cells.
        digits: significant ones of numbers with a fraction; None for as many as tell
            them apart.
    """
    rows = list(rows)
    found = list(dict.fromkeys(name for row in rows for name in row))
    names = found or columns or ["scan"]
    text = as_text(
        [dict(zip(names, names, strict=True)), *rows], names, delimiter, digits
    )
    write_atomically(path, lambda part: part.write_text(text, "utf-8"))


def as_text(
    rows: Iterable[Mapping[str, Any]],
    columns: Sequence[str],
    delimiter: str = ",",
    digits: int | None = 6,
) -> str:
    """Lines of a table, without the line of names; arguments as of `write_rows`."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerows([_cell(row.get(c), digits) for c in columns] for row in rows)
    return text.getvalue()


def _check_names(
    path: str | Path, names: list[str], required: Sequence[str], delimiter: str
) -> None:
    missing = [c for c in required if c not in names]
    if missing:
        has = ", ".join(names[:30]) + ", ..." * (len(names) > 30)
        tabs = " separated by tabs" if delimiter == "\t" else ""
        raise ValueError(
            f"{path} lacks the column {', '.join(missing)}{tabs}; it has "
            f"{has or 'nothing'}"
        )
    if len(names) > MOST_COLUMNS:
        raise ValueError(
            f"{path} has {len(names)} columns, more than {MOST_COLUMNS}; take away "
            "those that are not needed"
        )
    twice = {c for c, number in Counter(names).items() if number > 1}
    if twice:
        raise ValueError(f"{path} has the column {', '.join(sorted(twice))} twice")


def _cell(value: Any, digits: int | None) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, float) and digits is not None:
        return f"{value:.{digits}g}"
    text = str(value)
    return f"'{text}" if isinstance(value, str) and _FORMULA.match(text) else text


def _read_cell(text: str) -> str:
    """Without the sign that `_cell` sets before a formula."""
    return text[1:] if text[:1] == "'" and _FORMULA.match(text[1:]) else text
