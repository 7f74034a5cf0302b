"""The side-car of a scan's result: where it comes from.

It is written last and marks the result as complete. Before a mask is replaced a
provisional one is written, so that what was cut short is never taken for hand-made.
"""

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cervjax.about import __version__
from cervjax.io.files import read_json, write_atomically

_SIDECAR_SUFFIX = "_dseg.json"
_PARTS = {
    "Scan": str,
    "Identity": dict,
    "Executed": dict,
    "Files": dict,
}
"""What a complete side-car has, and of which type."""
_OURS = {"GeneratedBy": [{"Name": "cervjax", "Version": __version__}]}


class ResultError(ValueError):
    """A result is there that this run must not touch."""


class DamagedError(ValueError):
    """A side-car that cannot be read as one."""


class UnfinishedError(DamagedError):
    """A result that was being written when the run ended; holds the digests."""

    def __init__(self, digests: Any):
        super().__init__("unfinished")
        self.digests = digests if isinstance(digests, list) else []


class Paths(NamedTuple):
    """The files of one scan's result."""

    labels: Path
    sidecar: Path
    qc: Path
    tables: Path


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
        out / f"{name}_tables.json.gz",
    )


def write_sidecar(out: Path, name: str, content: Mapping[str, Any]) -> None:
    """Writes the provenance of one scan (BIDS derivative side-car)."""
    text = json.dumps(plain(content), indent=1, allow_nan=False)
    path = paths(out, name).sidecar
    write_atomically(path, lambda part: part.write_text(text, "utf-8"))


def write_provisional(out: Path, name: str, digests: list[str]) -> None:
    """Says that files with these digests are ours, while a result is being written."""
    write_sidecar(out, name, _OURS | {"Scan": name, "Writing": digests})


def plain(value: Any) -> Any:
    """The same as JSON knows it: lists, text keys, null for what is not finite."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def differences(content: Mapping[str, Any], identity: Identity) -> set[str]:
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


def sidecars(out: Path) -> Iterator[dict[str, Any]]:
    """The complete side-cars in a folder, by name."""
    for path in sorted(out.glob(f"*{_SIDECAR_SUFFIX}")):
        with contextlib.suppress(DamagedError):
            content = read_sidecar(path) if path.is_file() else None
            if content is not None:
                yield content


def read_sidecar(path: Path) -> dict[str, Any] | None:
    """None for another program's.

    Raises:
        DamagedError: no JSON, or something is missing.
    """
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path} is damaged ({type(error).__name__})") from error
    try:
        ours = content["GeneratedBy"][0]["Name"] == "cervjax"
    except (LookupError, TypeError):
        ours = False
    if not ours:
        return None
    if "Writing" in content:
        raise UnfinishedError(content["Writing"])
    whole = all(isinstance(content.get(k), kind) for k, kind in _PARTS.items())
    if not whole:
        raise DamagedError(f"{path} is damaged (parts are missing)")
    return content
