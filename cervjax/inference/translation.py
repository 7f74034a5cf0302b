"""Results in the files of other programs, and MuscleMap's as masks and table here."""

import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cervjax.inference.scan_tables import with_rows
from cervjax.inference.sidecar import ResultError, paths, sidecars
from cervjax.io.filenames import NIFTI, read_name, stem_of
from cervjax.io.files import sha256_of_file, walk_once, write_atomically
from cervjax.io.label_sets import MUSCLEMAP
from cervjax.io.labels import exchanged_sides, read_labels
from cervjax.io.nifti import read_nifti, write_labels, write_values
from cervjax.io.segment_nrrd import segments_file
from cervjax.io.tables import write_rows
from cervjax.io.written import written_together
from cervjax.measurement.composition import Rows
from cervjax.measurement.neighbours import (
    MUSCLEMAP_COLUMNS,
    musclemap_rows,
    rows_of_musclemap,
    sct_levels,
    sct_slices,
)

PER_SLICE, PER_LEVEL = "sct_perslice.csv", "sct_perlevel.csv"
TRANSLATED = "measurements_musclemap.csv"
_DIXON = "_dixon_results.csv"
_VALUES = np.zeros(15, np.uint16)
_VALUES[list(MUSCLEMAP.muscles.values())] = list(MUSCLEMAP.muscles)


def translate(
    results: Path, out: Path, programs: Collection[str]
) -> tuple[int, list[str]]:
    """Writes what other programs read, of each scan with a result.

    Args:
        results: folder of results.
        out: folder; must exist, and be another one.
        programs: of musclemap, sct and slicer.

    Returns:
        How many scans were written, and a line on each that was not.

    Raises:
        ResultError: no result there, or ``out`` is the same folder.
    """
    if out.resolve() == results.resolve():
        raise ResultError(
            f"{out} is the folder of the results, whose masks would be replaced; give "
            "another one with -o"
        )
    found = [c for c in sidecars(results) if "Failed" not in c]
    if not found:
        raise ResultError(f"{results}: no results of cervjax there")
    failed, per_slice, per_level = [], [], []
    for content in found:
        try:
            content = with_rows(results, content)
            mask = _mask(results, content)
            with written_together(out) as new:
                if "slicer" in programs:
                    _write_segments(mask, new / f"{content['Scan']}.seg.nrrd")
                if "musclemap" in programs:
                    _write_musclemap(mask, content, new)
        except (ValueError, OSError) as error:
            failed.append(f"{content['Scan']}: {error}")
            continue
        slices = content["SliceMeasurements"]
        levels = content["LevelMeasurements"]
        written = results / f"{content['Scan']}_dseg.json"
        moment = time.gmtime(written.stat().st_mtime)
        when = time.strftime("%Y-%m-%d %H:%M:%S", moment)
        per_slice += sct_slices(mask.name, slices, when)
        per_level += sct_levels(mask.name, levels, slices, when)
    if "sct" in programs:
        with written_together(out) as new:
            write_rows(new / PER_SLICE, per_slice, ["Filename"])
            if per_level:
                write_rows(new / PER_LEVEL, per_level)
    return len(found) - len(failed), failed


def of_musclemap(source: Path, out: Path) -> tuple[int, list[str]]:
    """Reads masks and Dixon tables of MuscleMap, and writes them as cervjax has them.

    Args:
        source: a mask, a table, or a folder of both.
        out: folder for masks in the paper's labels, and one table of all tables; must
            exist, and be another one.

    Returns:
        How many files were read, and a line on each that was not.

    Raises:
        ValueError: there is neither, or ``out`` is the same folder.
    """
    if out.resolve() == source.resolve():
        raise ValueError(f"{out} is the folder that is read; give another one with -o")
    files = list(_of_musclemap(source))
    if not files:
        raise ValueError(
            f"{source}: neither masks (.nii.gz) nor tables (*{_DIXON}) in it; give the "
            "output of mm_segment or of mm_extract_metrics -m dixon"
        )
    rows: Rows = []
    failed = []
    for path in files:
        try:
            if path.suffix.lower() == ".csv":
                scan = {"scan": _scan_of(path)}
                rows += [scan | row for row in rows_of_musclemap(path)]
            else:
                with written_together(out) as new:
                    _write_papers(path, new)
        except (ValueError, OSError) as error:
            failed.append(str(error))
    if rows:
        with written_together(out) as new:
            write_rows(new / TRANSLATED, rows)
    return len(files) - len(failed), failed


def _of_musclemap(source: Path) -> Iterator[Path]:
    if source.is_file():
        yield source
        return
    for folder, _, names in walk_once(source):
        for name in sorted(names):
            if name.startswith("."):
                continue
            if name.endswith(_DIXON) or NIFTI.fullmatch(name):
                yield folder / name


def _scan_of(table: Path) -> str:
    """MuscleMap names a table as the image of fat."""
    image = table.with_name(table.name.removesuffix(_DIXON) + ".nii.gz")
    named = read_name(image, image.parent)
    return named.stem if named else stem_of(image)


def _mask(results: Path, content: Mapping[str, Any]) -> Path:
    """The mask of a result, as it was measured."""
    path = paths(results, content["Scan"]).labels
    if not path.is_file():
        raise ResultError(f"{path} is missing; compute it again")
    inputs = content["Identity"].get("inputs_sha256") or {}
    known = (content["Files"].get(path.name), inputs.get("mask"))
    if sha256_of_file(path) not in known:
        raise ResultError(
            f"{path} was changed since it was measured; measure it first: the same "
            "command as before"
        )
    return path


def _write_segments(mask: Path, target: Path) -> None:
    image = read_nifti(mask, may_be_constant=True)
    labels = read_labels(mask, image, may_be_empty=True)
    content = segments_file(labels, image.affine)
    write_atomically(target, lambda part: part.write_bytes(content))


def _write_musclemap(mask: Path, content: Mapping[str, Any], out: Path) -> None:
    image = read_nifti(mask, may_be_constant=True)
    labels = read_labels(mask, image, may_be_empty=True)
    write_values(out / mask.name, _VALUES[labels], image)
    rows = musclemap_rows(content["Measurements"])
    table = out / f"{content['Scan']}{_DIXON}"
    write_rows(table, rows, MUSCLEMAP_COLUMNS, digits=None)


def _write_papers(mask: Path, out: Path) -> None:
    image = read_nifti(mask, may_be_constant=True)
    labels = read_labels(mask, image, label_set=MUSCLEMAP)
    if wrong := exchanged_sides(labels):
        raise ValueError(f"{mask}: {wrong}; is it MuscleMap's?")
    write_labels(out / mask.name, labels, image)
