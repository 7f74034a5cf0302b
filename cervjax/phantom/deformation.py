"""How a subject's neck differs from the atlas: its contours, moved as one.

Whatever moves a muscle moves its neighbours, so nothing is torn or run through.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates, spline_filter

from cervjax.anatomy import MUSCLES
from cervjax.phantom.atlas import Anatomy
from cervjax.phantom.structure import Structure, area_mm2
from cervjax.phantom.subject import Subject

_SPINE = np.array([0.0, -8.0])  # x, y of the axis of what is bone-stiff
_AREA_STEP_MM = 4.0  # between the planes that tell a muscle's area
_NODES_MM = 25.0  # distance of the warp's nodes
_GRID_MM = ((-80.0, 80.0), (-125.0, 105.0), (-160.0, 160.0))  # of the warp: z, y, x


@dataclass(frozen=True, eq=False)
class Drawn:
    """An anatomy's contours on the planes of a grid.

    Attributes:
        anatomy: whose.
        z_mm: of the planes.
        planes: per structure, ``(k,)`` indices of its planes.
        contours: per structure, ``(k, n, 2)`` x and y in mm.
    """

    anatomy: Anatomy
    z_mm: np.ndarray
    planes: Sequence[np.ndarray]
    contours: Sequence[np.ndarray]


def own_sizes(
    subject: Subject, structures: Sequence[Structure], contours: list[np.ndarray]
) -> list[np.ndarray]:
    """Airway, vessels and the fat under the skin in this subject's size."""
    at = {s.name: i for i, s in enumerate(structures)}
    for s, i in zip(structures, range(len(contours)), strict=True):
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


@dataclass(frozen=True, eq=False)
class _Ellipses:
    """A muscle's section in each plane, as an ellipse.

    Attributes:
        centre: ``(planes, 2)`` x and y.
        axis: ``(planes, 2)`` unit vector along the long axis.
        half: ``(planes, 2)`` half axes, 0 where the muscle is not.
    """

    centre: np.ndarray
    axis: np.ndarray
    half: np.ndarray

    def swelling(self, xy: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Displacement of points per unit of growth: mostly across a thin section.

        Args:
            xy: ``(k, n, 2)``.
            index: ``(k,)`` their planes.
        """
        centre, axis, half = self.centre[index], self.axis[index], self.half[index]
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


@dataclass(frozen=True, eq=False)
class Deformation:
    """Moves contours of the atlas to where they are in a subject.

    Each muscle swells or shrinks about its middle line, taking its surroundings along;
    then bone and flesh are scaled, and a smooth random warp is added. The vertebrae
    are nearly spared.

    Attributes:
        subject: whose neck.
        z_mm: of the planes.
        warp: ``(2, z, y, x)`` displacement in mm along x and y: coefficients of its
            cubic splines at the warp's nodes.
        muscles: index of each muscle, and its sections.
        growth: ``(14,)`` by how much each muscle swells.
    """

    subject: Subject
    z_mm: np.ndarray
    warp: np.ndarray
    muscles: list[tuple[int, _Ellipses]]
    growth: np.ndarray

    def __call__(self, xy: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Contours ``(k, n, 2)`` on planes ``(k,)``, moved."""
        centre_distance = np.hypot(*np.moveaxis(xy - _SPINE, -1, 0))
        free = np.clip((centre_distance - 12) / 16, 0, 1) ** 2
        shift = np.zeros_like(xy)
        for i, ellipses in self.muscles:
            if self.growth[i]:
                shift += self.growth[i] * ellipses.swelling(xy, index)
        offset = xy + shift * free[..., None] - _SPINE
        r = np.maximum(np.hypot(*np.moveaxis(offset, -1, 0)), 1e-6)
        subject = self.subject
        scaled = subject.bone * np.minimum(r, 16)
        scaled = scaled + subject.girth * np.maximum(r - 16, 0)
        out = _SPINE + offset * (scaled / r)[..., None]
        z = np.broadcast_to(self.z_mm[index][:, None], xy.shape[:2])
        at = np.stack([z, xy[..., 1], xy[..., 0]])
        first = np.array([low for low, _ in _GRID_MM])
        at = (at - first[:, None, None]) / _NODES_MM
        for k in (0, 1):
            field = map_coordinates(
                self.warp[k], at, order=3, mode="nearest", prefilter=False
            )
            out[..., k] += field * (0.25 + 0.75 * free)
        return out


def fit_deformation(
    subject: Subject, rng: np.random.Generator, drawn: Drawn
) -> Deformation:
    """Draws the warp, and finds the growth that gives each muscle its area.

    The area counts at the muscle's levels of Table 1; six rounds are enough.

    Args:
        subject: whose neck.
        rng: draws the warp.
        drawn: the anatomy's contours.
    """
    z_mm, bounds = drawn.z_mm, drawn.anatomy.level_bounds_mm
    levels = {
        m.label: (bounds[m.levels[-1]][0], bounds[m.levels[0]][1]) for m in MUSCLES
    }
    nodes = [np.arange(low, high + 26, _NODES_MM) for low, high in _GRID_MM]
    warp = rng.normal(0, subject.warp_mm, (2, *map(len, nodes)))
    warp = np.stack([spline_filter(w) for w in warp])
    every = max(round(_AREA_STEP_MM / (z_mm[1] - z_mm[0])), 1)
    muscles, rows = [], []
    parts = zip(drawn.anatomy.structures, drawn.planes, drawn.contours, strict=True)
    for s, index, xy in parts:
        if s.label and s.tissue == str(s.label):
            low, high = levels[s.label]
            z = z_mm[index]
            keep = np.flatnonzero((z >= low) & (z <= high))[::every]
            rows.append((s.label - 1, index[keep], xy[keep]))
            muscles.append((s.label - 1, _ellipses(len(z_mm), index, xy)))
    growth = np.zeros(len(MUSCLES))
    deform = Deformation(subject, z_mm, warp, muscles, growth)
    for _ in range(6):
        for i, index, xy in rows:
            moved = offset(deform(xy, index), subject.gap_mm)
            ratio = area_mm2(moved).mean() / area_mm2(xy).mean()
            step = np.log(subject.muscle_area[i] / ratio)
            growth[i] = np.clip(growth[i] + 1.1 * step, -1.1, 1.6)
    return deform


def _ellipses(num_planes: int, index: np.ndarray, xy: np.ndarray) -> _Ellipses:
    """The ellipses of a muscle's contours ``(k, n, 2)`` on planes ``(k,)``."""
    centre, axis, half = np.zeros((3, num_planes, 2))
    mean = xy.mean(1, keepdims=True)
    values, vectors = np.linalg.eigh(np.einsum("kni,knj->kij", xy - mean, xy - mean))
    half[index] = np.sqrt(2 * values[:, ::-1] / xy.shape[1])
    centre[index], axis[index] = mean[:, 0], vectors[:, :, 1]
    return _Ellipses(centre, axis, half)


def offset(xy: np.ndarray, distance_mm: float) -> np.ndarray:
    """Polygons with every vertex moved outwards along its normal."""
    tangent = np.roll(xy, -1, 1) - np.roll(xy, 1, 1)
    normal = np.stack([tangent[..., 1], -tangent[..., 0]], -1)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    x, y = xy[..., 0], xy[..., 1]
    turn = np.sign((x * np.roll(y, -1, -1) - np.roll(x, -1, -1) * y).sum(-1))
    return xy + distance_mm * turn[:, None, None] * normal
