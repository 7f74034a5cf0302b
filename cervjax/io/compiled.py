"""JAX's folder of compiled programs: damaged or exchanged entries are taken away.

JAX runs whatever lies under a program's name, and never replaces an entry that it
cannot read. So each entry gets a stamp beside it, the hash of its name and content.
"""

import atexit
import contextlib
import hashlib
from pathlib import Path

from cervjax.io.files import write_atomically

_ENTRY, _STAMP = "-cache", ".sha256"

_left_alone: dict[Path, frozenset[str]] = {}
"""By folder that is tended, entries without a stamp of ours that were there before."""


def tend(folder: Path, *, is_ours: bool) -> None:
    """Removes entries that are not as they were written; new ones will be stamped.

    A folder that cannot be read or written is left as it is.

    Args:
        folder: of compiled programs; need not exist.
        is_ours: no other program writes there, so that entries without a stamp are of
            runs that were killed, and go, too.
    """
    unknown = set()
    for entry in folder.glob(f"*{_ENTRY}"):
        with contextlib.suppress(OSError):
            stamp = _stamp_of(entry)
            known = stamp.read_text() if stamp.is_file() else None
            if known is None and not is_ours:
                unknown.add(entry.name)
            elif known != _digest(entry):
                entry.unlink(missing_ok=True)
                stamp.unlink(missing_ok=True)
    if not _left_alone:
        atexit.register(stamp_new)
    _left_alone[folder] = frozenset(unknown)


def stamp_new() -> None:
    """Stamps what was compiled since `tend`; nothing where nothing is tended."""
    for folder, unknown in _left_alone.items():
        for entry in folder.glob(f"*{_ENTRY}"):
            stamp = _stamp_of(entry)
            with contextlib.suppress(OSError):
                if entry.name not in unknown and not stamp.is_file():
                    text = _digest(entry)
                    write_atomically(stamp, lambda part, t=text: part.write_text(t))


def _stamp_of(entry: Path) -> Path:
    return entry.with_name(entry.name + _STAMP)


def _digest(entry: Path) -> str:
    return hashlib.sha256(entry.name.encode() + b"\n" + entry.read_bytes()).hexdigest()
