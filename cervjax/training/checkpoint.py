"""Checkpoints of training: state, place in the data, progress, config and landmarks.

Orbax v1. A checkpoint is a folder that appears whole or not at all; the latest and the
best are kept, and saving goes on beside the next steps.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

METRIC = "dice"
_POLICIES = ocp.training.preservation_policies


class CheckpointMismatch(ValueError):
    """A checkpoint of another network, optimizer or data set."""


class DamagedCheckpoint(ValueError):
    """A checkpoint that is not what was written, or cannot be read."""

    def __init__(self, step: int, reason: object):
        super().__init__(f"checkpoint of step {step} is damaged ({reason})")
        self.step = step


def open_checkpoints(folder: Path) -> ocp.training.Checkpointer:
    """Opens (or makes) the folder of a run's checkpoints; to be used with ``with``.

    Kept are the two latest and the one with the best ``metrics["dice"]``.

    Raises:
        DamagedCheckpoint: one of them keeps all from being opened.
    """
    try:
        return ocp.training.Checkpointer(
            folder.resolve(),
            save_decision_policy=_Always(),
            preservation_policy=_POLICIES.AnyPreservationPolicy(
                [
                    _POLICIES.LatestN(2),
                    _POLICIES.BestN(
                        get_metric_fn=lambda metrics: metrics[METRIC],
                        n=1,
                        keep_checkpoints_without_metrics=False,
                    ),
                ]
            ),
            cleanup_tmp_directories=True,
        )
    except Exception as error:  # Orbax reads the metrics of all
        steps = _steps(folder)
        if not steps:
            raise
        bad = [n for n in steps if not _has_readable_metrics(steps[n])]
        raise DamagedCheckpoint(max(bad or steps), _first_line(error)) from error


def _steps(folder: Path) -> dict[int, Path]:
    return {int(p.name): p for p in folder.iterdir() if p.name.isdigit()}


def _has_readable_metrics(checkpoint: Path) -> bool:
    try:
        for path in checkpoint.glob("metrics/metrics"):
            json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return True


class _Always(ocp.training.save_decision_policies.SaveDecisionPolicy):
    """The loop decides when to save."""

    def should_save(self, step, previous_steps, *, context) -> bool:
        del step, previous_steps, context
        return True


def save(
    checkpointer: ocp.training.Checkpointer,
    step: int,
    state: Any,
    data: Any,
    record: Mapping[str, Any],
    *,
    dice: float | None,
) -> ocp.AsyncResponse:
    """Starts to save; goes on in the background until the result is asked for.

    Args:
        checkpointer: of `open_checkpoints`; no other save may be going on.
        step: steps done.
        state: a tree of arrays.
        data: grain's iterator.
        record: progress, config and landmarks, as JSON has them.
        dice: validation result at this step, if there is one.

    Returns:
        What to call ``result()`` of, which raises if the checkpoint was not written.
    """
    flat = _flat(state)
    told = json.loads(json.dumps({**record, "state_sha256": _digest(flat)}))
    told["sha256"] = _digest_of_record(told)
    content = {"state": flat, "data": data, "record": told}
    metrics = None if dice is None else {METRIC: dice}
    return checkpointer.save_checkpointables_async(step, content, metrics=metrics)


def read_record(checkpointer: ocp.training.Checkpointer, step: int) -> dict[str, Any]:
    """The record saved at a step, alone.

    Raises:
        DamagedCheckpoint: it cannot be read, or is not what was written.
    """
    try:
        record = checkpointer.load_checkpointables(step, {"record": None})["record"]
        written = record.pop("sha256")
    except Exception as error:  # whatever Orbax meets in damaged files
        raise DamagedCheckpoint(step, _first_line(error)) from error
    if written != _digest_of_record(record):
        raise DamagedCheckpoint(step, "its record is not what was written")
    return record


def set_aside(folder: Path, step: int) -> Path | None:
    """Moves a damaged checkpoint out of the way, if there is another one.

    Args:
        folder: of the run's checkpoints; not open.
        step: of the damaged one.

    Returns:
        Where it is now; None if it is the only one, and stays.
    """
    steps = _steps(folder)
    if len(steps) < 2:
        return None
    found = steps[step]
    target = folder.parent / "damaged" / found.name
    while target.exists():
        target = target.with_name(f"{target.name}_")
    target.parent.mkdir(exist_ok=True)
    found.rename(target)
    return target


def check_scans(now: dict[str, Any], then: dict[str, Any], workdir: Path) -> None:
    """Requires that a run goes on with the scans that it was started with.

    Args:
        now: per part of the data, name and hash of each prepared scan.
        then: those of the checkpoint.
        workdir: for the message.

    Raises:
        CheckpointMismatch: names a scan that differs.
    """
    for part, scans in now.items():
        a, b = ({name: key for name, key in found} for found in (scans, then[part]))
        if scans != then[part]:
            names = sorted(n for n in a.keys() | b.keys() if a.get(n) != b.get(n))
            raise CheckpointMismatch(
                f"{workdir} was trained with {len(b)} {part} scan(s), now there are "
                f"{len(a)}; new, gone or changed: {', '.join(names[:5]) or 'none'}; "
                "train with the scans it was started with, or in another work directory"
            )


def restore(
    checkpointer: ocp.training.Checkpointer, step: int, state: Any, data: Any
) -> Any:
    """Reads a state, and puts the data iterator where it was.

    Args:
        checkpointer: of `open_checkpoints`.
        step: one of its steps.
        state: a state of the same kind, for structure, types and devices.
        data: an iterator of the same pipeline; is changed.

    Raises:
        CheckpointMismatch: the checkpoint holds other arrays; the first is named.
        DamagedCheckpoint: it cannot be read, or is not what was written.
    """
    flat = _flat(state)
    try:
        with _quiet():  # Orbax warns that it has none of the other entries
            found = checkpointer.checkpointables_metadata(step).metadata["state"]
    except Exception as error:  # whatever Orbax meets in damaged files
        raise DamagedCheckpoint(step, _first_line(error)) from error
    for name in sorted(flat.keys() | found.keys()):
        expected, got = (
            f"{tuple(v.shape)} {np.dtype(v.dtype)}" if v is not None else "absent"
            for v in (flat.get(name), found.get(name))
        )
        if expected != got:
            raise CheckpointMismatch(
                f"{checkpointer.directory}, step {step}: {name} is {got}, this "
                f"configuration needs {expected}; train with the configuration it was "
                "made by, or in another work directory"
            )
    like = {
        k: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=v.sharding)
        for k, v in flat.items()
    }
    written = read_record(checkpointer, step)["state_sha256"]
    try:
        loaded = checkpointer.load_checkpointables(step, {"state": like, "data": data})
    except Exception as error:  # the same
        raise DamagedCheckpoint(step, _first_line(error)) from error
    if _digest(loaded["state"]) != written:
        raise DamagedCheckpoint(step, "its arrays are not what was written")
    structure = jax.tree.structure(state)
    return jax.tree.unflatten(structure, [loaded["state"][name] for name in flat])


@contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _flat(tree: Any) -> dict[str, Any]:
    """Leaves by their path, such as ``params/stem/kernel``, in order."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _digest(flat: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name in sorted(flat):
        array = np.asarray(jax.device_get(flat[name]))
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _digest_of_record(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
