"""The scans of a training run: found or made, divided, prepared."""

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from cervjax.anatomy import MUSCLES
from cervjax.data.cache import (
    DataError,
    Volume,
    cache_volumes,
    learn_landmarks,
)
from cervjax.data.split import (
    Split,
    check_disjoint,
    split_folds,
    split_participants,
)
from cervjax.data.tissue_maps import MapFile
from cervjax.io.files import user_cache
from cervjax.io.labels import LabelledScan, find_labelled
from cervjax.phantom.dataset import write_dataset
from cervjax.preprocessing.histogram import read_landmarks
from cervjax.preprocessing.pipeline import Recipe

Log = Callable[[str], object]
Landmarks = dict[str, tuple[float, ...]]
_PREPARED_AT_ONCE = 4  # scans; a scan of the paper's size takes a gigabyte of memory


class TrainSet(NamedTuple):
    """Prepared volumes.

    Attributes:
        train: to train on.
        validation: of other participants; may be empty.
        recipe: the preprocessing, with landmarks.
        description: for the model card.
        maps: tissue maps to train on, instead of volumes.
    """

    train: list[Volume]
    validation: list[Volume]
    recipe: Recipe
    description: str
    maps: tuple[MapFile, ...] = ()


def load_train_set(data: ConfigDict, landmarks: Landmarks | None, log: Log) -> TrainSet:
    """Finds (or makes) the scans of ``config.data`` and prepares them.

    Args:
        data: that section of the config.
        landmarks: of the run that is resumed or of the weights to start from, or None.
        log: receives lines about what is done.

    Raises:
        ValueError: the scans or their labels cannot be used; every one is named.
    """
    split, description = _scans(data, log)
    check_disjoint(split)
    if data.root and split.validation:
        log(f"held out: {', '.join(sorted({s.participant for s in split.validation}))}")
    recipe = Recipe(
        landmarks=landmarks or {},
        spacing_mm=tuple(data.spacing_mm),
        padding=tuple(data.padding),
        padding_mode=data.padding_mode,
        skip_fitting_grid=data.skip_fitting_grid,
    )
    if data.get("normalisation") == "foreground":
        recipe = replace(
            recipe, landmarks={}, keep_last_plane=True, normalisation="foreground"
        )
    elif not landmarks:
        recipe = replace(recipe, landmarks=_landmarks(data, split.train, recipe, log))
    folder = cache_folder(data) / "volumes"
    scans = [*split.train, *split.validation]
    log(f"preparing {len(scans)} scan(s) in {folder}")
    volumes = cache_volumes(
        scans,
        recipe,
        folder,
        ignore_label=data.get("ignore_label", -1),
        log=log,
        on_progress=lambda name: log(f"  {name}"),
        workers=min(os.cpu_count() or 1, _PREPARED_AT_ONCE),
    )
    train, validation = volumes[: len(split.train)], volumes[len(split.train) :]
    check_classes(train, tuple(data.allow_absent))
    return TrainSet(train, validation, recipe, description)


def cache_folder(data: ConfigDict) -> Path:
    """Where prepared volumes and digital necks are kept between runs."""
    return Path(data.cache) if data.cache else user_cache() / "cervjax"


def check_classes(volumes: Sequence[Volume], allowed: Collection[int] = ()) -> None:
    """A muscle that occurs in no training scan can never be learnt.

    Args:
        volumes: the training scans.
        allowed: labels that may be absent.

    Raises:
        DataError: names the muscles.
    """
    counts = np.sum([volume.counts for volume in volumes], axis=0)
    absent = [m for m in MUSCLES if not counts[m.label] and m.label not in allowed]
    if absent:
        names = ", ".join(f"{m.label} ({m.name}, {m.side})" for m in absent)
        raise DataError(
            f"no voxel in any of the {len(volumes)} training scan(s) has the label "
            f"{names}; add scans that show it, or allow it to be absent"
        )


def _landmarks(
    data: ConfigDict, train: list[LabelledScan], recipe: Recipe, log: Log
) -> Landmarks:
    if data.get("landmarks"):
        try:
            return read_landmarks(Path(data.landmarks))
        except ValueError as error:
            raise DataError(str(error)) from error
    log(f"learning the standard histogram of {len(train)} scan(s)")
    return learn_landmarks(train, recipe)


def _scans(data: ConfigDict, log: Log) -> tuple[Split, str]:
    """The scans to train and to validate on, and what the model card calls them."""
    if not data.root:
        return _digital_necks(data, log)
    scans = _found(Path(data.root), log)
    if data.validation_root:
        split = Split(scans, _found(Path(data.validation_root), log))
    else:
        split = _divided(scans, data)
    number = len({s.participant for s in split.train})
    return split, f"{len(split.train)} scans of {number} participants (user's data)"


def _divided(scans: list[LabelledScan], data: ConfigDict) -> Split:
    if data.get("folds", 0):
        return split_folds(scans, data.folds, data.fold)
    return split_participants(scans, data.num_validation)


def _found(root: Path, log: Log) -> list[LabelledScan]:
    scans, problems = find_labelled(root)
    for problem in problems:
        log(f"left out: {problem.scan}: {problem.message}; {problem.hint}")
    if not scans:
        raise DataError(f"{root}: no scan with labels; see the lines above")
    return scans


def _digital_necks(data: ConfigDict, log: Log) -> tuple[Split, str]:
    """Digital necks to train on, and others to validate on, in all severities."""
    made = data.phantom
    count, others = made.train_subjects, made.validation_subjects
    split = Split(
        _necks(data, "train", range(count), made.train_sessions, log),
        _necks(data, "validation", range(count, count + others), 1, log),
    )
    description = (
        f"{len(split.train)} scans of {count} digital necks (cervjax phantom, "
        f"{' and '.join(made.severities)}, seed {made.seed}); no patient"
    )
    return split, description


def _necks(
    data: ConfigDict, part: str, subjects: range, sessions: int, log: Log
) -> list[LabelledScan]:
    """Scans of digital necks, made where they are missing.

    Args:
        data: that section of the config.
        part: name of the folder they are kept in.
        subjects: indices, which with the seed determine the necks.
        sessions: scans of each, 1 or 2.
        log: receives lines.
    """
    made, scans = data.phantom, []
    for severity in made.severities if subjects else ():
        folder = cache_folder(data) / f"necks-{severity}-{made.seed}-{part}"
        if sessions == 2:
            folder = folder.with_name(f"{folder.name}-twice")
        log(f"digital necks: {len(subjects)}, {sessions} scan(s) each, in {folder}")
        try:
            write_dataset(
                folder,
                len(subjects),
                sessions=sessions,
                seed=made.seed,
                severity=severity,
                workers=os.cpu_count() or 1,
                first=subjects.start,
                on_progress=lambda name: log(f"  {name}"),
            )
        except ValueError as error:
            raise DataError(str(error)) from error
        wanted = {f"sub-{index + 1:04d}" for index in subjects}
        scans += [s for s in _found(folder, log) if s.participant in wanted]
    return scans
