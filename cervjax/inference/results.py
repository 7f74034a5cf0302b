"""What a run leaves behind: masks' side-cars, tables, failures, label tables.

A scan's side-car is written last and marks its result as complete; the tables are
rebuilt from the side-cars, so that no interruption can make them disagree.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cervjax import NOTICE, __version__
from cervjax.anatomy import itksnap_labels, slicer_colors
from cervjax.io.files import write_atomically, write_csv
from cervjax.io.scans import Scan
from cervjax.model.weights import Weights

MEASUREMENTS = "measurements.csv"
SLICES = "measurements_slices.csv"
FAILURES = "failures.csv"
_SIDECAR_SUFFIX = "_dseg.json"


class ResultError(ValueError):
    """A result is there that this run must not touch."""


class Paths(NamedTuple):
    """The files of one scan's result."""

    labels: Path
    sidecar: Path
    qc: Path


@dataclass(frozen=True)
class Identity:
    """What a result depends on: inputs, weights and settings."""

    inputs_sha256: Mapping[str, str]
    weights_sha256: str
    settings: Mapping[str, Any]


def paths(out: Path, name: str) -> Paths:
    """Names of a scan's result files."""
    return Paths(
        out / f"{name}_dseg.nii.gz",
        out / f"{name}{_SIDECAR_SUFFIX}",
        out / f"{name}_qc.png",
    )


def is_done(out: Path, name: str, identity: Identity) -> bool:
    """Whether a scan has a complete result from the same inputs, weights, settings.

    Raises:
        ResultError: it has one from others, which would be mixed into the tables.
    """
    files = paths(out, name)
    if not (files.sidecar.is_file() and files.labels.is_file()):
        return False
    old = _read_sidecar(files.sidecar)
    for what, value in asdict(identity).items():
        if old is None or old["Identity"].get(what) != plain(value):
            raise ResultError(
                f"{files.labels} is there already, made with other "
                f"{what.removesuffix('_sha256')}; use --overwrite or another -o"
            )
    return True


def write_sidecar(
    path: Path,
    *,
    scan: Scan,
    identity: Identity,
    weights: Weights,
    fat_water_source: str,
    device: str,
    seconds: Mapping[str, float],
    warnings: list[str],
    rows: list[dict[str, Any]],
    slices: list[dict[str, Any]],
) -> None:
    """Writes provenance and measurements of one scan (BIDS derivative side-car)."""
    common = {"scan": scan.name}
    source = {"fat_water_source": fat_water_source}
    content = {
        "Description": "14 neck muscles of Weber et al. 2021 (Table 1), dense V-Net",
        "Limits": NOTICE,
        "GeneratedBy": [{"Name": "cervjax", "Version": __version__, **_versions()}],
        "Scan": scan.name,
        "Sources": {role: str(path) for role, path in scan.files.items()},
        "FatWaterSource": fat_water_source,
        "Identity": asdict(identity),
        "ModelCard": asdict(weights.card),
        "Device": device,
        "Seconds": {k: round(v, 3) for k, v in seconds.items()},
        "Warnings": warnings,
        "Measurements": [common | row | source for row in rows],
        "SliceMeasurements": [common | row for row in slices],
    }
    text = json.dumps(plain(content), indent=1, allow_nan=False)
    write_atomically(path, lambda part: part.write_text(text, "utf-8"))


def write_tables(out: Path) -> None:
    """Rebuilds both measurement tables from all complete results in the folder."""
    sidecars = (_read_sidecar(p) for p in sorted(out.glob(f"*{_SIDECAR_SUFFIX}")))
    found = [s for s in sidecars if s is not None]
    write_csv(out / MEASUREMENTS, (r for s in found for r in s["Measurements"]))
    write_csv(out / SLICES, (r for s in found for r in s["SliceMeasurements"]))


def write_failures(out: Path, failures: Iterable[dict[str, str]]) -> None:
    """Writes the scans of this run that have no result; a header if there are none."""
    write_csv(out / FAILURES, failures, ["scan", "files", "error"])


def write_label_tables(out: Path) -> None:
    """Writes the names and colours of the labels for ITK-SNAP and 3D Slicer."""
    for name, text in (
        ("labels_itksnap.txt", itksnap_labels()),
        ("labels_slicer.ctbl", slicer_colors()),
    ):
        write_atomically(out / name, lambda part, text=text: part.write_text(text))


def plain(value: Any) -> Any:
    """The same as JSON knows it: lists, text keys, null for what is not finite."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _read_sidecar(path: Path) -> dict[str, Any] | None:
    """None for another program's, or a damaged, side-car."""
    try:
        content = json.loads(path.read_text("utf-8"))
        complete = {"Identity", "Measurements", "SliceMeasurements"} <= content.keys()
    except (OSError, ValueError, AttributeError):
        return None
    return content if complete else None


def _versions() -> dict[str, str]:
    import jax
    import nibabel
    import numpy
    import scipy

    modules = (jax, nibabel, numpy, scipy)
    return {m.__name__: m.__version__ for m in modules}
