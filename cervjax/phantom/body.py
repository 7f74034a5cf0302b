"""A person's neck as a fine grid of tissues, in its own upright frame.

The atlas' contours are deformed as one: whatever moves a muscle moves its neighbours,
so nothing is torn or run through. Then every structure is filled, plane by plane.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import map_coordinates

from cervjax.anatomy import MUSCLES
from cervjax.phantom.atlas import LEVELS, level_bounds_mm, structures
from cervjax.phantom.subject import Subject
from cervjax.phantom.tissues import CODES

STEP_MM = np.array([1.0, 0.5, 0.5])
"""Of the grid, along z, y, x."""
_FIRST_MM = np.array([-78.0, -122.0, -156.0])
_SHAPE = (157, 445, 625)
_SPINE = np.array([0.0, -8.0])  # x, y of the axis of what is bone-stiff


class Body(NamedTuple):
    """Tissues of a neck.

    Attributes:
        tissue: ``(z, y, x)`` uint8 codes of `tissues.CODES`; planes go upwards, rows
            forwards, columns to the patient's right.
        first_mm: z, y, x of voxel ``[0, 0, 0]``.
        step_mm: z, y, x.
    """

    tissue: np.ndarray
    first_mm: np.ndarray
    step_mm: np.ndarray


def build_body(subject: Subject) -> Body:
    """Builds the neck of a subject; takes about two seconds."""
    z = _FIRST_MM[0] + STEP_MM[0] * np.arange(_SHAPE[0])
    rng = np.random.default_rng([*subject.seed, 10])
    planes, contours = zip(*(s.at(z) for s in structures()), strict=True)
    contours = _own_sizes(subject, list(contours))
    deform = _deformation(subject, rng, z, planes, contours)
    contours = [deform(xy, k) for xy, k in zip(contours, planes, strict=True)]
    tissue = np.zeros(_SHAPE, np.uint8)
    sheathed = False
    for s, index, xy in zip(structures(), planes, contours, strict=True):
        if s.order >= _FIRST_MUSCLE and not sheathed:  # fascia never covers a muscle
            sheathed = True
            for other, k, border in zip(structures(), planes, contours, strict=True):
                if other.tissue in _SHEATHED:
                    invested = other.tissue in _INVESTED
                    thick = subject.investing_fascia_mm if invested else FASCIA_MM
                    wide = _offset(border, subject.gap_mm + thick)
                    paint(tissue, k, wide, CODES["fascia"])
        if s.tissue in _SHEATHED:
            xy = _offset(xy, subject.gap_mm)
        over = _LOOSE if s.yields else None
        paint(tissue, index, xy, CODES[_tissue_name(s.name, s.tissue)], over)
    _details(tissue, z, subject)
    return Body(tissue, _FIRST_MM, STEP_MM)


_LOOSE = np.isin(np.arange(256), [CODES[n] for n in ("fat", "deep fat", "fascia")])
FASCIA_MM = 0.45
"""Thickness of a muscle's sheath, but for those the investing layer encloses."""
_INVESTED = {str(m.label) for m in MUSCLES if m.abbreviation in ("TR", "SCM")}
_FIRST_MUSCLE = 20
_SHEATHED = {"muscle", *(str(m.label) for m in MUSCLES)}
_TABLE_1_Z = {
    m.label: (level_bounds_mm()[m.levels[-1]][0], level_bounds_mm()[m.levels[0]][1])
    for m in MUSCLES
}


def _tissue_name(name: str, tissue: str) -> str:
    if tissue == "gland" and name.startswith(("thyroid", "parotid")):
        return name.split("_")[0]
    return tissue


def _own_sizes(subject: Subject, contours: list[np.ndarray]) -> list[np.ndarray]:
    """Airway, vessels and the fat under the skin in this person's size."""
    at = {s.name: i for i, s in enumerate(structures())}
    for s, i in zip(structures(), range(len(contours)), strict=True):
        ratio = {"artery": subject.vessels, "vein": subject.vessels}.get(s.tissue, 1.0)
        if s.name == "airway":
            ratio = subject.airway
        if ratio != 1.0:
            centre = contours[i].mean(1, keepdims=True)
            contours[i] = centre + ratio * (contours[i] - centre)
    inner = contours[at["subcutaneous_fat_inner_border"]]
    outer = contours[at["subcutaneous_fat_outer"]]
    skin = contours[at["body_outline"]] - outer
    angle = np.arctan2(inner[..., 0], -(inner[..., 1] + 10))  # 0 = behind
    behind = np.clip(np.cos(angle), 0, 1)[..., None] ** 2
    ratio = behind * subject.fat_posterior + (1 - behind) * subject.fat_lateral
    outer = inner + ratio * (outer - inner)
    contours[at["subcutaneous_fat_outer"]] = outer
    contours[at["body_outline"]] = outer + skin
    return contours


def _deformation(subject, rng, z, planes, contours):
    """A function that moves contours ``(k, n, 2)`` on planes ``(k,)``.

    Each muscle swells or shrinks about its middle line, taking its surroundings along,
    until it has its area at its levels of Table 1; then bone and flesh are scaled, and
    a smooth random warp is added. The vertebrae are nearly spared.
    """
    muscles = []
    for s, index, xy in zip(structures(), planes, contours, strict=True):
        if s.label and s.tissue == str(s.label):
            muscles.append((s.label - 1, index, xy, _ellipses(len(z), index, xy)))
    nodes = [np.arange(v[0], v[-1] + 26, 25.0) for v in _GRID_MM]
    warp = rng.normal(0, subject.warp_mm, (2, *map(len, nodes)))
    growth = np.zeros(14)

    def move(xy, index):
        centre_distance = np.hypot(*np.moveaxis(xy - _SPINE, -1, 0))
        free = np.clip((centre_distance - 12) / 16, 0, 1) ** 2
        shift = np.zeros_like(xy)
        for label, _, _, ellipses in muscles:
            if growth[label]:
                shift += growth[label] * _swelling(xy, *(e[index] for e in ellipses))
        out = xy + shift * free[..., None]
        offset = out - _SPINE
        r = np.maximum(np.hypot(*np.moveaxis(offset, -1, 0)), 1e-6)
        scaled = subject.bone * np.minimum(r, 16) + subject.girth * np.maximum(
            r - 16, 0
        )
        out = _SPINE + offset * (scaled / r)[..., None]
        at = np.stack(
            [np.broadcast_to(z[index][:, None], xy.shape[:2]), xy[..., 1], xy[..., 0]]
        )
        at = (at - np.array([v[0] for v in _GRID_MM])[:, None, None]) / 25
        for k in (0, 1):
            field = map_coordinates(warp[k], at, order=3, mode="nearest")
            out[..., k] += field * (0.25 + 0.75 * free)
        return out

    wanted = subject.muscle_area
    rows = []
    for label, index, xy, _ in muscles:
        low, high = _TABLE_1_Z[label + 1]
        keep = np.flatnonzero((z[index] >= low) & (z[index] <= high))[::4]
        rows.append((label, index[keep], xy[keep], _area(xy[keep]).mean()))
    for _ in range(6):
        for label, index, xy, area in rows:
            now = _area(_offset(move(xy, index), subject.gap_mm)).mean() / area
            step = np.log(wanted[label] / now)
            growth[label] = np.clip(growth[label] + 1.1 * step, -1.1, 1.6)
    return move


_GRID_MM = ((-80.0, 80.0), (-125.0, 105.0), (-160.0, 160.0))


def _ellipses(num_planes, index, xy):
    """Centre, long axis and half axes of a muscle's section in each plane.

    Where the muscle is not, a half axis of zero says so.
    """
    centre, axis = np.zeros((num_planes, 2)), np.zeros((num_planes, 2))
    half = np.zeros((num_planes, 2))
    mean = xy.mean(1, keepdims=True)
    values, vectors = np.linalg.eigh(np.einsum("kni,knj->kij", xy - mean, xy - mean))
    half[index] = np.sqrt(2 * values[:, ::-1] / xy.shape[1])
    centre[index], axis[index] = mean[:, 0], vectors[:, :, 1]
    return centre, axis, half


def _swelling(xy, centre, axis, half):
    """Displacement per unit of growth about a section: mostly across a thin one."""
    offset = xy - centre[:, None]
    across = np.stack([-axis[:, 1], axis[:, 0]], -1)
    a = np.einsum("kni,ki->kn", offset, axis)
    b = np.einsum("kni,ki->kn", offset, across)
    size = np.maximum(half, 1e-3)
    exists = (half[:, 0] > 0)[:, None]
    weight = exists * np.exp(
        -0.5 * ((a / (1.6 * size[:, :1])) ** 2 + (b / (1.7 * size[:, 1:])) ** 2)
    )
    long_share = (size[:, 1] / size.sum(1))[:, None]  # 0.5 if round
    a, b = weight * a * long_share, weight * b * (1 - long_share)
    return a[..., None] * axis[:, None] + b[..., None] * across[:, None]


def _area(xy: np.ndarray) -> np.ndarray:
    """Areas of polygons ``(..., n, 2)``."""
    x, y = xy[..., 0], xy[..., 1]
    return 0.5 * np.abs((x * np.roll(y, -1, -1) - np.roll(x, -1, -1) * y).sum(-1))


def _offset(xy: np.ndarray, distance_mm: float) -> np.ndarray:
    """Polygons with every vertex moved outwards along its normal."""
    tangent = np.roll(xy, -1, 1) - np.roll(xy, 1, 1)
    normal = np.stack([tangent[..., 1], -tangent[..., 0]], -1)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    x, y = xy[..., 0], xy[..., 1]
    turn = np.sign((x * np.roll(y, -1, -1) - np.roll(x, -1, -1) * y).sum(-1))
    return xy + distance_mm * turn[:, None, None] * normal


def paint(
    volume: np.ndarray,
    planes: np.ndarray,
    xy: np.ndarray,
    code: int,
    over: np.ndarray | None = None,
) -> None:
    """Fills polygons: voxels whose centres lie inside get the code.

    Args:
        volume: ``(z, y, x)``, changed in place.
        planes: ``(k,)`` consecutive plane indices.
        xy: ``(k, n, 2)`` vertices in mm, one polygon per plane.
        code: the value.
        over: ``(256,)`` which codes may be painted over; by default all.
    """
    if not len(planes):
        return
    col = (xy[..., 0] - _FIRST_MM[2]) / STEP_MM[2]
    row = (xy[..., 1] - _FIRST_MM[1]) / STEP_MM[1]
    lowest = np.floor([row.min(), col.min()]).astype(int)
    highest = np.ceil([row.max(), col.max()]).astype(int) + 1
    (r0, c0) = np.maximum(lowest, 0)
    r1, c1 = np.minimum(highest, [n - 1 for n in volume.shape[1:]])
    if r1 < r0 or c1 < c0:
        return
    rows = np.arange(r0, r1 + 1)
    a, b = row[:, :, None], np.roll(row, -1, 1)[:, :, None]
    crosses = (a > rows) != (b > rows)
    k, i, j = np.nonzero(crosses)
    n = xy.shape[1]
    y0, y1 = row[k, i], row[k, (i + 1) % n]
    x0, x1 = col[k, i], col[k, (i + 1) % n]
    x = x0 + (rows[j] - y0) * (x1 - x0) / (y1 - y0)
    flips = np.zeros((len(planes), r1 - r0 + 1, c1 - c0 + 2), np.uint8)
    first = np.clip(np.ceil(x).astype(int) - c0, 0, c1 - c0 + 1)
    np.add.at(flips, (k, j, first), 1)
    inside = (np.cumsum(flips, -1, dtype=np.uint8) & 1)[..., :-1].view(bool)
    box = volume[planes[0] : planes[-1] + 1, r0 : r1 + 1, c0 : c1 + 1]
    if over is not None:
        inside &= over[box]
    np.copyto(box, np.uint8(code), where=inside)


def _details(tissue: np.ndarray, z: np.ndarray, subject: Subject) -> None:
    """Facet joints between the articular pillars, and a fused level if there is one."""
    marrow, cortical = CODES["marrow"], CODES["bone cortical"]
    y = _FIRST_MM[1] + STEP_MM[1] * np.arange(_SHAPE[1])
    x = np.abs(_FIRST_MM[2] + STEP_MM[2] * np.arange(_SHAPE[2]))
    lateral = (x > 9) & (x < 32)
    bounds = level_bounds_mm()
    for name in LEVELS[:-1]:
        disc = bounds[name][0]
        joint = disc - 1.0 + 0.7 * (y + 13)  # the joint falls towards the back
        depth = np.abs(z[:, None] - joint[None])
        near = np.flatnonzero(np.abs(z - disc) < 14)
        rows = np.flatnonzero((y > -26) & (y < -3))
        box = np.ix_(near, rows, np.flatnonzero(lateral))
        part, d = tissue[box], depth[np.ix_(near, rows)][..., None]
        bony = (part == marrow) | (part == cortical)
        part[bony & (d < 2.2)] = cortical
        part[bony & (d < 0.8)] = CODES["cartilage"]
        tissue[box] = part
    if subject.fused_level >= 0:
        disc = bounds[LEVELS[subject.fused_level]][0]
        near = np.abs(z - disc) < 4
        part = tissue[near]
        part[part == CODES["disc"]] = marrow
        tissue[near] = part
