"""From what was found in a scan to its result: rows, verdicts, warnings."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan

from cervjax.inference.levels import DOUBTFUL, levels_found
from cervjax.inference.origin import Origin
from cervjax.inference.result import Result, Source
from cervjax.inference.types import Segmentation
from cervjax.io.dixon import DixonImages
from cervjax.measurement.calibration import Calibration, calibrated
from cervjax.measurement.composition import Rows
from cervjax.measurement.interval_table import Intervals
from cervjax.measurement.intervals import measure_opinions, with_intervals
from cervjax.measurement.scan import (
    label_warnings,
    measure_scan,
    measure_scan_levels,
)
from cervjax.measurement.swaps import (
    swap_warnings,
    swapped_percent,
    swapped_region,
)
from cervjax.measurement.verdict import (
    DO_NOT_USE,
    ScanFindings,
    judge_muscles,
    summary,
)
from cervjax.phantom.bias import Bias, mfi_bias
from cervjax.phantom.signal import Sequence as Echoes


@dataclass(frozen=True, eq=False)
class Segmented:
    """What was found in a scan, to be measured.

    Attributes:
        found: labels and confidence, in RAS.
        origin: who drew them.
        warnings: of images and network.
        seconds: by stage.
    """

    found: Segmentation
    origin: Origin
    warnings: Sequence[str]
    seconds: Mapping[str, float]


def measured(
    source: Source,
    images: DixonImages,
    segmented: Segmented,
    calibration: Calibration | None = None,
    intervals: Intervals | None = None,
) -> Result:
    """Measures what was found.

    Args:
        source: the scan.
        images: its images.
        segmented: what was found.
        calibration: slopes, for calibrated values beside the measured ones.
        intervals: of the weights and settings; None where there are none.

    Raises:
        ValueError: as `measure_scan`.
    """
    started = time.perf_counter()
    found = segmented.found
    confidence = found.confidence if segmented.origin.mask is None else None
    numbers = None if found.levels is None else found.levels.number
    rows, slices = measure_scan(found.labels, images, confidence, numbers)
    per_level = measure_scan_levels(found.labels, images, numbers)
    sure = _sure_levels(found)
    swapped = swapped_percent(found.labels, swapped_region(found.labels, images))
    for row, percent in zip(rows, swapped, strict=True):
        row["scanner_swapped_percent"] = percent
    warnings = (
        *segmented.warnings,
        *swap_warnings(swapped, images),
        *label_warnings(found.labels, rows),
    )
    rows = [row | _bias(row["mfi_percent"], images) for row in rows]
    rows = _with_intervals(rows, images, segmented, intervals)
    if calibration is not None:
        rows = calibrated(rows, calibration)
    judged = judge_muscles(rows, found.labels, images, scan_findings(segmented))
    scan, origin = {"scan": source.name}, segmented.origin.columns()
    familiarity = "" if found.verdict is None else found.verdict.familiarity
    of_scan = {"familiarity": familiarity, "fat_water_source": images.fat_water.source}
    verdicts = [{"verdict": j.verdict, "reasons": "; ".join(j.reasons)} for j in judged]
    return Result(
        source,
        images,
        found,
        segmented.origin,
        [
            scan | row | verdict | of_scan | origin
            for row, verdict in zip(rows, verdicts, strict=True)
        ],
        [scan | row | origin for row in slices],
        [
            scan | row | {"level_confidence": sure[row["level"]]} | origin
            for row in per_level
        ],
        (*warnings, summary(judged)),
        {**segmented.seconds, "measure": time.perf_counter() - started},
    )


def scan_findings(segmented: Segmented) -> ScanFindings:
    """What is known of a scan before its muscles are judged."""
    found = segmented.found
    sure = _sure_levels(found)
    levels = None
    if sure:
        levels = {name for name, confidence in sure.items() if confidence >= DOUBTFUL}
    reasons = []
    if found.verdict is not None and found.verdict.familiarity == "stranger":
        text = f"not a neck that the weights know ({found.verdict.reasons[0]})"
        reasons.append((DO_NOT_USE, text))
    full_length = segmented.origin.executed.get("levels_rule") == "none"
    return ScanFindings(tuple(reasons), levels, full_length)


def _with_intervals(
    rows: Rows,
    images: DixonImages,
    segmented: Segmented,
    intervals: Intervals | None,
) -> Rows:
    """How far the rows may be off; of masks that were there, by the outline alone."""
    both, voxel_ml = images.fat_water, images.grid.voxel_volume_ml
    opinions = segmented.found.opinions
    seen = measure_opinions(opinions, both.fat, both.water, voxel_ml)
    if segmented.origin.mask_source != "network" or segmented.origin.mask is not None:
        return with_intervals(rows, *seen, basis="outline")
    if intervals is None:
        return with_intervals(rows, *seen, basis="uncalibrated")
    return with_intervals(rows, *seen, basis="calibrated", factors=intervals.factors)


def _sure_levels(found: Segmentation) -> dict[str, float]:
    """How sure each level is that was found, by its name."""
    if found.levels is None:
        return {}
    return {v.level: v.confidence for v in levels_found(found.levels)}


def _bias(mfi_percent: float, images: DixonImages) -> dict[str, float]:
    """What T2* and fat's peaks add to MFI; NaN without echo times."""
    bias = Bias(nan, nan)
    if images.echoes is not None and images.fat_water is not images.scanner:
        te_in, te_out, field_t = images.echoes
        bias = mfi_bias(mfi_percent, Echoes(te_in, te_out, field_t=field_t))
    return {"mfi_bias_t2star_points": bias.t2star, "mfi_bias_peaks_points": bias.peaks}
