"""A folder of digital scans in BIDS, with the truth beside it.

``sub-0001[/ses-1]/anat/sub-0001[_ses-1]_{inphase,outphase,water,fat}.nii.gz``; under
``derivatives/truth`` the same names with ``_dseg`` (the paper's rule),
``_desc-full_dseg``, ``_pdff`` and ``_levels``; ``truth.csv`` and ``participants.tsv``
at the top.
"""

import json
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from cervjax.about import __version__
from cervjax.io.files import write_atomically
from cervjax.phantom.atlas import (
    Anatomy,
    anatomy_sources,
    draw_anatomy,
    load_anatomy,
)
from cervjax.phantom.neck import build_neck, with_mfi
from cervjax.phantom.protocol import TIERS, Tier
from cervjax.phantom.records import Place, write_scan, write_tables
from cervjax.phantom.scan import make_scan
from cervjax.phantom.subject import Subject, draw_change, draw_subject

_DESCRIPTION = "dataset_description.json"
# BIDS has no suffixes for Dixon images, maps of levels and fat fractions.
_NO_BIDS = {
    ".": ("*_inphase.*", "*_outphase.*", "*_water.*", "*_fat.*", "truth.csv"),
    "derivatives/truth": ("*_levels.*", "*_pdff.*", "*_desc-truth.json"),
}


@dataclass(frozen=True)
class _Cohort:
    """What a folder holds: sessions of each subject, seed, severity and its tier.

    Anatomies are names and files in the order of `anatomy_sources`.
    """

    sessions: int
    seed: int
    severity: str
    tier: Tier
    anatomies: tuple[str, ...]


def write_dataset(  # many: each is a flag of the command
    folder: str | Path,
    num_subjects: int,
    *,
    sessions: int = 1,
    seed: int = 0,
    severity: str = "clinical",
    anatomies: Sequence[str] = (),
    workers: int = 1,
    first: int = 0,
    on_progress: Callable[[str], object] = lambda name: None,
) -> None:
    """Makes scans of digital necks. The same seed gives the same bytes.

    Subjects that are complete already are kept, so an interrupted call can be
    repeated, and a larger number adds to what is there.

    Args:
        folder: where to; new, or written by the same settings.
        num_subjects: how many.
        sessions: 1, or 2: the same subjects later, some of them with more fat.
        seed: of everything.
        severity: a name of `protocol.TIERS`.
        anatomies: names and files of `atlas.load_anatomy` to draw people from, each
            subject by its own seed; all packaged ones if empty.
        workers: how many processes; does not change a byte.
        first: index of the first subject, so that cohorts can be kept apart.
        on_progress: called with the name of each subject done.

    Raises:
        AnatomyError: an anatomy cannot be used; nothing has been written.
        ValueError: the settings make no sense, or the folder holds something else.
        OSError: the folder cannot be written.
    """
    _check(num_subjects, sessions, severity, workers, first)
    sources = anatomy_sources(anatomies)
    tier = TIERS[severity]
    folder, cohort = Path(folder), _Cohort(sessions, seed, severity, tier, sources)
    _describe(folder, cohort)
    make = partial(_write_subject, folder, cohort)
    indices = range(first, first + num_subjects)
    if workers == 1 or num_subjects == 1:
        for index in indices:
            on_progress(make(index))
    else:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(workers, num_subjects), spawn) as pool:
            for name in pool.map(make, indices):
                on_progress(name)
    write_tables(folder)


def subject_of(seed: int, index: int, tier: Tier) -> Subject:
    """The subject of that number in a cohort: diseased as often as the tier says."""
    chance = np.random.default_rng([seed, index, 4]).random()
    return draw_subject(seed, index, pathology=bool(chance < tier.pathology))


def anatomy_of(seed: int, index: int, anatomies: Sequence[str] = ()) -> Anatomy:
    """The person, or mix of two, whose outlines the subject of that number gets.

    Args:
        seed: of the cohort.
        index: number within the cohort, from 0.
        anatomies: of `anatomy_sources`; all packaged ones if empty.
    """
    return draw_anatomy(np.random.default_rng([seed, index, 7]), anatomies)


def _check(
    num_subjects: int, sessions: int, severity: str, workers: int, first: int
) -> None:
    if num_subjects < 1:
        raise ValueError(f"the number of subjects must be positive, got {num_subjects}")
    if first < 0:
        raise ValueError(f"the first subject's index must not be negative, got {first}")
    if sessions not in (1, 2):
        raise ValueError(f"sessions must be 1 or 2, got {sessions}")
    if severity not in TIERS:
        raise ValueError(f"severity must be one of {', '.join(TIERS)}, got {severity}")
    if workers < 1:
        raise ValueError(f"workers must be positive, got {workers}")


def _describe(folder: Path, cohort: _Cohort) -> None:
    """Writes the data set's description, or checks that it is the same."""
    path = folder / _DESCRIPTION
    settings = {
        "seed": cohort.seed,
        "sessions": cohort.sessions,
        "severity": cohort.severity,
    }
    text = json.dumps(
        {
            "Name": f"cervjax digital necks, {cohort.severity}",
            "BIDSVersion": "1.10.0",
            "DatasetType": "raw",
            "License": "CC0",
            "GeneratedBy": [
                {"Name": "cervjax phantom", "Version": __version__, **settings}
            ],
            "Description": "Synthetic Dixon scans of the neck. No patient data.",
            "Tier": cohort.tier._asdict(),
            "Anatomies": [_identity(load_anatomy(a)) for a in cohort.anatomies],
        },
        indent=2,
    )
    if path.exists():
        if path.read_text() != text + "\n":
            raise ValueError(
                f"{path} was written by other settings or another version; give "
                "another folder, or remove this one"
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; give a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    _describe_truth(folder)
    write_atomically(path, lambda part: part.write_text(text + "\n"))


def _describe_truth(folder: Path) -> None:
    """Writes what lets validators of BIDS read images and truth, a data set each."""
    truth = {
        "Name": "Labels and fat of cervjax digital necks",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "cervjax phantom", "Version": __version__}],
    }
    for name, patterns in _NO_BIDS.items():
        path = folder / name / ".bidsignore"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{pattern}\n" for pattern in patterns))
    text = json.dumps(truth, indent=2) + "\n"
    (folder / "derivatives" / "truth" / _DESCRIPTION).write_text(text)


def _identity(anatomy: Anatomy) -> dict[str, str]:
    name, digest = anatomy.name.split("@")[0], anatomy.sha256
    return {"Name": name} | ({"SHA256": digest} if digest else {})


def _write_subject(folder: Path, cohort: _Cohort, index: int) -> str:
    """Makes and writes the scans of one subject, unless they are there."""
    seed, tier = cohort.seed, cohort.tier
    subject = subject_of(seed, index, tier)
    names = {1: ""} if cohort.sessions == 1 else {1: "ses-1", 2: "ses-2"}
    places = {k: Place(folder, subject.name, name) for k, name in names.items()}
    missing = [k for k, place in places.items() if not place.record.exists()]
    if not missing:
        return subject.name
    neck = build_neck(subject, anatomy_of(seed, index, cohort.anatomies))
    change = draw_change(seed, subject)
    for session in missing:
        drawn = subject.mfi_percent + (change if session == 2 else 0)
        scanned = neck if session == 1 else with_mfi(neck, drawn)
        scan = make_scan(scanned, tier, (seed, index, 5, session))
        write_scan(places[session], scan, neck, drawn)
    return subject.name
