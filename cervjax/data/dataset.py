"""What a run learns from and is judged by: scans found or made, divided, prepared."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from cervjax.data.cache import Volume, cache_volumes, check_classes, learn_landmarks
from cervjax.io.labels import LabelledScan, find_labelled, split_participants
from cervjax.phantom.dataset import write_dataset
from cervjax.preprocessing.histogram import read_landmarks
from cervjax.preprocessing.pipeline import Recipe

Say = Callable[[str], object]
_PREPARED_AT_ONCE = 4  # scans; a scan of the paper's size takes a gigabyte of memory


class TrainSet(NamedTuple):
    """Prepared volumes.

    Attributes:
        train: to learn from.
        test: held out, of other people; may be empty.
        recipe: the preprocessing, with landmarks.
        description: for the model card.
    """

    train: list[Volume]
    test: list[Volume]
    recipe: Recipe
    description: str


def load_train_set(
    data: ConfigDict, landmarks: dict[str, tuple[float, ...]] | None, log: Say
) -> TrainSet:
    """Finds (or makes) the scans of ``config.data`` and prepares them.

    Args:
        data: that section of the config.
        landmarks: of the run that is resumed, or None.
        log: receives lines about what is done.

    Raises:
        ValueError: the scans or their labels cannot be used; every one is named.
    """
    train, test, description = _scans(data, log)
    recipe = Recipe(
        landmarks=landmarks or {},
        spacing_mm=tuple(data.spacing_mm),
        padding=tuple(data.padding),
        padding_mode=data.padding_mode,
        skip_fitting_grid=data.skip_fitting_grid,
    )
    if not landmarks:
        if data.landmarks:
            learnt = read_landmarks(Path(data.landmarks))
        else:
            log(f"learning the standard histogram of {len(train)} scan(s)")
            learnt = learn_landmarks(train, recipe)
        recipe = replace(recipe, landmarks=learnt)
    folder = cache_folder(data) / "volumes"
    log(f"preparing {len(train) + len(test)} scan(s) in {folder}")
    volumes = cache_volumes(
        [*train, *test],
        recipe,
        folder,
        log=log,
        on_progress=lambda name: log(f"  {name}"),
        workers=min(os.cpu_count() or 1, _PREPARED_AT_ONCE),
    )
    train_volumes, test_volumes = volumes[: len(train)], volumes[len(train) :]
    check_classes(train_volumes, tuple(data.allow_absent))
    return TrainSet(train_volumes, test_volumes, recipe, description)


def cache_folder(data: ConfigDict) -> Path:
    """Where prepared volumes and digital necks are kept between runs."""
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(data.cache) if data.cache else home / "cervjax"


def _scans(
    data: ConfigDict, log: Say
) -> tuple[list[LabelledScan], list[LabelledScan], str]:
    if not data.root:
        return _digital_necks(data, log)
    scans = _found(Path(data.root), log)
    if data.test_root:
        test = _found(Path(data.test_root), log)
        shared = {s.participant for s in scans} & {s.participant for s in test}
        if shared:
            raise ValueError(
                f"{', '.join(sorted(shared)[:5])} occur(s) in both {data.root} and "
                f"{data.test_root}; a held-out scan must be of somebody else: rename "
                "or remove"
            )
        train = scans
    else:
        train, test = split_participants(scans, None, data.num_test)
    people = len({s.participant for s in train})
    return train, test, f"{len(train)} scans of {people} participants (user's data)"


def _found(root: Path, log: Say) -> list[LabelledScan]:
    scans, problems = find_labelled(root)
    for problem in problems:
        log(f"left out: {problem.scan}: {problem.message}; {problem.hint}")
    if not scans:
        raise ValueError(f"{root}: no scan with labels; see the lines above")
    return scans


def _digital_necks(
    data: ConfigDict, log: Say
) -> tuple[list[LabelledScan], list[LabelledScan], str]:
    """The paper's numbers of people: some twice to learn from, others once."""
    made = data.phantom
    parts: list[list[LabelledScan]] = []
    for part, count, sessions, first in (
        ("train", made.train_subjects, made.train_sessions, 0),
        ("test", made.test_subjects, 1, made.train_subjects),
    ):
        parts.append([])
        for severity in made.severities if count else ():
            folder = cache_folder(data) / f"necks-{severity}-{made.seed}-{part}"
            if sessions == 2:
                folder = folder.with_name(f"{folder.name}-twice")
            log(f"digital necks: {count} people, {sessions} scan(s) each, in {folder}")
            write_dataset(
                folder,
                count,
                sessions=sessions,
                seed=made.seed,
                severity=severity,
                workers=os.cpu_count() or 1,
                first=first,
                on_progress=lambda name: log(f"  {name}"),
            )
            wanted = {f"sub-{first + i + 1:04d}" for i in range(count)}
            scans = _found(folder, log)
            parts[-1] += [s for s in scans if s.participant in wanted]
    train, test = parts
    description = (
        f"{len(train)} scans of {made.train_subjects} digital necks (cervjax phantom, "
        f"{' and '.join(made.severities)}, seed {made.seed}); no patient"
    )
    return train, test, description
