"""Files that cervjax has written, and no others, are replaced.

A hidden record in each folder names them by their SHA-256, in lines as ``sha256sum``
has them. What is not in it, or was changed since, is somebody's own.
"""

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cervjax.io.files import flush, sha256_of_file
from cervjax.io.lock import locked

RECORD = ".cervjax"


class OthersFileError(ValueError):
    """A file is there that cervjax has not written."""


def check_ours(folder: Path, names: Iterable[str]) -> None:
    """Looks for files that a command would replace, before it does any work.

    Raises:
        OthersFileError: one of them was not written by cervjax, or changed since.
    """
    for name in names:
        if _is_others(folder / name):
            raise OthersFileError(
                f"{folder / name} is there and is not as cervjax has written it, so it "
                "is not replaced; give another folder with -o, or move it away"
            )


def adopt(folder: Path, names: Iterable[str]) -> None:
    """Takes files as cervjax's own, because other files of the folder show it."""
    there = [folder / name for name in names if (folder / name).is_file()]
    _record(folder, {path.name: sha256_of_file(path) for path in there})


def remove_ours(path: Path) -> None:
    """Deletes a file of an earlier run, if there is one; never somebody's own."""
    if path.exists() and not _is_others(path):
        path.unlink()


@contextmanager
def written_together(folder: Path, *, record: bool = True) -> Iterator[Path]:
    """A folder for new files, which come into another one when all are written.

    Args:
        folder: where they come; made if need be.
        record: whether later runs may replace them by others.

    Yields:
        An empty folder beside them; no files come of it if an exception is raised.

    Raises:
        OthersFileError: one of them would replace somebody's own; none has come.
    """
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{secrets.token_hex(8)}.part"
    part.mkdir()
    try:
        yield part
        new = {path: sha256_of_file(path) for path in sorted(part.iterdir())}
        check_ours(folder, [p.name for p, d in new.items() if not _is(folder, p, d)])
        if record:
            _record(folder, {path.name: digest for path, digest in new.items()})
        for path in new:
            flush(path)
            os.replace(path, folder / path.name)
        flush(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _is(folder: Path, new: Path, digest: str) -> bool:
    """Whether the same is there already."""
    old = folder / new.name
    return old.is_file() and sha256_of_file(old) == digest


def _is_others(path: Path) -> bool:
    if not os.path.lexists(path):
        return False
    if not path.is_file():
        return True
    line = _line(path.name, sha256_of_file(path))  # before the record is read
    try:
        return path.stat().st_size > 0 and line not in _read(path.parent)
    except FileNotFoundError:  # another run has just removed it
        return False


def _read(folder: Path) -> bytes:
    try:
        return (folder / RECORD).read_bytes()
    except FileNotFoundError:
        return b""


def _record(folder: Path, files: dict[str, str]) -> None:
    """Says that files of these names and digests are ours, before they are there."""
    known = _read(folder)
    lines = [_line(name, digest) for name, digest in files.items()]
    new = b"".join(line for line in lines if line not in known)
    if new:
        with open(folder / RECORD, "ab") as stream, locked(stream):
            stream.write(new)
            stream.flush()
            os.fsync(stream.fileno())


def _line(name: str, digest: str) -> bytes:
    return f"{digest}  {name}\n".encode(errors="surrogateescape")
