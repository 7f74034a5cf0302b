"""Intervals learnt and tested on labelled scans: how far results lie from the truth.

The truth of a scan is what its reference mask measures on the same images, so an
interval tells of outlines, not of what the images tell of fat.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cervjax.evaluation.pairs import Pair, find_pairs
from cervjax.inference.method import BESIDE
from cervjax.inference.scan_tables import with_rows
from cervjax.inference.sidecar import paths, read_sidecar
from cervjax.io.dixon import read_scan
from cervjax.io.labels import read_labels
from cervjax.measurement.composition import measure
from cervjax.measurement.interval_table import Intervals
from cervjax.measurement.intervals import errors_in_spreads, fit


class Observation(NamedTuple):
    """A muscle of a scan that was measured, and what is true.

    Attributes:
        row: of the results.
        mfi_percent: of the reference mask.
        volume_ml: of the reference mask, above 0.
    """

    row: dict[str, Any]
    mfi_percent: float
    volume_ml: float


class Observed(NamedTuple):
    """Results beside the truth.

    Attributes:
        rows: of all scans and muscles that both have.
        weights_sha256: of the weights that drew the results.
        settings: with which.
        left_out: muscles whose verdict is do_not_use.
    """

    rows: list[Observation]
    weights_sha256: str
    settings: dict[str, Any]
    left_out: int

    @property
    def people(self) -> int:
        """How many scans there are."""
        return len({one.row["scan"] for one in self.rows})


def observe(results: Path, reference: Path) -> Observed:
    """Reads results of ``cervjax infer``, and measures the reference masks.

    Args:
        results: folder.
        reference: labelled scans, see `labels.LAYOUTS`, or digital necks.

    Raises:
        ValueError: nothing pairs, a result is not of a network, or results were made in
            different ways.
    """
    found, ways, left_out = [], set(), 0
    for pair in find_pairs(results, reference)[0]:
        content = _content(pair)
        identity = content["Identity"]
        settings = {k: v for k, v in identity["settings"].items() if k not in BESIDE}
        ways.add((identity["weights_sha256"], json.dumps(settings, sort_keys=True)))
        truth = _truth(pair)
        for row in content["Measurements"]:
            true = truth[row["label"]]
            if not row["voxels"] or not true["voxels"] or row["mfi_percent"] is None:
                continue
            if row["verdict"] == "do_not_use":
                left_out += 1
                continue
            found.append(Observation(row, true["mfi_percent"], true["volume_ml"]))
    if len(ways) != 1:
        raise ValueError(f"{results}: results were made in {len(ways)} different ways")
    weights_sha256, text = ways.pop()
    return Observed(found, weights_sha256, json.loads(text), left_out)


def learn(observed: Observed, source: str) -> Intervals:
    """Intervals of these weights and settings.

    Args:
        observed: of people that they are learnt on, none of them tested later.
        source: who these are, in words.

    Raises:
        ValueError: too few people.
    """
    errors: dict[str, list[tuple[float, float]]] = {}
    for row, mfi_percent, volume_ml in observed.rows:
        error = errors_in_spreads(row, mfi_percent, volume_ml)
        errors.setdefault(row["muscle"], []).append(error)
    arrays = {muscle: np.array(own) for muscle, own in errors.items()}
    factors = fit(arrays, observed.people)
    return Intervals(factors, observed.weights_sha256, observed.settings, source)


def inside(rows: Sequence[Observation], ends: Sequence[dict[str, float]]) -> np.ndarray:
    """Whether the truth is within the intervals, ``(n, 2)`` of MFI and volume.

    Args:
        rows: observations.
        ends: of each the columns ``mfi_low_percent`` to ``volume_high_ml``.
    """
    return np.array(
        [
            (
                end["mfi_low_percent"] <= one.mfi_percent <= end["mfi_high_percent"],
                end["volume_low_ml"] <= one.volume_ml <= end["volume_high_ml"],
            )
            for one, end in zip(rows, ends, strict=True)
        ]
    )


def _content(pair: Pair) -> dict[str, Any]:
    path = paths(pair.predicted.parent, pair.name).sidecar
    content = read_sidecar(path) if path.is_file() else None
    if content is None or content.get("MaskSource") != "network":
        raise ValueError(
            f"{pair.predicted}: not a mask that 'cervjax infer' has drawn; intervals "
            "are those of a network"
        )
    content = with_rows(pair.predicted.parent, content)
    if any("mfi_spread_points" not in row for row in content["Measurements"]):
        raise ValueError(f"{path}: has no spreads; run 'cervjax infer' again")
    return content


def _truth(pair: Pair) -> dict[int, dict[str, Any]]:
    """What the reference mask measures, by label."""
    if pair.scan is None:
        raise ValueError(
            f"{pair.reference}: its images are needed; give the folder of the scans"
        )
    images = read_scan(pair.scan)
    labels = read_labels(pair.reference, images.grid, may_be_empty=True)
    both, voxel_ml = images.fat_water, images.grid.voxel_volume_ml
    rows = measure(labels, both.fat, both.water, voxel_volume_ml=voxel_ml)
    return {row["label"]: row for row in rows}
