"""The table of a set of weights that tells how far their measurements may be off."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cervjax.anatomy import MUSCLES
from cervjax.io.files import read_json, sha256_of_file, write_atomically
from cervjax.measurement.intervals import COVERAGE, Factors

SUFFIX = ".intervals.json"
_MOST = 1000.0  # a factor beyond is no calibration


class Intervals(NamedTuple):
    """What was learnt on labelled scans.

    Attributes:
        factors: see `Factors`.
        weights_sha256: of the weights, of an ensemble with spaces between.
        settings: with which they were run, see `cervjax.inference.sidecar.Identity`.
        source: the scans, in words.
        sha256: of the file.
        path: the file.
    """

    factors: Factors
    weights_sha256: str
    settings: Mapping[str, Any]
    source: str
    sha256: str = ""
    path: str = ""

    def fit_to(self, weights_sha256: str, settings: Mapping[str, Any]) -> bool:
        """Whether they are of these weights, run with these settings."""
        return self.weights_sha256 == weights_sha256 and self.settings == settings


def write_intervals(path: Path, intervals: Intervals) -> None:
    """Writes what `read_intervals` reads."""
    rounded = {
        muscle: {name: [round(v, 3) for v in ends] for name, ends in own.items()}
        for muscle, own in intervals.factors.items()
    }
    content = {
        "coverage": COVERAGE,
        "source": intervals.source,
        "weights_sha256": intervals.weights_sha256,
        "settings": intervals.settings,
        "factors": rounded,
    }
    text = json.dumps(content, indent=1) + "\n"
    write_atomically(path, lambda part: part.write_text(text, "utf-8"))


def read_intervals(path: Path) -> Intervals:
    """Reads what ``cervjax intervals`` wrote.

    Raises:
        ValueError: not such a file.
    """
    known = {m.abbreviation for m in MUSCLES}
    try:
        content = read_json(path)
        factors = {
            muscle: {name: _pair(own[name]) for name in ("mfi", "volume")}
            for muscle, own in content["factors"].items()
        }
        texts = content["weights_sha256"], content["source"]
        settings = content["settings"]
        if not (
            factors.keys() <= known
            and isinstance(settings, dict)
            and all(isinstance(text, str) for text in texts)
        ):
            raise ValueError("parts are missing")
    except (OSError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{path}: not a table of intervals ({error!r}); give the file that "
            "'cervjax intervals' writes"
        ) from error
    return Intervals(
        factors, texts[0], settings, texts[1], sha256_of_file(path), str(path)
    )


def beside(weights: Path) -> Path:
    """Where the table of a weights file is looked for."""
    if weights.is_dir():
        return weights / f"weights{SUFFIX}"
    return weights.with_name(f"{weights.name.removesuffix('.safetensors')}{SUFFIX}")


def table_beside(weights: Path) -> Intervals | None:
    """The table beside a weights file, if there is one.

    Raises:
        ValueError: as `read_intervals`.
    """
    path = beside(weights)
    return read_intervals(path) if path.is_file() else None


def _pair(values: Any) -> tuple[float, float]:
    low, high = map(float, values)
    if not -_MOST < low <= high < _MOST:
        raise ValueError(f"ends {low:g}, {high:g}")
    return low, high
