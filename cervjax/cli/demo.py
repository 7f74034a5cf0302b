"""The whole job on two digital necks, with the truth beside what is found."""

import csv
from pathlib import Path

from cervjax.model.weights import SYNTHETIC
from cervjax.phantom.dataset import write_dataset

SEED = 4_000  # of people that no shipped weights were trained on


def write_scans(folder: Path, workers: int) -> None:
    """Two people's scans in the clinical tier, or what is missing of them."""
    write_dataset(folder, 2, seed=SEED, severity="clinical", workers=workers)


def compare_with_truth(scans: Path, out: Path) -> str:
    """A table of found and true MFI and volume.

    Args:
        scans: folder of `write_scans`.
        out: results of ``infer`` on it.

    Returns:
        Lines of text; MFI in percent, volumes in millilitres.
    """
    found = {(r["scan"], r["label"]): r for r in _rows(out / "measurements.csv")}
    lines = [
        "                      MFI (%)          volume (ml)",
        "scan      muscle   found    true     found    true",
    ]
    for truth in _rows(scans / "truth.csv"):
        row = found.get((truth["scan"], truth["label"]))
        if row is None:
            continue
        numbers = (
            row["mfi_percent"],
            truth["mfi_image_percent"],
            row["volume_ml"],
            truth["volume_ml"],
        )
        texts = [f"{float(n):8.1f}" if n else f"{'-':>8}" for n in numbers]
        name = f"{row['muscle']}_{row['side'][0].upper()}"
        lines.append(
            f"{truth['scan']:9} {name:7}{''.join(texts[:2])}  {''.join(texts[2:])}"
        )
    return "\n".join([*lines, SYNTHETIC])


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))
