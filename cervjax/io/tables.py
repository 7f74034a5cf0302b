"""Tables as text: comma-separated (CSV), or tab-separated (TSV, as BIDS has them)."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cervjax.io.files import write_atomically


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
        ValueError: not UTF-8, a column is missing or there twice, or a row has another
            number of cells than there are columns.
        OSError: the file cannot be read.
    """
    try:
        text = Path(path).read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8"
        ) from error
    reader = csv.reader(text.splitlines(), delimiter=delimiter)
    known = {c.casefold(): c for c in (*required, *optional)}
    names = [c.strip() for c in next(reader, [])]
    names = [known.get(c.casefold(), c) for c in names]
    _check_names(path, names, required, delimiter)
    rows = []
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) == len(names):
            stripped = (cell.strip() for cell in cells)
            rows.append((reader.line_num, dict(zip(names, stripped, strict=True))))
        elif not may_be_cut:
            raise ValueError(
                f"{path}, line {reader.line_num}: {len(cells)} cells, but the header "
                f"has {len(names)}; correct the row"
            )
    return rows


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
        tabs = " separated by tabs" if delimiter == "\t" else ""
        raise ValueError(
            f"{path} lacks the column {', '.join(missing)}{tabs}; it has "
            f"{', '.join(names) or 'nothing'}"
        )
    twice = {c for c in names if names.count(c) > 1}
    if twice:
        raise ValueError(f"{path} has the column {', '.join(sorted(twice))} twice")


def _cell(value: Any, digits: int | None) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, float) and digits is not None:
        return f"{value:.{digits}g}"
    return str(value)
