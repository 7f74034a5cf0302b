"""Files of a digital scan, and the tables of a folder of them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cervjax.io.files import write_atomically
from cervjax.io.nifti import write_volume
from cervjax.io.tables import write_rows
from cervjax.phantom.neck import Neck
from cervjax.phantom.scan import DigitalScan

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


@dataclass(frozen=True)
class Place:
    """Where a scan's files are.

    Attributes:
        folder: of the data set.
        subject: such as ``sub-0001``.
        session: such as ``ses-1``; empty where each subject has one session.
    """

    folder: Path
    subject: str
    session: str

    @property
    def name(self) -> str:
        """Of the scan."""
        return "_".join(filter(None, (self.subject, self.session)))

    @property
    def images(self) -> Path:
        """Folder of the images."""
        return self.folder / self.subject / self.session / "anat"

    @property
    def truth(self) -> Path:
        """Folder of the truth."""
        parts = "derivatives", "truth", self.subject, self.session, "anat"
        return self.folder.joinpath(*parts)

    @property
    def record(self) -> Path:
        """Written last: where it is, the scan is complete."""
        return self.truth / f"{self.name}_desc-truth.json"


def write_scan(
    place: Place, scan: DigitalScan, neck: Neck, drawn_mfi: np.ndarray
) -> None:
    """Writes one scan; its record comes last and says that it is complete.

    Args:
        place: where to.
        scan: images and truth.
        neck: whose it is; its fat is not looked at.
        drawn_mfi: ``(14,)`` percent that the muscles were given.
    """
    grid, subject = scan.grid, neck.subject
    for folder, table in ((place.images, _IMAGES), (place.truth, _TRUTH)):
        folder.mkdir(parents=True, exist_ok=True)
        for suffix, field in table.items():
            path = folder / f"{place.name}_{suffix}.nii.gz"
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
        _write_json(place.images / f"{place.name}_{suffix}.json", sidecar)
    content: dict[str, Any] = {
        "scan": place.name,
        "participant_id": subject.name,
        "session": place.session,
        "subject": {
            "participant_id": subject.name,
            "age": subject.age_years,
            "sex": subject.sex,
            "height_m": subject.height_m,
            "weight_kg": round(subject.bmi * subject.height_m**2, 1),
            "bmi": subject.bmi,
            "anatomy": neck.anatomy.name,
        },
        "settings": settings,
        "spacing_mm": [round(float(v), 4) for v in grid.spacing_mm],
        "truth": [
            row | {"mfi_drawn_percent": float(drawn_mfi[row["label"] - 1])}
            for row in scan.truth
        ],
    }
    _write_json(place.record, content)


def write_tables(folder: Path) -> None:
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
    subjects = {r["participant_id"]: r["subject"] for r in records}
    for name, rows, separator in (
        ("truth.csv", truth, ","),
        ("participants.tsv", list(subjects.values()), "\t"),
    ):
        write_rows(folder / name, rows, delimiter=separator, digits=None)


def _write_json(path: Path, content: dict) -> None:
    text = json.dumps(content, indent=1, default=float) + "\n"
    write_atomically(path, lambda part: part.write_text(text))
