"""A subject's neck as a fine grid of tissues, in its own upright frame.

An anatomy's contours are deformed (see `deformation`), then every structure is filled,
plane by plane.
"""

from typing import NamedTuple

import numpy as np

from cervjax.anatomy import MUSCLES
from cervjax.phantom.atlas import LEVELS, Anatomy
from cervjax.phantom.deformation import Drawn, fit_deformation, offset, own_sizes
from cervjax.phantom.front import fill_front
from cervjax.phantom.packing import pack_muscles
from cervjax.phantom.subject import Subject
from cervjax.phantom.tissues import CODES

STEP_MM = np.array([1.0, 0.5, 0.5])
"""Of the grid, along z, y, x."""
_FIRST_MM = np.array([-78.0, -122.0, -156.0])
_SHAPE = (157, 445, 625)
_LOOSE = np.isin(np.arange(256), [CODES[n] for n in ("fat", "deep fat", "fascia")])
WIDTH_MM = 105.0, 165.0
"""Of adults' necks; the fat under the skin may add to it a little."""
_WITHIN = ~np.isin(np.arange(256), [CODES["air"], CODES["skin"]])
FASCIA_MM = 0.45
"""Thickness of a muscle's sheath, but for those the investing layer encloses."""
_INVESTED = {str(m.label) for m in MUSCLES if m.abbreviation in ("TR", "SCM")}
_FAT, _FIRST_MUSCLE = 1, 20  # order of the subcutaneous fat, of the first muscles
_MOST_GAIN = 1.10  # by packing, that the outlines make up for
_COARSE = 4  # every how many planes are enough to tell areas
_SHEATHED = {"muscle", *(str(m.label) for m in MUSCLES)}


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


def build_body(subject: Subject, anatomy: Anatomy) -> Body:
    """Builds the neck of a subject; takes some five seconds.

    Args:
        subject: size, build and fat.
        anatomy: whose outlines are deformed.
    """
    z = _FIRST_MM[0] + STEP_MM[0] * np.arange(_SHAPE[0])
    least, most = np.array(WIDTH_MM) / anatomy.width_mm
    subject = subject._replace(girth=float(np.clip(subject.girth, least, most)))
    gain = np.minimum(_gain_by_packing(subject, anatomy, z), _MOST_GAIN)
    smaller = subject._replace(muscle_area=subject.muscle_area / gain)
    tissue = _painted(smaller, anatomy, z)
    pack_muscles(tissue, _FIRST_MM, STEP_MM, subject)
    fill_front(tissue, _FIRST_MM, STEP_MM, subject)
    _details(tissue, z, subject, anatomy)
    return Body(tissue, _FIRST_MM, STEP_MM)


def paint_outlines(anatomy: Anatomy) -> Body:
    """A person's own outlines, neither deformed nor packed."""
    z = _FIRST_MM[0] + STEP_MM[0] * np.arange(_SHAPE[0])
    tissue = np.zeros(_SHAPE, np.uint8)
    for s in anatomy.structures:
        planes, xy = s.at(z)
        over = _LOOSE if s.yields else (_WITHIN if s.order > _FAT else None)
        paint(tissue, planes, xy, CODES[_tissue_name(s.name, s.tissue)], over)
    return Body(tissue, _FIRST_MM, STEP_MM)


def _gain_by_packing(
    subject: Subject, anatomy: Anatomy, z_mm: np.ndarray
) -> np.ndarray:
    """``(14,)`` by what ratio the gaps that muscles are given enlarge them.

    At their levels of Table 1, on every fourth plane.
    """
    z, bounds = z_mm[::_COARSE], anatomy.level_bounds_mm
    before = _painted(subject, anatomy, z)
    after = before.copy()
    pack_muscles(after, _FIRST_MM, STEP_MM, subject)
    gain = np.ones(len(MUSCLES))
    for m in MUSCLES:
        low, high = bounds[m.levels[-1]][0], bounds[m.levels[0]][1]
        at = (z >= low) & (z <= high)
        area = [np.count_nonzero(t[at] == m.label) for t in (before, after)]
        gain[m.label - 1] = area[1] / max(area[0], 1)
    return np.maximum(gain, 1.0)


def _painted(subject: Subject, anatomy: Anatomy, z_mm: np.ndarray) -> np.ndarray:
    """``(planes, y, x)`` tissues on planes at any heights, muscles not packed."""
    structures = anatomy.structures
    rng = np.random.default_rng([*subject.seed, 10])
    planes, contours = zip(*(s.at(z_mm) for s in structures), strict=True)
    contours = own_sizes(subject, structures, list(contours))
    drawn = Drawn(anatomy, z_mm, planes, contours)
    deform = fit_deformation(subject, rng, drawn)
    contours = [deform(xy, k) for xy, k in zip(contours, planes, strict=True)]
    tissue = np.zeros((len(z_mm), *_SHAPE[1:]), np.uint8)
    sheathed = False
    for s, index, xy in zip(structures, planes, contours, strict=True):
        if s.order >= _FIRST_MUSCLE and not sheathed:  # fascia never covers a muscle
            sheathed = True
            for other, k, border in zip(structures, planes, contours, strict=True):
                if other.tissue in _SHEATHED and other.order >= _FIRST_MUSCLE:
                    invested = other.tissue in _INVESTED
                    thick = subject.investing_fascia_mm if invested else FASCIA_MM
                    wide = offset(border, subject.gap_mm + thick)
                    paint(tissue, k, wide, CODES["fascia"])
        if s.tissue in _SHEATHED:
            xy = offset(xy, subject.gap_mm)
        over = _LOOSE if s.yields else (_WITHIN if s.order > _FAT else None)
        paint(tissue, index, xy, CODES[_tissue_name(s.name, s.tissue)], over)
    return tissue


def _tissue_name(name: str, tissue: str) -> str:
    if tissue == "gland" and name.startswith(("thyroid", "parotid")):
        return name.split("_")[0]
    return tissue


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


def _details(
    tissue: np.ndarray, z: np.ndarray, subject: Subject, anatomy: Anatomy
) -> None:
    """Facet joints between the articular pillars, and a fused level if there is one."""
    marrow, cortical = CODES["marrow"], CODES["bone cortical"]
    y = _FIRST_MM[1] + STEP_MM[1] * np.arange(_SHAPE[1])
    x = np.abs(_FIRST_MM[2] + STEP_MM[2] * np.arange(_SHAPE[2]))
    lateral = (x > 9) & (x < 32)
    bounds = anatomy.level_bounds_mm
    for name in LEVELS[:-1]:
        disc = bounds[name][0]
        joint = disc - 1.0 + 0.7 * (y + 13)  # the joint falls towards the back
        depth = np.abs(z[:, None] - joint[None])
        near = np.flatnonzero(np.abs(z - disc) < 14)
        rows = np.flatnonzero((y > -26) & (y < -3))
        box = np.ix_(near, rows, np.flatnonzero(lateral))
        part, d = tissue[box], depth[np.ix_(near, rows)][..., None]
        bony = np.isin(part, [marrow, cortical])
        part[bony & (d < 2.2)] = cortical
        part[bony & (d < 0.8)] = CODES["cartilage"]
        tissue[box] = part
    if subject.fused_level >= 0:
        disc = bounds[LEVELS[subject.fused_level]][0]
        near = np.abs(z - disc) < 4
        part = tissue[near]
        part[part == CODES["disc"]] = marrow
        tissue[near] = part
