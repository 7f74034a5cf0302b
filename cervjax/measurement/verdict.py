"""Whether a muscle's numbers may be used, and why not.

What is judged is what was measured: the labels, the images below them and, where there
is one, the judgement of the whole scan. Limits and their sources are in `limits`.
"""

from collections.abc import Collection, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Integer
from scipy.ndimage import find_objects, label, uniform_filter

from cervjax.anatomy import LEFT_RIGHT_PERMUTATION, MUSCLES, NUM_CLASSES, Muscle
from cervjax.io.dixon import DixonImages
from cervjax.measurement.limits import AREA_MM2, FEWEST, MOST
from cervjax.measurement.places import places_of, scm_slope, share_in_place

Use = Literal["use", "look", "do_not_use"]
Reason = tuple[Use, str]
Row = dict[str, Any]

LOOK, DO_NOT_USE = "look", "do_not_use"
_FEWEST_PLACES, _FEWEST_MUSCLES = 6, 5
_TOUCHING = np.ones((3, 3, 3))


class Judged(NamedTuple):
    """Of one muscle.

    Attributes:
        verdict: "use", "look" (at the picture, before using the numbers), "do_not_use".
        reasons: what speaks against it, the gravest first; empty for "use".
    """

    verdict: Use
    reasons: tuple[str, ...]


class ScanFindings(NamedTuple):
    """What is known of a whole scan.

    Attributes:
        reasons: against all of its muscles.
        levels: vertebral levels that were surely found, or None where none are known.
        full_length: muscles are not kept to the levels of Table 1.
    """

    reasons: tuple[Reason, ...] = ()
    levels: Collection[str] | None = None
    full_length: bool = False


def judge_muscles(
    rows: list[Row],
    labels: Integer[np.ndarray, "x y z"],
    images: DixonImages,
    scan: ScanFindings = ScanFindings(),  # noqa: B008  a tuple
) -> list[Judged]:
    """Judges every muscle of a scan.

    Args:
        rows: of `composition.measure`.
        labels: 0-14 in RAS, on the grid of the images.
        images: of the scan.
        scan: what is known of it already.

    Returns:
        One verdict per row.
    """
    of_all = [*scan.reasons, *_of_images(images), *_of_scale(labels, images)]
    of_all += _of_places(labels, full_length=scan.full_length)
    slope = scm_slope(labels, images.grid.spacing_mm)
    of_all += _above("scm_slope", slope, "necks do not look so: stored upside down?")
    signal = _median_signal(labels, images)
    crossed = _crossed(labels)
    boxes = find_objects(labels.astype(np.int32), max_label=len(MUSCLES))
    boxes += [None] * (len(MUSCLES) - len(boxes))
    found = []
    for row, m, box in zip(rows, MUSCLES, boxes, strict=True):
        if not row["voxels"] or box is None:
            found.append(Judged(DO_NOT_USE, ("not found",)))
            continue
        reasons = [*of_all, *_of_row(row, m, images), *_of_pair(row, rows, m)]
        reasons += _of_voxels(labels[box] == m.label, images, box, signal)
        if m.label in crossed:
            reasons.append((DO_NOT_USE, "lies on the other side than its partner's"))
        if scan.levels is not None and not scan.full_length:
            reasons += _of_levels(m, scan.levels)
        found.append(_together(reasons))
    return found


def summary(judged: Collection[Judged]) -> str:
    """A scan's line: "11 of 14 muscles to use, 2 to look at (LC_L, TR_R), 1 not"."""
    by_use = {
        use: [m.key for m, j in zip(MUSCLES, judged, strict=True) if j.verdict == use]
        for use in ("use", LOOK, DO_NOT_USE)
    }
    text = f"{len(by_use['use'])} of {len(MUSCLES)} muscles to use"
    if by_use[LOOK]:
        text += f", {len(by_use[LOOK])} to look at ({', '.join(by_use[LOOK])})"
    if by_use[DO_NOT_USE]:
        names = ", ".join(by_use[DO_NOT_USE])
        text += f", {len(by_use[DO_NOT_USE])} not to be used ({names})"
    return text


def _below(name: str, value: float, text: str) -> Iterator[Reason]:
    limit = FEWEST[name]
    if limit.do_not_use is not None and value < limit.do_not_use:
        yield DO_NOT_USE, text
    elif limit.look is not None and value < limit.look:
        yield LOOK, text


def _above(name: str, value: float, text: str) -> Iterator[Reason]:
    limit = MOST[name]
    if limit.do_not_use is not None and value > limit.do_not_use:
        yield DO_NOT_USE, text
    elif limit.look is not None and value > limit.look:
        yield LOOK, text


def _together(reasons: list[Reason]) -> Judged:
    graver = sorted(reasons, key=lambda r: r[0] != DO_NOT_USE)
    verdict = graver[0][0] if graver else "use"
    return Judged(verdict, tuple(dict.fromkeys(text for _, text in graver)))


def _of_images(images: DixonImages) -> Iterator[Reason]:
    for fault in images.faults:
        yield fault.severity, fault.reason
    x, y, z = images.grid.spacing_mm
    yield from _above("slice_mm", z, f"slices of {z:g} mm")
    yield from _above("in_plane_mm", max(x, y), f"voxels of {max(x, y):g} mm")


def _of_places(labels: np.ndarray, *, full_length: bool) -> Iterator[Reason]:
    share, places = share_in_place(places_of(labels), at_levels=not full_length)
    if places >= _FEWEST_PLACES:
        text = f"{100 * share:.0f} % of muscles' places are those of a neck"
        yield from _below("places", share, text)


def _of_row(row: Row, m: Muscle, images: DixonImages) -> Iterator[Reason]:
    voxels = row["voxels"]
    extent_mm = row["slices"] * images.grid.spacing_mm[2]
    ratio = 1000 * row["volume_ml"] / extent_mm / AREA_MM2[m.abbreviation]
    yield from _below("voxels", voxels, f"{voxels} voxels")
    yield from _below("extent_mm", extent_mm, f"{extent_mm:g} mm of its length")
    if row["touches_fov_edge"]:
        yield LOOK, "cut by the field of view"
    area = f"{ratio:.2g} times the usual cross-section"
    yield from _below("area_ratio", ratio, area)
    yield from _above("area_ratio", ratio, area)
    mfi = row["mfi_percent"]
    if np.isnan(mfi):
        yield DO_NOT_USE, "no signal"
    yield from _below("mfi_percent", mfi, f"MFI {mfi:.1f} %")
    yield from _above("mfi_percent", mfi, f"MFI {mfi:.1f} %")
    negative = row["voxels_negative_fat"] / voxels
    yield from _above(
        "negative_fat", negative, f"fat negative in {100 * negative:.0f} %"
    )
    undefined = row["voxels_undefined"] / voxels
    yield from _above("undefined", undefined, f"no signal in {100 * undefined:.0f} %")
    inside = row["slice_last"] - row["slice_first"] + 1
    gaps = 1 - row["slices"] / inside
    yield from _above("slices_left_out", gaps, f"{100 * gaps:.0f} % of slices empty")
    swapped = row.get("scanner_swapped_percent") or 0
    if swapped and images.fat_water is images.scanner:
        text = f"water and fat exchanged in {swapped:.0f} %"
        yield from _above("scanner_swapped_percent", swapped, text)
    sure = row["confidence_mean"]
    yield from _below("confidence_mean", sure, f"network unsure ({sure:.2f})")


def _of_pair(row: Row, rows: list[Row], m: Muscle) -> Iterator[Reason]:
    partner = rows[int(LEFT_RIGHT_PERMUTATION[m.label]) - 1]
    if not partner["voxels"]:
        return
    for name, unit in (
        ("asymmetry_volume_percent", "% in volume"),
        ("asymmetry_mfi_points", "points in MFI"),
    ):
        value = abs(row[name])
        yield from _above(name, value, f"sides differ by {value:.0f} {unit}")


def _of_voxels(
    inside: np.ndarray, images: DixonImages, box: tuple[slice, ...], signal: float
) -> Iterator[Reason]:
    """From the shape of a muscle and the images below it."""
    drawn = inside[:, :, inside.any((0, 1))]  # every second slice is no other piece
    pieces, number = label(drawn, _TOUCHING)
    if number > 1:
        largest = np.bincount(pieces[drawn]).max() / drawn.sum()
        text = f"in {number} pieces, the largest {100 * largest:.0f} %"
        yield from _below("largest_piece", largest, text)
    fat = images.fat_water.fat[box][inside].astype(np.float64)
    water = images.fat_water.water[box][inside].astype(np.float64)
    total = fat + water
    void = float(np.mean(total < signal / 6))
    yield from _above("void", void, f"hardly any signal in {100 * void:.0f} %")
    defined = total > 0
    if images.fat_water is not images.scanner and defined.any():
        fraction = fat[defined] / total[defined]
        folded = float(np.mean(fraction > 0.4))
        text = f"{100 * folded:.0f} % of it at 40-50 %, where fractions fold"
        yield from _above("folded", folded, text)


def _of_scale(labels: np.ndarray, images: DixonImages) -> Iterator[Reason]:
    """From the leanest parts of all muscles, where the echoes are nearly equal."""
    inside = labels > 0
    if images.fat_water is images.scanner or len(np.unique(labels)) < _FEWEST_MUSCLES:
        return
    # Means over 3 x 3 voxels, so that noise does not widen the ratios.
    ip = uniform_filter(images.in_phase, (3, 3, 1))[inside]
    oop = uniform_filter(images.out_phase, (3, 3, 1))[inside]
    if (ip > 0).any():
        lean = float(np.percentile(oop[ip > 0] / ip[ip > 0], 95))
        text = f"out-of-phase / in-phase is up to {lean:.2f} in muscles: another scale?"
        yield from _below("lean_ratio", lean, text)
        yield from _above("lean_ratio", lean, text)


def _of_levels(m: Muscle, levels: Collection[str]) -> Iterator[Reason]:
    missing = [name for name in m.levels if name not in levels]
    share = 1 - len(missing) / len(m.levels)
    yield from _below("levels_covered", share, f"without {', '.join(missing)}")


def _median_signal(labels: np.ndarray, images: DixonImages) -> float:
    inside = labels > 0
    if not inside.any():
        return 0.0
    return float(np.median((images.fat_water.fat + images.fat_water.water)[inside]))


def _crossed(labels: np.ndarray) -> set[int]:
    """Labels of pairs whose right one lies left of the left one."""
    per_x = np.stack([np.bincount(p.ravel(), minlength=NUM_CLASSES) for p in labels])
    total = per_x.sum(0)
    middle = np.arange(len(labels)) @ per_x / np.maximum(total, 1)
    return {
        m.label + k
        for m in MUSCLES[::2]
        for k in (0, 1)
        if total[m.label] and total[m.label + 1]
        if middle[m.label] < middle[m.label + 1]
    }
