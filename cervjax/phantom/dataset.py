"""A folder of digital scans in BIDS, with the truth beside it.

``sub-0001[/ses-1]/anat/sub-0001[_ses-1]_{inphase,outphase,water,fat}.nii.gz``; under
``derivatives/truth`` the same names with ``_dseg`` (the paper's rule),
``_desc-full_dseg``, ``_pdff`` and ``_levels``; ``truth.csv`` and ``participants.tsv``
at the top.
"""

import csv
import io
import json
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cervjax import __version__
from cervjax.io.files import write_atomically
from cervjax.io.nifti import write_volume
from cervjax.phantom.neck import build_neck, with_mfi
from cervjax.phantom.protocol import TIERS
from cervjax.phantom.scan import DigitalScan, make_scan
from cervjax.phantom.subject import Subject, draw_change, draw_subject

_IMAGES = {
    "inphase": "in_phase",
    "outphase": "out_phase",
    "water": "water",
    "fat": "fat",
}
_TRUTH = {
    "dseg": "labels",
    "desc-full_dseg": "full_labels",
    "pdff": "pdff_percent",
    "levels": "levels",
}
_DESCRIPTION = "dataset_description.json"


def write_dataset(
    folder: str | Path,
    num_subjects: int,
    *,
    sessions: int = 1,
    seed: int = 0,
    severity: str = "clinical",
    workers: int = 1,
    first: int = 0,
    on_progress: Callable[[str], object] = lambda name: None,
) -> None:
    """Makes scans of digital necks. The same seed gives the same bytes.

    Subjects that are complete already are kept, so an interrupted call can be
    repeated, and a larger number adds to what is there.

    Args:
        folder: where to; new, or written by the same settings.
        num_subjects: how many people.
        sessions: 1, or 2: the same people later, some of them with more fat.
        seed: of everything.
        severity: a name of `protocol.TIERS`.
        workers: how many processes; does not change a byte.
        first: index of the first subject, so that cohorts can be kept apart.
        on_progress: called with the name of each subject done.

    Raises:
        ValueError: the settings make no sense, or the folder holds something else.
        OSError: the folder cannot be written.
    """
    _check(num_subjects, sessions, severity, workers, first)
    folder = Path(folder)
    _describe(folder, sessions, seed, severity)
    make = partial(
        _write_subject, folder, sessions=sessions, seed=seed, severity=severity
    )
    indices = range(first, first + num_subjects)
    if workers == 1 or num_subjects == 1:
        for index in indices:
            on_progress(make(index))
    else:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(workers, num_subjects), spawn) as pool:
            for name in pool.map(make, indices):
                on_progress(name)
    _write_tables(folder)


def person(seed: int, index: int, severity: str) -> Subject:
    """The subject of that number in a cohort of that severity."""
    chance = np.random.default_rng([seed, index, 4]).random()
    ill = bool(chance < TIERS[severity].pathology)
    return draw_subject(seed, index, pathology=ill)


def digital_scan(
    seed: int, index: int, severity: str = "clinical", session: int = 1
) -> DigitalScan:
    """One scan of a cohort, without a file."""
    subject = person(seed, index, severity)
    neck = build_neck(subject)
    if session == 2:
        neck = with_mfi(neck, subject.mfi_percent + draw_change(seed, subject))
    return make_scan(neck, TIERS[severity], (seed, index, 5, session))


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


def _describe(folder: Path, sessions: int, seed: int, severity: str) -> None:
    """Writes the data set's description, or checks that it is the same."""
    path = folder / _DESCRIPTION
    settings = {"seed": seed, "sessions": sessions, "severity": severity}
    tier = TIERS[severity]._asdict()
    text = json.dumps(
        {
            "Name": f"cervjax digital necks, {severity}",
            "BIDSVersion": "1.10.0",
            "DatasetType": "raw",
            "License": "CC0",
            "GeneratedBy": [
                {"Name": "cervjax phantom", "Version": __version__, **settings}
            ],
            "Description": "Synthetic Dixon scans of the neck. No patient data.",
            "Tier": tier,
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
    write_atomically(path, lambda part: part.write_text(text + "\n"))


def _write_subject(
    folder: Path, index: int, *, sessions: int, seed: int, severity: str
) -> str:
    """Makes and writes the scans of one person, unless they are there."""
    subject = person(seed, index, severity)
    records = {
        session: _place(folder, subject.name, session if sessions == 2 else 0)
        for session in range(1, sessions + 1)
    }
    missing = [s for s, (_, _, truth) in records.items() if not truth[1].exists()]
    if not missing:
        return subject.name
    neck, change = build_neck(subject), draw_change(seed, subject)
    for session in missing:
        drawn = subject.mfi_percent + (change if session == 2 else 0)
        scanned = neck if session == 1 else with_mfi(neck, drawn)
        scan = make_scan(scanned, TIERS[severity], (seed, index, 5, session))
        _write_scan(scan, *records[session], subject, session, sessions, drawn)
    return subject.name


def _place(folder: Path, subject: str, session: int):
    """The scan's name, its folder, and (folder, record) of its truth."""
    parts = [subject, *([f"ses-{session}"] if session else [])]
    name = "_".join(parts)
    truth = folder.joinpath("derivatives", "truth", *parts, "anat")
    record = truth / f"{name}_desc-truth.json"
    return name, folder.joinpath(*parts, "anat"), (truth, record)


def _write_scan(scan, name, images, truth, subject, session, sessions, drawn) -> None:
    """Writes one scan; its record comes last and says that it is complete."""
    truth_folder, record = truth
    for folder, table in ((images, _IMAGES), (truth_folder, _TRUTH)):
        folder.mkdir(parents=True, exist_ok=True)
        for suffix, field in table.items():
            path = folder / f"{name}_{suffix}.nii.gz"
            grid = scan.grid
            write_volume(path, getattr(scan, field), grid.affine, grid.stored_axes)
    settings = scan.settings
    for suffix, echo in (("inphase", "te_in_ms"), ("outphase", "te_out_ms")):
        sidecar = {
            "EchoTime": round(settings[echo] / 1000, 6),
            "RepetitionTime": round(settings["tr_ms"] / 1000, 6),
            "FlipAngle": settings["flip_deg"],
            "MagneticFieldStrength": settings["field_t"],
            "Manufacturer": "none: synthetic, cervjax phantom",
        }
        _write_json(images / f"{name}_{suffix}.json", sidecar)
    content: dict[str, Any] = {
        "scan": name,
        "participant_id": subject.name,
        "session": f"ses-{session}" if sessions == 2 else "",
        "person": {
            "participant_id": subject.name,
            "age": subject.age_years,
            "sex": subject.sex,
            "height_m": subject.height_m,
            "weight_kg": round(subject.bmi * subject.height_m**2, 1),
            "bmi": subject.bmi,
        },
        "settings": settings,
        "spacing_mm": [round(float(v), 4) for v in scan.grid.spacing_mm],
        "truth": [
            row | {"mfi_drawn_percent": float(drawn[row["label"] - 1])}
            for row in scan.truth
        ],
    }
    _write_json(record, content)


def _write_json(path: Path, content: dict) -> None:
    text = json.dumps(content, indent=1, default=float) + "\n"
    write_atomically(path, lambda part: part.write_text(text))


def _write_tables(folder: Path) -> None:
    """Rebuilds ``truth.csv`` and ``participants.tsv`` from the scans' records."""
    paths = sorted((folder / "derivatives" / "truth").rglob("*_desc-truth.json"))
    records = [json.loads(path.read_text()) for path in paths]
    drawn = {
        (r["participant_id"], row["label"]): row["mfi_drawn_percent"]
        for r in records
        if r["session"] in ("", "ses-1")
        for row in r["truth"]
    }
    truth = [
        {
            "scan": r["scan"],
            "participant_id": r["participant_id"],
            "session": r["session"],
        }
        | {k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()}
        | {
            "mfi_change_points": round(
                row["mfi_drawn_percent"] - drawn[r["participant_id"], row["label"]], 5
            )
        }
        for r in records
        for row in r["truth"]
    ]
    people = {r["participant_id"]: r["person"] for r in records}
    for name, rows, separator in (
        ("truth.csv", truth, ","),
        ("participants.tsv", list(people.values()), "\t"),
    ):
        buffer = io.StringIO()
        writer = csv.DictWriter(
            buffer, rows[0], delimiter=separator, lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(rows)
        text = buffer.getvalue()
        write_atomically(folder / name, lambda part, text=text: part.write_text(text))
