"""Atomic writes, JSON of any origin, content hashes, folders with links in them."""

import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_LARGEST_JSON = 64_000_000  # bytes
_PART = re.compile(r"\.[0-9a-f]{16}\.part(\.\S*)?")
_LONG_AGO_S = 3600.0  # a part that old is of a run that was killed


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> None:
    """Calls ``write(part)`` on a file beside ``path``, then renames it into place.

    A reader finds the old file or the whole new one, never a piece, after a power cut
    as well. The part has a name of its own, whatever other machines write there.
    """
    path = Path(path)
    ending = "".join(path.suffixes[-2:])[-16:]
    part = path.with_name(f".{secrets.token_hex(8)}.part{ending}")
    try:
        write(part)
        flush(part)
        os.replace(part, path)
        flush(path.parent)
    finally:
        part.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Waits until a file's content, or a folder's names, are on the disk."""
    if path.is_dir() and os.name != "posix":
        return
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError:  # some file systems cannot, such as those of networks
        pass
    finally:
        os.close(number)


def remove_old_parts(folder: Path) -> None:
    """Deletes what runs that were killed have left of files and folders of files."""
    for part in folder.glob(".*.part*"):
        try:
            is_ours = _PART.fullmatch(part.name) is not None
            if is_ours and time.time() - part.stat().st_mtime > _LONG_AGO_S:
                shutil.rmtree(part) if part.is_dir() else part.unlink()
        except OSError:
            continue


def user_cache() -> Path:
    """The user's cache folder; a temporary one for a user without a home."""
    given = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(given) if given else Path.home() / ".cache"
    except RuntimeError:
        return Path(tempfile.gettempdir())


def read_json(path: Path) -> Any:
    """The content of a JSON file, whoever wrote it.

    UTF-8, or else Latin-1, as older converters write. Numbers of hundreds of digits are
    infinite.

    Raises:
        ValueError: it is no regular file, too large, no JSON, or nested too deep.
        OSError: it cannot be read.
    """
    if not path.is_file():
        raise ValueError(f"{path} is not a regular file")
    if path.stat().st_size > _LARGEST_JSON:
        raise ValueError(f"{path} has more than {_LARGEST_JSON} bytes")
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    try:
        return json.loads(text, parse_int=_whole)
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deep") from error
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits) < 100 else float(digits)


def sha256_of_file(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def walk_once(
    root: str | Path, onerror: Callable[[OSError], object] | None = None
) -> Iterator[tuple[Path, list[str], list[str]]]:
    """`os.walk` from the top that follows links, but enters no folder twice.

    Args:
        root: folder to begin with.
        onerror: called for a folder that cannot be read.

    Yields:
        A folder, the names of its subfolders (taken away, they are not entered), and
        the names of its files.
    """
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(root, onerror=onerror, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
        else:
            seen.add(real)
            yield Path(folder), subfolders, names
