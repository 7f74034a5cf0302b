"""A folder for one process at a time."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK_NAME = ".lock"


class FolderInUseError(OSError):
    """Another process is working in a folder."""


@contextmanager
def alone_in(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Holds the lock of a folder; it ends with the process, however that ends.

    Where the system or the file system has no locks, nobody is kept out.

    Args:
        folder: must exist; a hidden file in it is the lock.
        wait: until another process has done, instead of raising.

    Raises:
        FolderInUseError: another process holds the lock.
    """
    if fcntl is None:
        yield
        return
    with open(folder / LOCK_NAME, "a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise FolderInUseError(
                f"{folder} is being used by another run; wait for its end, or give "
                "another folder"
            ) from None
        except OSError:  # network file systems may have none
            pass
        yield


@contextmanager
def locked(stream: IO[bytes]) -> Iterator[None]:
    """Holds the lock of an open file; nobody is kept out where there are none."""
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(stream, fcntl.LOCK_EX)
    yield
