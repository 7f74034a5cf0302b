"""A folder of results: tables, failures, label tables, how much may be used.

The tables are rebuilt from those of the scans, so that no interruption can make them
disagree. All rows of a table come from the same weights, settings and version of
cervjax.
"""

import csv
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cervjax.anatomy import fsleyes_lut, itksnap_labels, slicer_colors
from cervjax.inference.scan_tables import (
    HISTOGRAM,
    LEVELS,
    MEASUREMENTS,
    SLICES,
    Packed,
    packed_tables,
    write_joined,
)
from cervjax.inference.sidecar import (
    Identity,
    ResultError,
    differences,
    paths,
    sidecars,
)
from cervjax.io.lock import alone_in
from cervjax.io.tables import read_rows, write_rows
from cervjax.io.written import check_ours, remove_ours, written_together
from cervjax.measurement.dictionary import as_bids

FAILURES = "failures.csv"
_FAILURE = ["scan", "files", "error"]
DICTIONARY = "measurements.json"
"""What each column of the tables means."""
_LABEL_TABLES = {
    "labels_itksnap.txt": itksnap_labels,
    "labels_slicer.ctbl": slicer_colors,
    "labels_fsleyes.lut": fsleyes_lut,
}


def check_folder(out: Path, identity: Identity, replaced: Collection[str] = ()) -> None:
    """Looks for results that must not stand in one table with those of this run.

    Args:
        out: the folder.
        identity: of this run; its inputs do not matter.
        replaced: scans that will be computed again.

    Raises:
        ResultError: there are results of other weights, settings or versions.
        OthersFileError: a table is there that cervjax has not written.
    """
    tables = (MEASUREMENTS, SLICES, LEVELS, HISTOGRAM, FAILURES, DICTIONARY)
    check_ours(out, (*tables, *_LABEL_TABLES))
    others = {
        content["Scan"]: different
        for content in sidecars(out)
        if content["Scan"] not in replaced
        if (different := differences(content, identity) - {"inputs"})
    }
    if others:
        names = ", ".join(list(others)[:3]) + ", ..." * (len(others) > 3)
        what = ", ".join(sorted(set().union(*others.values())))
        raise ResultError(
            f"{out}: results of {len(others)} scan(s) were made with other {what} "
            f"({names}), and one table must not mix them; give another folder with -o, "
            "or compute all of them again with --overwrite"
        )


def write_tables(out: Path, identity: Identity, without: Collection[str] = ()) -> None:
    """Rebuilds the tables from all complete results in the folder, and describes them.

    One process at a time, so that of several runs the last one's tables have all.

    Args:
        out: the folder.
        identity: only results of these weights, settings and version are taken.
        without: scans that have failed.
    """
    with alone_in(out, wait=True):
        found = [
            packed_tables(out, content)
            for content in sidecars(out)
            if differences(content, identity) <= {"inputs"}
            and "Failed" not in content
            and content["Scan"] not in without
        ]
        _write(out, found)


def join_tables(folders: Sequence[Path], out: Path) -> int:
    """Writes the tables of several results folders as one; also failures.

    Args:
        folders: of results, or one that is ``out`` itself.
        out: folder of the tables; must exist.

    Returns:
        The number of scans.

    Raises:
        ResultError: a folder has no results, they were made in different ways, or a
            scan is in two folders.
    """
    found: dict[str, Packed] = {}
    way: tuple[str, dict[str, Any]] | None = None
    failures: list[Mapping[str, str]] = []
    for folder in folders:
        own = [c for c in sidecars(folder) if "Failed" not in c]
        failures += _failures(folder)
        if not own and not (folder / FAILURES).is_file():
            raise ResultError(f"{folder}: no results of cervjax there")
        for content in own:
            name = content["Scan"]
            if name in found:
                raise ResultError(f"{folder}: {name} is in another folder, too")
            found[name] = packed_tables(folder, content)
            way = way or (name, _way(content))
            if way[1] != _way(content):
                raise ResultError(
                    f"{folder}: {name} was made with other weights, settings or "
                    f"version than {way[0]}; one table must not mix them"
                )
    with alone_in(out, wait=True):
        _write(out, [found[name] for name in sorted(found)])
        left = [row for row in failures if row["scan"] not in found]
        _write_failures(out, left)
    return len(found)


def _way(content: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in content["Identity"].items() if k != "inputs_sha256"}


def _write(out: Path, found: Iterable[Packed]) -> None:
    with written_together(out) as new:
        written = write_joined(new, found)
        for name in (MEASUREMENTS, SLICES):
            if name not in written:
                write_rows(new / name, [])
        for name in {LEVELS, HISTOGRAM} - written:
            remove_ours(out / name)
        text = json.dumps(as_bids(), indent=1) + "\n"
        (new / DICTIONARY).write_text(text, "utf-8")


class Verdicts(NamedTuple):
    """How much of a table may be used.

    Attributes:
        rows: how many.
        look: of these, to be looked at.
        do_not_use: of these, not to be used.
        unusable: scans without any muscle that may be used.
    """

    rows: int
    look: int
    do_not_use: int
    unusable: tuple[str, ...]

    def line(self) -> str:
        """For the end of a run."""
        text = (
            f"{self.rows} measurements: {self.look} to look at, {self.do_not_use} not "
            "to be used"
        )
        if self.unusable:
            names = ", ".join(self.unusable[:5]) + ", ..." * (len(self.unusable) > 5)
            text += f"; nothing to be used in {len(self.unusable)} scan(s): {names}"
        return text


def verdicts(out: Path, names: Collection[str]) -> Verdicts:
    """Counts the verdicts in the table of a folder, of the scans of these names."""
    by_scan: dict[str, set[str]] = {}
    found = Counter[str]()
    with open(out / MEASUREMENTS, encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):  # of a large cohort not all at once
            if row["scan"] in names:
                by_scan.setdefault(row["scan"], set()).add(row["verdict"])
                found[row["verdict"]] += 1
    unusable = tuple(name for name, own in by_scan.items() if own == {"do_not_use"})
    return Verdicts(found.total(), found["look"], found["do_not_use"], unusable)


def write_failures(
    out: Path, failures: Iterable[Mapping[str, str]], names: Collection[str] = ()
) -> None:
    """Writes the scans that have no result; a header if there are none.

    Args:
        out: folder.
        failures: of this run.
        names: of all scans of this run. Failures of others, of runs beside it, stay as
            long as their files are there and they have no result.
    """
    with alone_in(out, wait=True):
        others = [
            row
            for row in _failures(out)
            if row["scan"] not in names
            and not paths(out, row["scan"]).sidecar.exists()
            and any(Path(f).exists() for f in row["files"].split("; ") if f)
        ]
        _write_failures(out, [*others, *failures])


def _write_failures(out: Path, rows: Iterable[Mapping[str, str]]) -> None:
    with written_together(out) as new:
        write_rows(new / FAILURES, rows, _FAILURE)


def _failures(out: Path) -> list[dict[str, str]]:
    try:
        return [row for _, row in read_rows(out / FAILURES, required=_FAILURE)]
    except (OSError, ValueError):
        return []


def write_label_tables(out: Path) -> None:
    """Writes names and colours of the labels for ITK-SNAP, 3D Slicer and FSLeyes."""
    with written_together(out) as new:
        for name, text in _LABEL_TABLES.items():
            (new / name).write_text(text())
