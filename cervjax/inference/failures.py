"""Scans without a result, in words; and who is told while scans are worked on."""

import errno
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cervjax.io.scans import Scan

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors that every other scan would meet, too."""


@dataclass(frozen=True)
class Failure:
    """A scan without a result.

    Attributes:
        scan: its name.
        files: its files, separated by semicolons.
        error: what is wrong and what to do.
        details: the traceback, where an exception was raised.
    """

    scan: str
    files: str
    error: str
    details: str = ""

    def row(self) -> dict[str, str]:
        """The row of ``failures.csv``."""
        return {"scan": self.scan, "files": self.files, "error": self.error}


def _print_failure(failure: Failure) -> None:
    print(f"FAILED {failure.scan}: {failure.error}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Listener:
    """What is called while scans are segmented.

    Attributes:
        log: with a line for the user.
        on_failure: with each scan that has no result.
        on_stage: with a scan's name and one of `stages.STAGES` that begins; called from
            several threads.
        on_finished: with a scan's name and the seconds of its stages, none if it was
            skipped or has failed.
    """

    log: Callable[[str], object] = print
    on_failure: Callable[[Failure], object] = _print_failure
    on_stage: Callable[[str, str], object] = lambda name, stage: None
    on_finished: Callable[[str, Mapping[str, float]], object] = lambda name, s: None


def failure_of(scan: Scan, error: Exception) -> Failure:
    """A scan that ended in an exception, in words."""
    files = "; ".join(map(str, scan.files.values()))
    details = "".join(traceback.format_exception(error))
    return Failure(scan.name, files, _explain(error), details)


def _explain(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return f"the disk is full ({error.filename}); free some space and run again"
    if isinstance(error, ValueError):
        return str(error)
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return (
            f"out of memory ({error}); use --mode sliding_window or a smaller --window"
        )
    return f"unexpected {type(error).__name__}: {error}"
