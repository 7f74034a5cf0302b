"""A folder of results: masks, side-cars, tables, failures, label tables.

A scan's side-car is written last and marks its result as complete; the tables are
rebuilt from the side-cars, so that no interruption can make them disagree. All rows of
a table come from the same weights, settings and version of cervjax.
"""

import contextlib
import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cervjax.about import __version__
from cervjax.anatomy import itksnap_labels, slicer_colors
from cervjax.io.files import sha256_of_file, write_atomically
from cervjax.io.tables import write_rows

MEASUREMENTS = "measurements.csv"
SLICES = "measurements_slices.csv"
FAILURES = "failures.csv"
_SIDECAR_SUFFIX = "_dseg.json"
_PARTS = {
    "Scan": str,
    "Identity": dict,
    "Executed": dict,
    "Files": dict,
    "Measurements": list,
    "SliceMeasurements": list,
}
"""What a complete side-car has, and of which type."""


class ResultError(ValueError):
    """A result is there that this run must not touch."""


class DamagedError(ValueError):
    """A side-car that cannot be read as one."""


class Paths(NamedTuple):
    """The files of one scan's result."""

    labels: Path
    sidecar: Path
    qc: Path


class Found(NamedTuple):
    """What is in the folder about a scan.

    Attributes:
        done: there is a result, and it is what this run would compute.
        notice: a line for the user, or nothing.
    """

    done: bool
    notice: str


@dataclass(frozen=True)
class Identity:
    """What a result depends on.

    Settings are those that were wanted. Where memory was short, a sliding window may
    have been run instead: such a result is kept, with a notice, until ``--overwrite``,
    so that a rerun never changes numbers because other programs ended meanwhile.

    Attributes:
        inputs_sha256: of each image, by role.
        weights_sha256: of the weights.
        settings: those the result depends on, preprocessing and calibration included.
        cervjax_version: of the program.
    """

    inputs_sha256: Mapping[str, str]
    weights_sha256: str
    settings: Mapping[str, Any]
    cervjax_version: str = __version__


def paths(out: Path, name: str) -> Paths:
    """Names of a scan's result files."""
    return Paths(
        out / f"{name}_dseg.nii.gz",
        out / f"{name}{_SIDECAR_SUFFIX}",
        out / f"{name}_qc.png",
    )


def check_folder(out: Path, identity: Identity, replaced: Collection[str] = ()) -> None:
    """Looks for results that must not stand in one table with those of this run.

    Args:
        out: the folder.
        identity: of this run; its inputs do not matter.
        replaced: scans that will be computed again.

    Raises:
        ResultError: there are results of other weights, settings or versions.
    """
    others = {
        content["Scan"]: different
        for content in _sidecars(out)
        if content["Scan"] not in replaced
        if (different := _differences(content, identity) - {"inputs"})
    }
    if others:
        names = ", ".join(list(others)[:3]) + ", ..." * (len(others) > 3)
        what = ", ".join(sorted(set().union(*others.values())))
        raise ResultError(
            f"{out}: results of {len(others)} scan(s) were made with other {what} "
            f"({names}), and one table must not mix them; give another folder with -o, "
            "or compute all of them again with --overwrite"
        )


def look_up(out: Path, name: str, identity: Identity) -> Found:
    """Whether a scan has a complete result from the same inputs, weights, settings.

    Raises:
        ResultError: it has another one, or one that was changed since.
    """
    files = paths(out, name)
    if not files.sidecar.is_file():
        return Found(False, "")
    try:
        content = _read_sidecar(files.sidecar)
    except DamagedError as error:
        return Found(False, f"{error}: computed anew")
    if content is None:
        raise ResultError(
            f"{files.sidecar} is another program's; use --overwrite or another -o"
        )
    if different := _differences(content, identity):
        raise ResultError(
            f"{files.labels} is there already, made with other "
            f"{', '.join(sorted(different))}; use --overwrite or another -o"
        )
    for path in (files.labels, files.qc):
        if not path.is_file():
            return Found(False, f"{path} is missing: computed anew")
    if sha256_of_file(files.labels) != content["Files"].get(files.labels.name):
        raise ResultError(
            f"{files.labels} is not what was written (edited, or damaged), so its "
            "measurements do not hold; --overwrite computes it again, or move it away"
        )
    if "Failed" in content:  # and now its inputs are as they were
        del content["Failed"]
        write_sidecar(out, name, content)
    notice = "already done, skipped (--overwrite computes it again)"
    ran, wanted = content["Executed"].get("mode"), identity.settings.get("mode")
    if ran != wanted:
        notice += f"; memory was short: run as {ran}, not {wanted}"
    return Found(True, notice)


def discard(out: Path, name: str) -> None:
    """Removes a scan's result, the side-car first."""
    files = paths(out, name)
    for path in (files.sidecar, files.labels, files.qc):
        path.unlink(missing_ok=True)


def mark_failed(out: Path, name: str, error: str) -> None:
    """Takes a scan's rows out of the tables, if it has any, and leaves its files."""
    path = paths(out, name).sidecar
    with contextlib.suppress(DamagedError, OSError):  # OSError: a full disk
        content = _read_sidecar(path) if path.is_file() else None
        if content is not None:
            write_sidecar(out, name, content | {"Failed": error})


def write_sidecar(out: Path, name: str, content: Mapping[str, Any]) -> None:
    """Writes provenance and measurements of one scan (BIDS derivative side-car)."""
    text = json.dumps(plain(content), indent=1, allow_nan=False)
    path = paths(out, name).sidecar
    write_atomically(path, lambda part: part.write_text(text, "utf-8"))


def write_tables(out: Path, identity: Identity, without: Collection[str] = ()) -> None:
    """Rebuilds both measurement tables from all complete results in the folder.

    Args:
        out: the folder.
        identity: only results of these weights, settings and version are taken.
        without: scans that have failed.
    """
    found = [
        content
        for content in _sidecars(out)
        if _differences(content, identity) <= {"inputs"}
        and "Failed" not in content
        and content["Scan"] not in without
    ]
    write_rows(out / MEASUREMENTS, (r for s in found for r in s["Measurements"]))
    write_rows(out / SLICES, (r for s in found for r in s["SliceMeasurements"]))


def write_failures(out: Path, failures: Iterable[Mapping[str, str]]) -> None:
    """Writes the scans of this run that have no result; a header if there are none."""
    write_rows(out / FAILURES, failures, ["scan", "files", "error"])


def write_label_tables(out: Path) -> None:
    """Writes the names and colours of the labels for ITK-SNAP and 3D Slicer."""
    for name, text in (
        ("labels_itksnap.txt", itksnap_labels()),
        ("labels_slicer.ctbl", slicer_colors()),
    ):
        write_atomically(out / name, lambda part, text=text: part.write_text(text))


def plain(value: Any) -> Any:
    """The same as JSON knows it: lists, text keys, null for what is not finite."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _differences(content: Mapping[str, Any], identity: Identity) -> set[str]:
    """In what a result's identity is not this one, in words."""
    old, new = content["Identity"], plain(asdict(identity))
    words = {
        "inputs_sha256": "inputs",
        "weights_sha256": "weights",
        "cervjax_version": f"versions of cervjax than {__version__}",
    }
    found = {word for key, word in words.items() if old.get(key) != new[key]}
    settings = old.get("settings")
    if settings != new["settings"]:
        settings = settings if isinstance(settings, dict) else {}
        names = settings.keys() | new["settings"].keys()
        wrong = sorted(n for n in names if settings.get(n) != new["settings"].get(n))
        found.add(f"settings ({', '.join(wrong)})")
    return found


def _sidecars(out: Path) -> Iterator[dict[str, Any]]:
    """The complete side-cars in a folder, by name."""
    for path in sorted(out.glob(f"*{_SIDECAR_SUFFIX}")):
        with contextlib.suppress(DamagedError):
            content = _read_sidecar(path) if path.is_file() else None
            if content is not None:
                yield content


def _read_sidecar(path: Path) -> dict[str, Any] | None:
    """None for another program's.

    Raises:
        DamagedError: no JSON, or something is missing.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedError(f"{path} is damaged ({type(error).__name__})") from error
    try:
        ours = content["GeneratedBy"][0]["Name"] == "cervjax"
    except (LookupError, TypeError):
        ours = False
    if not ours:
        return None
    whole = all(isinstance(content.get(k), kind) for k, kind in _PARTS.items())
    tables = ("Measurements", "SliceMeasurements")
    if not whole or not all(isinstance(r, dict) for k in tables for r in content[k]):
        raise DamagedError(f"{path} is damaged (parts are missing)")
    return content
