"""A table of scans: written by a dry run, edited by hand, read instead of a folder.

Columns ``name``, ``in_phase``, ``out_phase``, ``water``, ``fat``; ``problem`` says what
was wrong; any other column is of the participant, and is carried through.
"""

import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from cervjax.io.filenames import safe_name
from cervjax.io.roles import ROLES
from cervjax.io.scans import PairingError, Problem, Scan, explicit_scan
from cervjax.io.tables import read_rows, write_rows
from cervjax.io.written import written_together

_OWN = ("name", *ROLES, "problem")
_HINT = "Correct the row."


class ScanList(NamedTuple):
    """What a table holds.

    Attributes:
        scans: of the rows that can be used.
        problems: of the others.
        columns: names of further columns.
        cells: of each scan, those columns, by the scan's name.
    """

    scans: list[Scan]
    problems: list[Problem]
    columns: list[str]
    cells: dict[str, dict[str, str]]


def read_scan_list(path: Path) -> ScanList:
    """Reads a table of scans; one bad row does not stop the others.

    Args:
        path: comma-separated, or tab-separated where it ends in ``.tsv``. Relative
            paths in it are from its own folder.

    Raises:
        PairingError: it is no such table, or has no row.
    """
    try:
        rows = read_rows(
            path, required=["name"], optional=_OWN[1:], delimiter=_delimiter(path)
        )
    except (OSError, ValueError) as error:
        raise PairingError(f"the list of scans cannot be read: {error}") from error
    if not rows:
        raise PairingError(f"{path} has no rows; give one per scan")
    names = Counter(safe_name(row["name"], path).casefold() for _, row in rows)
    scans: list[Scan] = []
    problems: list[Problem] = []
    cells: dict[str, dict[str, str]] = {}
    for line, row in rows:
        where = f"{path}, line {line}"
        scan = _scan(row, where, path)
        if isinstance(scan, Scan) and names[scan.name.casefold()] > 1:
            message = f"{where}: another row is named {scan.name} too"
            scan = Problem(scan.name, tuple(scan.files.values()), message, _HINT)
        if isinstance(scan, Problem):
            problems.append(scan)
        else:
            scans.append(scan)
            cells[scan.name] = {k: v for k, v in row.items() if k not in _OWN}
    columns = [name for name in rows[0][1] if name not in _OWN]
    return ScanList(scans, problems, columns, cells)


def write_scan_list(
    path: Path, scans: Collection[Scan], problems: Collection[Problem]
) -> None:
    """Writes what was found, to be edited; paths are relative to the table's folder.

    Raises:
        PairingError: the table is there already.
        OSError: it cannot be written.
    """
    if path.exists():
        raise PairingError(f"{path} is there already; give another name")

    def shown(file: Path) -> str:
        return os.path.relpath(file, path.parent)

    rows = [
        {"name": s.name, **{role: shown(file) for role, file in s.files.items()}}
        for s in scans
    ]
    rows += [
        {"name": p.scan, "problem": f"{p.message} ({', '.join(map(shown, p.files))})"}
        for p in problems
        if p.files
    ]
    lines = [{column: row.get(column, "") for column in _OWN} for row in rows]
    write_rows(path, lines, _OWN, delimiter=_delimiter(path))


def write_participants(path: Path, listed: ScanList) -> None:
    """Adds the further columns to a ``participants.tsv``, a row per scan.

    Rows of other scans that the file has already, and other columns, stay. A file that
    has it all is left as it is.

    Raises:
        ValueError: the file that is there cannot be read, or lacks something and was
            not written by cervjax.
    """
    if not listed.columns:
        return
    before = {}
    if path.exists():
        known = read_rows(path, required=["participant_id"], delimiter="\t")
        before = {row["participant_id"]: row for _, row in known}
    rows = dict(before)
    for name, cells in listed.cells.items():
        row = rows.get(name, {"participant_id": name})
        rows[name] = row | {k: v or "n/a" for k, v in cells.items()}
    if rows == before:
        return
    columns = list(dict.fromkeys(c for row in rows.values() for c in row))
    with written_together(path.parent) as new:
        write_rows(
            new / path.name,
            [{c: row.get(c, "n/a") for c in columns} for row in rows.values()],
            delimiter="\t",
        )


def _scan(row: dict[str, str], where: str, path: Path) -> Scan | Problem:
    files = {role: path.parent / row[role] for role in ROLES if row.get(role)}
    name = row["name"]
    if not files:
        told = f" ({row['problem']})" if row.get("problem") else ""
        message = f"{where}: no files{told}"
        return Problem(safe_name(name, path), (), message, _HINT)
    if not name:
        return Problem(path.stem, tuple(files.values()), f"{where}: no name", _HINT)
    try:
        return explicit_scan(**files, name=name)
    except (PairingError, OSError) as error:  # a name too long
        name, given = safe_name(name, path), tuple(files.values())
        return Problem(name, given, f"{where}: {error}", _HINT)


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","
