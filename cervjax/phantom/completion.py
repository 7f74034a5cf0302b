"""Fills what one person's outlines lack from the standard anatomy, by rule.

Heights: discs that both have are mapped onto each other, linearly between them; beyond
them spacing is the standard's times the ratio of what both have. In the plane, a smooth
map from the standard onto the person is fitted at every height to the contours that
both have. A structure that the person has keeps its own contours where they were
traced; what was not traced is the standard's, moved by that map, with the person's own
difference from it fading out beyond the last traced plane.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.interpolate import RBFInterpolator
from scipy.ndimage import gaussian_filter1d

from cervjax.phantom.anatomy_file import AnatomyError, Outlines
from cervjax.phantom.correspondence import SPINE_MM, align
from cervjax.phantom.structure import Structure

_ALSO = {"larynx_block": "pharynx_wall"}  # one visceral block under two names
_STEP_MM = 4.0  # of the planes that get a map of their own
_REACH_MM = 6.0  # from a single section to the planes that it still tells about
_FADE_MM = 15.0
_CUT_MM = 4.0  # from the end of what was traced: the structure went on
_SKIN_MM = 1.8
_POINTS = 12  # of each contour, to fit a map
_SMOOTHING = 20.0
_ROUNDER = 0.05  # of a contour's length: what a difference is smoothed by beyond
_SHEETS = ("TR_R", "TR_L")  # may reach far into a shoulder: no guide to shape
_DEEP_MM = 50.0  # from the spine: what tells the size of what was not traced
_NEEDED = ("body_outline", "MFSS_R", "MFSS_L", "SCM_R", "SCM_L", "LS_R", "LS_L")


class Completed(NamedTuple):
    """All structures of the standard anatomy, in a person's shape.

    Attributes:
        structures: as many and with as many vertices as the standard's.
        borders_mm: ``(8,)`` of the levels.
        filled: one line for each rule that was needed.
    """

    structures: tuple[Structure, ...]
    borders_mm: np.ndarray
    filled: tuple[str, ...]


def complete(
    person: Outlines, standard: Sequence[Structure], borders_mm: np.ndarray
) -> Completed:
    """Gives a person all structures of the standard anatomy.

    Args:
        person: traced outlines.
        standard: structures of the standard anatomy.
        borders_mm: ``(8,)`` of its levels, from above.

    Raises:
        AnatomyError: outlines without which no neck can be built are missing, or
            heights are not in order.
    """
    traced = _traced(person)
    missing = [n for n in _NEEDED if n not in traced]
    if missing:
        raise AnatomyError(f"{', '.join(missing)} missing; these outlines are needed")
    if len(traced["body_outline"].z_mm) < 2:
        raise AnatomyError("body_outline needs two sections or more")
    known, own = _heights(person, borders_mm)
    height = partial(_map_height, known, own)
    aligned = {s.name: align(traced[s.name], s) for s in standard if s.name in traced}
    low, high = traced["body_outline"].z_mm[[0, -1]]
    move = _Map(standard, aligned, height, (low, high))
    done = [_fill(s, aligned.get(s.name), move, (low, high)) for s in standard]
    if "subcutaneous_fat_outer" not in traced:
        done = _with_skin(done)
    return Completed(
        tuple(done), height(borders_mm), _report(person, standard, (low, high))
    )


def _traced(person: Outlines) -> dict[str, Structure]:
    """By name; parts of one structure under several names are joined."""
    found: dict[str, Structure] = {}
    for s in person.structures:
        name = _ALSO.get(s.name, s.name)
        if name in found:
            a, b = found[name], s
            keep = ~np.isin(b.z_mm, a.z_mm)
            z = np.r_[a.z_mm, b.z_mm[keep]]
            if a.contours_mm.shape[1] != b.contours_mm.shape[1]:
                continue
            xy = np.concatenate([a.contours_mm, b.contours_mm[keep]])
            order = np.argsort(z)
            s = s._replace(z_mm=z[order], contours_mm=xy[order])
        found[name] = s._replace(name=name)
    return found


def _heights(person: Outlines, borders_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Heights in the standard and in the person, ascending, that belong together."""
    from_above = ("C2/3", "C3/4", "C4/5", "C5/6", "C6/7", "C7/T1", "T1/2")
    discs = dict(zip(from_above, borders_mm[1:], strict=True))
    pairs = {(0.0, 0.0)}
    pairs |= {(float(discs[k]), z) for k, z in person.discs_mm.items() if k in discs}
    if len(pairs) < 3:
        raise AnatomyError(
            f'"discs" must give two or more of {", ".join(from_above)}, got '
            f"{person.discs_mm}"
        )
    known, own = np.array(sorted(pairs)).T
    if np.any(np.diff(own) <= 0):
        raise AnatomyError(
            f"levels and discs are not in order from above: {person.discs_mm}"
        )
    return known, own


def _map_height(
    known: np.ndarray, own: np.ndarray, z: np.ndarray | float, *, inverse: bool = False
) -> np.ndarray:
    """From heights in the standard to the person's, or back."""
    a, b = (own, known) if inverse else (known, own)
    ratio = (b[-1] - b[0]) / (a[-1] - a[0])
    far = 200.0
    a = np.r_[a[0] - far, a, a[-1] + far]
    b = np.r_[b[0] - far * ratio, b, b[-1] + far * ratio]
    return np.interp(z, a, b)


class _Map:
    """From the standard's plane onto the person's, at any height of the standard."""

    def __init__(self, standard, aligned, height, traced_mm):
        self.pairs = [
            (s, aligned[s.name])
            for s in standard
            if s.name in aligned and s.name not in _SHEETS
        ]
        self.height = height
        self.traced_mm = traced_mm
        self.fitted: dict[float, tuple[RBFInterpolator, np.ndarray, float]] = {}

    def __call__(self, xy: np.ndarray, z: float) -> np.ndarray:
        """Moves points ``(n, 2)`` at a height of the standard."""
        step = round(z / _STEP_MM) * _STEP_MM
        if step not in self.fitted:
            self.fitted[step] = self._fit(step)
        smooth, size, fade = self.fitted[step]
        scaled = np.stack([xy[:, 0], xy[:, 1], np.ones(len(xy))], 1) @ size
        return fade * (xy + smooth(xy)) + (1 - fade) * scaled

    def _fit(self, z: float) -> tuple[RBFInterpolator, np.ndarray, float]:
        """The smooth map, the person's size as an affine map, the first one's share."""
        low, high = self.traced_mm
        own = float(np.clip(self.height(z), low, high))
        fade = float(np.exp(-abs(float(self.height(z)) - own) / _FADE_MM))
        z = float(self.height(own, inverse=True))
        places, shifts = [], []
        for s, p in self.pairs:
            reach = _REACH_MM if len(p.z_mm) < 4 else 1.0
            if not p.z_mm[0] - reach <= own <= p.z_mm[-1] + reach:
                continue
            if not s.z_mm[0] - reach <= z <= s.z_mm[-1] + reach:
                continue
            a = _at(s, z)
            step = max(len(a) // _POINTS, 1)
            places.append(a[::step])
            shifts.append((_at(p, own) - a)[::step])
        places, first = np.unique(np.concatenate(places), axis=0, return_index=True)
        shifts = np.concatenate(shifts)[first]
        smooth = RBFInterpolator(
            places, shifts, kernel="linear", smoothing=_SMOOTHING, degree=1
        )
        deep = np.linalg.norm(places - SPINE_MM, axis=1) < _DEEP_MM
        return smooth, _size(places[deep], (places + shifts)[deep]), fade


def _size(places: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """``(3, 2)`` widening along x, widening and shift along y: the best of them."""
    x = (places[:, 0] @ moved[:, 0]) / (places[:, 0] @ places[:, 0])
    slope, shift = np.polyfit(places[:, 1], moved[:, 1], 1)
    return np.array([[x, 0.0], [0.0, slope], [0.0, shift]])


def _at(s: Structure, z: float) -> np.ndarray:
    return s._replace(goes_on=(True, True)).at(np.array([z]))[1][0]


def _fill(
    s: Structure, own: Structure | None, move: _Map, traced_mm: tuple[float, float]
) -> Structure:
    """One structure of the standard in the person's shape."""
    z = np.asarray(move.height(s.z_mm))
    if own is None or np.ptp(own.z_mm) <= 1:
        moved = [move(c, h) for c, h in zip(s.contours_mm, s.z_mm, strict=True)]
        return s._replace(z_mm=z, contours_mm=np.stack(moved))
    low, high = traced_mm
    ends = [z[0], z[-1]]
    if own.z_mm[0] > low + _CUT_MM or z[0] > own.z_mm[0]:
        ends[0] = own.z_mm[0]
    if own.z_mm[-1] < high - _CUT_MM or z[-1] < own.z_mm[-1]:
        ends[1] = own.z_mm[-1]
    z = ends[0] + (z - z[0]) * (ends[1] - ends[0]) / (z[-1] - z[0])
    contours = []
    for k, h in enumerate(z):
        inside = float(np.clip(h, own.z_mm[0], own.z_mm[-1]))
        contour = _at(own, inside)
        if inside != h:
            edge = float(move.height(inside, inverse=True))
            here = float(move.height(h, inverse=True))
            fade = np.exp(-abs(h - inside) / _FADE_MM)
            difference = contour - move(_at(s, edge), edge)
            rounder = _ROUNDER * min(abs(h - inside) / _FADE_MM, 1) * len(contour)
            difference = gaussian_filter1d(difference, rounder, 0, mode="wrap")
            contour = move(s.contours_mm[k], here) + fade * difference
        contours.append(contour)
    return s._replace(z_mm=z, contours_mm=np.stack(contours))


def _with_skin(structures: list[Structure]) -> list[Structure]:
    """The subcutaneous fat ends a skin's thickness within the outline."""
    outline = next(s for s in structures if s.name == "body_outline")
    out = []
    for s in structures:
        if s.name == "subcutaneous_fat_outer":
            xy = outline.contours_mm
            away = xy - xy.mean(1, keepdims=True)
            r = np.linalg.norm(away, axis=-1, keepdims=True)
            s = s._replace(z_mm=outline.z_mm, contours_mm=xy - away / r * _SKIN_MM)
        out.append(s)
    return out


def _report(
    person: Outlines, standard: Sequence[Structure], traced_mm: tuple[float, float]
) -> tuple[str, ...]:
    names = {_ALSO.get(s.name, s.name) for s in person.structures}
    absent = [s.name for s in standard if s.name not in names]
    unknown = sorted(names - {s.name for s in standard})
    low, high = traced_mm
    lines = [f"filled from the standard: below {low:.0f} and above {high:.0f} mm of C5"]
    if absent:
        lines.append(f"filled from the standard: {len(absent)} structures not traced")
    if unknown:
        lines.append(f"left out, as the standard lacks them: {', '.join(unknown)}")
    return tuple(lines)
