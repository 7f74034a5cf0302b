"""An entry of the cache of prepared volumes: whole and as it was written, or not."""

import hashlib
import json
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cervjax.io.files import sha256_of_file

_RECORD = "volume.json"
_DAMAGED = (
    OSError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    RecursionError,
)


class DataError(ValueError):
    """Scans or labels that cannot be trained on."""


class CacheError(DataError):
    """The folder of the cache cannot be used; another scan would meet the same."""


def write_entry(
    entry: Path,
    arrays: Mapping[str, np.ndarray],
    voxels: Mapping[str, Any],
    details: dict[str, Any],
) -> dict[str, Any]:
    """Writes an entry beside its place and moves it there; returns its record."""
    part = entry.with_name(f".{secrets.token_hex(8)}.part")
    try:
        part.mkdir(parents=True)
        for name, array in arrays.items():
            np.save(part / name, np.ascontiguousarray(array))
        np.savez(part / "voxels.npz", **voxels)
        digests = {path.name: sha256_of_file(path) for path in part.iterdir()}
        record = json.loads(
            json.dumps({**details, "key": entry.name, "digests": digests})
        )
        record["digest"] = _digest(record)
        (part / _RECORD).write_text(json.dumps(record, indent=1) + "\n")
        if read_record(entry) is None:
            shutil.rmtree(entry, ignore_errors=True)
            part.rename(entry)
    except OSError as error:
        record = read_record(entry)  # another run may have been quicker
        if record is None:
            needed_mb = sum(array.nbytes for array in arrays.values()) / 1e6
            raise CacheError(
                f"cannot write into the cache {entry.parent} ({error.strerror or error}"
                f"); this entry takes {needed_mb:.0f} MB; free some space, or give "
                "another folder"
            ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return record


def read_record(entry: Path) -> dict[str, Any] | None:
    """The record of an entry; None if it or any of its files is not as written."""
    try:
        record = json.loads((entry / _RECORD).read_bytes())
        whole = record.pop("digest") == _digest(record) and all(
            sha256_of_file(entry / name) == digest
            for name, digest in record["digests"].items()
        )
        whole = whole and record["key"] == entry.name
    except _DAMAGED:
        return None
    return record if whole else None


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
