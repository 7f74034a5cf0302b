"""What stands in a results folder about one scan, and what may be replaced there.

Masks that cervjax did not write, or that were changed since, are never replaced.
"""

import contextlib
import gzip
import hashlib
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from cervjax.inference.sidecar import (
    DamagedError,
    Identity,
    Paths,
    ResultError,
    UnfinishedError,
    differences,
    paths,
    read_sidecar,
    write_provisional,
    write_sidecar,
)
from cervjax.io.files import sha256_of_file, write_atomically

EDITED = "edited"
"""What a side-car's ``MaskSource`` is where somebody changed the mask."""

MaskState = Literal["absent", "ours", "edited", "foreign", "unknown"]


class Found(NamedTuple):
    """What is in the folder about a scan.

    Attributes:
        done: there is a result, and it is what this run would compute.
        notice: a line for the user, or nothing.
        edited: the side-car of a mask that was changed by hand and is to be measured as
            it is, or None.
    """

    done: bool
    notice: str
    edited: Mapping[str, Any] | None = None


def mask_state(files: Paths) -> MaskState:
    """Whose a scan's mask is.

    "ours": as it was written; "edited": changed since; "foreign": no program of this
    name wrote it; "unknown": its side-car is damaged.
    """
    if not files.labels.is_file():
        return "absent"
    if not files.sidecar.is_file():
        return "foreign"
    try:
        content = read_sidecar(files.sidecar)
    except UnfinishedError as error:
        known = error.digests
    except DamagedError:
        return "unknown"
    else:
        if content is None:
            return "foreign"
        if files.labels.name not in content["Files"]:
            return "foreign"  # it was measured where it lay
        known = [content["Files"][files.labels.name]]
        if content.get("MaskSource") == EDITED:
            return "edited"
    return "ours" if sha256_of_file(files.labels) in known else "edited"


def look_up(
    out: Path,
    name: str,
    identity: Identity,
    *,
    overwrite: bool = False,
    discard_edits: bool = False,
) -> Found:
    """Whether a scan has a complete result from the same inputs, weights, settings.

    Args:
        out: the folder.
        name: of the scan.
        identity: what this run would compute.
        overwrite: compute it again, but for a mask that was edited.
        discard_edits: draw such masks again, too.

    Raises:
        ResultError: it has another one, or one that cervjax did not write.
    """
    files = paths(out, name)
    state = mask_state(files)
    if state == "foreign":
        raise ResultError(
            f"{files.labels} is there and was not written by cervjax (drawn by hand?), "
            "so it is never replaced; give another folder with -o. To measure it: "
            "cervjax measure"
        )
    try:
        content = read_sidecar(files.sidecar) if files.sidecar.is_file() else None
    except UnfinishedError:
        return Found(False, "")
    except DamagedError as error:
        return Found(False, f"{error}: computed anew")
    check_others(files)
    if content is None:
        return Found(False, "")
    if state == "edited" and discard_edits:
        return Found(False, "the edited mask is discarded and drawn again")
    if not overwrite and (different := differences(content, identity)):
        raise ResultError(
            f"{files.labels} is there already, made with other "
            f"{', '.join(sorted(different))}; use --overwrite or another -o"
        )
    if state == "edited" and _is_cut(files.labels):
        return Found(False, f"{files.labels} is cut short: computed anew")
    if state == "edited":
        return _edited(files, content, overwrite)
    return Found(False, "") if overwrite else _whole(out, files, content, identity)


def check_others(files: Paths) -> None:
    """Looks for a side-car or picture that is another program's, or somebody's own.

    Raises:
        ResultError: there is one; a picture is ours if there is a side-car of ours.
    """
    if files.sidecar.is_file():
        with contextlib.suppress(DamagedError):
            if read_sidecar(files.sidecar) is None:
                raise ResultError(
                    f"{files.sidecar} is another program's; give another folder with -o"
                )
        return
    for path in (files.qc, files.tables):
        if os.path.lexists(path):
            raise ResultError(
                f"{path} is there and was not written by cervjax, so it is not "
                "replaced; give another folder with -o, or move it away"
            )


def _edited(files: Paths, content: Mapping[str, Any], overwrite: bool) -> Found:
    kept = f"{files.labels.name} was edited: kept and"
    undo = "(--discard-edits draws it again)"
    own = (files.labels, files.qc, files.tables)
    now = {p.name: sha256_of_file(p) for p in own if p.is_file()}
    if not overwrite and content["Files"] == now and "Failed" not in content:
        return Found(True, f"{kept} already measured, skipped {undo}")
    return Found(False, f"{kept} measured as it is {undo}", content)


def _whole(
    out: Path, files: Paths, content: dict[str, Any], identity: Identity
) -> Found:
    """The result of a scan that nobody has touched."""
    for path in (files.labels, files.qc, files.tables):
        if not path.is_file():
            return Found(False, f"{path} is missing: computed anew")
    for path in (files.qc, files.tables):
        if sha256_of_file(path) != content["Files"].get(path.name):
            return Found(False, f"{path} is not what was written: computed anew")
    if "Failed" in content:  # and now its inputs are as they were
        del content["Failed"]
        write_sidecar(out, content["Scan"], content)
    notice = "already done, skipped (--overwrite computes it again)"
    ran, wanted = content["Executed"].get("mode"), identity.settings.get("mode")
    if ran != wanted:
        notice += f"; memory was short: run as {ran}, not {wanted}"
    return Found(True, notice)


def replace_mask(
    out: Path, name: str, content: bytes, *, discard_edits: bool = False
) -> None:
    """Writes a scan's mask, unless that would destroy what somebody else has drawn.

    Args:
        out: the folder.
        name: of the scan.
        content: the mask's file.
        discard_edits: replace a mask that was edited.

    Raises:
        ResultError: the mask there is not ours, or was edited.
    """
    files = paths(out, name)
    check_others(files)
    state, old = mask_state(files), None
    if files.labels.is_file():
        old = sha256_of_file(files.labels)
    new = hashlib.sha256(content).hexdigest()
    kept = ("foreign",) if discard_edits else ("foreign", "edited", "unknown")
    if state in kept and old != new and not _begins(files.labels, content):
        raise ResultError(
            f"{files.labels} is not what cervjax has written (drawn or edited by hand, "
            "or damaged), so it is not replaced; give another folder with -o, move it "
            "away, or discard edits with --discard-edits"
        )
    write_provisional(out, name, [d for d in (old, new) if d])
    write_atomically(files.labels, lambda part: part.write_bytes(content))


def _is_cut(path: Path) -> bool:
    """Whether a mask ends before its time: a write, or a copy, that was cut short."""
    try:
        with gzip.open(path) as stream:
            while stream.read(1 << 20):
                pass
    except EOFError:
        return True
    except (OSError, zlib.error):
        return False
    return not path.stat().st_size


def _begins(path: Path, content: bytes) -> bool:
    """Whether a mask is the beginning of this one, so that nothing is lost with it."""
    return path.stat().st_size < len(content) and content.startswith(path.read_bytes())


def discard(out: Path, name: str, error: str) -> None:
    """Removes a scan's result; an edited mask, and what is others', is kept."""
    files = paths(out, name)
    state = mask_state(files)
    if state in ("edited", "unknown"):
        mark_failed(out, name, error)
    elif state != "foreign":
        with contextlib.suppress(ResultError):
            check_others(files)
            _remove(out, name, files)


def _remove(out: Path, name: str, files: Paths) -> None:
    """The side-car goes last: what is left by a kill before is known as ours."""
    if files.labels.is_file():
        with contextlib.suppress(OSError):  # a full disk
            write_provisional(out, name, [sha256_of_file(files.labels)])
    for path in (files.labels, files.qc, files.tables, files.sidecar):
        path.unlink(missing_ok=True)


def mark_failed(out: Path, name: str, error: str) -> None:
    """Takes a scan's rows out of the tables, if it has any, and leaves its files."""
    path = paths(out, name).sidecar
    with contextlib.suppress(DamagedError, OSError):  # OSError: a full disk
        content = read_sidecar(path) if path.is_file() else None
        if content is not None:
            write_sidecar(out, name, content | {"Failed": error})
