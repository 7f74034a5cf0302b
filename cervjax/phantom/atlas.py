"""The measured neck that every digital neck is deformed from.

``neck_atlas.npz`` holds closed contours of the muscles, bones, vessels and skin from C2
to T1, read off real images (ATLAS.md names the sources). What the images show and the
contours lack is added here: platysma, nerve roots, clavicles, lung apices, small nodes
and veins of the anterior neck.

Coordinates are RAS in mm: x to the patient's right, y anterior, z superior; the
origin is the centre of the C5 body.
"""

from functools import cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np

LEVELS = ("C2", "C3", "C4", "C5", "C6", "C7", "T1")
"""Vertebral levels, from above; 2-8 in maps of levels."""

_RIGHT, _LEFT = 1, -1
_Z_MIN, _Z_MAX = -60.0, 60.0
_DISCS = ("C2/3", "C3/4", "C4/5", "C5/6", "C6/7", "C7/T1", "T1/2")


class Structure(NamedTuple):
    """One closed surface, as contours on a stack of planes.

    Attributes:
        name: with ``_R`` or ``_L`` where it is paired.
        tissue: a name of `tissues.TISSUES`, or the label of a muscle as text.
        label: 1-14 for the segmented muscles, else 0.
        order: structures are painted by ascending order.
        z_mm: ``(s,)`` planes, ascending.
        contours_mm: ``(s, n, 2)`` x and y of corresponding vertices.
        yields: whether it gives way to everything but fat and fascia.
    """

    name: str
    tissue: str
    label: int
    order: float
    z_mm: np.ndarray
    contours_mm: np.ndarray
    yields: bool = False

    def at(self, z_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Contours on other planes, linear between the sections.

        Args:
            z_mm: ``(k,)`` ascending.

        Returns:
            Indices into `z_mm` where the structure exists, and ``(k', n, 2)``. What
            reaches the atlas' first or last plane goes on unchanged beyond it.
        """
        low, high = self.z_mm[0], self.z_mm[-1]
        low = -np.inf if low <= _Z_MIN else low
        high = np.inf if high >= _Z_MAX else high
        index = np.flatnonzero((z_mm >= low) & (z_mm <= high))
        z = np.clip(z_mm[index], self.z_mm[0], self.z_mm[-1])
        k = np.clip(np.searchsorted(self.z_mm, z, "right") - 1, 0, len(self.z_mm) - 2)
        t = ((z - self.z_mm[k]) / (self.z_mm[k + 1] - self.z_mm[k]))[:, None, None]
        return index, self.contours_mm[k] * (1 - t) + self.contours_mm[k + 1] * t


@cache
def structures() -> tuple[Structure, ...]:
    """All structures, in painting order."""
    return tuple(sorted(_measured() + _added(), key=lambda s: s.order))


@cache
def level_bounds_mm() -> dict[str, tuple[float, float]]:
    """Lower and upper z of each vertebral level: from disc middle to disc middle."""
    table = _table()
    z = dict(zip(table["level_name"].tolist(), table["level_z_mm"], strict=True))
    discs = [float(z[f"disc_{d}"]) for d in _DISCS]
    top = 2 * float(z["C2"]) - discs[0] + 2.0  # the dens reaches higher
    bounds = [top, *discs]
    return {name: (bounds[i + 1], bounds[i]) for i, name in enumerate(LEVELS)}


@cache
def _table() -> dict[str, np.ndarray]:
    with np.load(str(files("cervjax.phantom") / "neck_atlas.npz")) as stored:
        return dict(stored)


def _measured() -> list[Structure]:
    table = _table()
    vertices = table["vertices_hundredths_mm"].astype(np.float64) / 100
    found, section, vertex = [], 0, 0
    for i, name in enumerate(table["name"].tolist()):
        num, n = int(table["num_sections"][i]), int(table["num_vertices"][i])
        z = table["section_z_mm"][section : section + num].astype(np.float64)
        xy = vertices[vertex : vertex + num * n].reshape(num, n, 2)
        label, tissue = int(table["label"][i]), str(table["tissue"][i])
        section, vertex = section + num, vertex + num * n
        if tissue == "muscle" and label:
            tissue = str(label)
        elif name == "airway":
            tissue = "air"
        elif name.startswith("subcutaneous_fat_inner"):
            tissue = "deep fat"
        elif name.startswith("oral_floor"):
            tissue = "tongue"
        elif name.startswith(("carotid", "vertebral_artery")):
            tissue = "artery"
        elif name.startswith("jugular_node"):
            tissue = "node"
        elif name.startswith("jugular"):
            tissue = "vein"
        elif name.endswith("internal_septum"):
            tissue = "septum"
        order = float(table["order"][i])
        found.append(Structure(name, tissue, label, order, z, xy))
    return found


def _added() -> list[Structure]:
    """What the contours lack. Sizes are textbook ones, places are by eye."""
    outlines = {s.name: s for s in _measured() if s.name.startswith("subcutaneous")}
    added = []
    for side in (_RIGHT, _LEFT):
        letter = "R" if side == _RIGHT else "L"
        added.append(_platysma(outlines, side, f"platysma_{letter}"))
        tubes = {  # name: tissue, order, radius_mm, points x (lateral), y, z
            "clavicle": ("bone cortical", 36, 6.0, _CLAVICLE),
            "clavicle_marrow": ("marrow", 37, 4.2, _CLAVICLE),
            "external_jugular": ("vein", 44, 1.9, _EXTERNAL_JUGULAR),
            "anterior_jugular": ("vein", 44, 1.3, _ANTERIOR_JUGULAR),
            "facial_artery": ("artery", 44, 1.3, _FACIAL_ARTERY),
            "superior_thyroid": ("artery", 44, 1.0, _SUPERIOR_THYROID),
            "deep_cervical_vein": ("vein", 44, 1.0, _DEEP_CERVICAL_VEIN),
        }
        for name, (tissue, order, radius, points) in tubes.items():
            path = np.array(points, float) * (side, 1, 1)
            added.append(_tube(f"{name}_{letter}", tissue, order, path, radius))
        lung = np.array(
            [(38, -14, -78), (37, -13, -66), (36, -12, -58), (35, -11, -54)]
        )
        radii = (21.0, 16.0, 9.0, 3.0)
        added.append(_tube(f"lung_{letter}", "lung", 43, lung * (side, 1, 1), radii))
        for i, (x, y, z, radius) in enumerate(_NODES):
            path = np.array([(x * side, y, z - radius), (x * side, y, z + radius)])
            added.append(
                _tube(f"node{i}_{letter}", "node", 19, path, radius, pointed=True)
            )
        for i, disc in enumerate(_ROOT_Z):
            path = np.array(
                [(13, -13, disc), (22, -9, disc - 4), (34, -5, disc - 11)], float
            )
            added.append(
                _tube(f"root{i}_{letter}", "nerve", 43, path * (side, 1, 1), 1.9)
            )
    return added


_CLAVICLE = [
    (13, 16, -72),
    (32, 21, -66),
    (62, 10, -62),
    (90, -12, -60),
    (118, -32, -58),
]
_EXTERNAL_JUGULAR = [
    (54, -18, 40),
    (55, -10, 20),
    (52, -6, 0),
    (49, -6, -20),
    (46, -4, -44),
]
_ANTERIOR_JUGULAR = [(9, 58, 24), (9, 46, 4), (9, 40, -16), (9, 34, -40)]
_FACIAL_ARTERY = [(38, 8, 22), (42, 24, 32), (47, 36, 44)]
_SUPERIOR_THYROID = [(24, 14, 14), (18, 22, 2), (16, 22, -12)]
_DEEP_CERVICAL_VEIN = [(19, -38, 40), (20, -40, 20), (21, -42, 0), (22, -46, -30)]
_ROOT_Z = (40.0, 24.0, 8.0, -8.0, -24.0, -41.0)
_NODES = (  # lateral x, y, z, radius: levels II-V of the neck
    (44, 2, 30, 3.4),
    (46, -6, 24, 2.6),
    (41, 8, 20, 2.2),
    (43, -10, 8, 2.4),
    (44, -16, 2, 2.0),
    (40, -4, -6, 1.8),
    (48, -22, -10, 2.2),
    (46, -14, -22, 2.6),
    (52, -26, -26, 2.0),
    (38, 20, 36, 2.6),
    (30, 36, 34, 2.4),
    (12, 48, 26, 2.2),
)


def _tube(
    name: str,
    tissue: str,
    order: float,
    path_mm: np.ndarray,
    radius_mm: float | tuple[float, ...],
    *,
    pointed: bool = False,
) -> Structure:
    """A tube along a path that is monotone in z, cut by axial planes."""
    path = path_mm[np.argsort(path_mm[:, 2])]
    radius = np.broadcast_to(radius_mm, len(path))[np.argsort(path_mm[:, 2])]
    extent = path[-1, 2] - path[0, 2]
    z = np.linspace(path[0, 2], path[-1, 2], max(5, int(extent / 3) + 1))
    x, y, r = (np.interp(z, path[:, 2], v) for v in (*path[:, :2].T, radius))
    if pointed:
        r = r * np.sqrt(np.clip(1 - np.linspace(-1, 1, len(z)) ** 2, 0.04, 1))
    slope = np.gradient(np.stack([x, y], 1), z, axis=0)  # an oblique tube cuts wider
    steepness = np.minimum(np.hypot(*slope.T), 4.0)
    along = slope / np.maximum(np.hypot(*slope.T), 1e-9)[:, None]
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    a = np.cos(angle) * (r * np.hypot(1, steepness))[:, None]
    b = np.sin(angle) * r[:, None]
    across = np.stack([-along[:, 1], along[:, 0]], 1)
    centre = np.stack([x, y], 1)[:, None]
    flat = np.hypot(*along.T) < 0.5  # an upright tube: any direction will do
    along[flat], across[flat] = (1, 0), (0, 1)
    xy = centre + a[..., None] * along[:, None] + b[..., None] * across[:, None]
    return Structure(name, tissue, 0, order, z, xy, tissue in _SMALL)


_SMALL = ("vein", "artery", "node", "nerve")


def _platysma(outlines: dict[str, Structure], side: int, name: str) -> Structure:
    """A sheet 1.3 mm thick in the subcutaneous fat, in front of the SCM's border."""
    inner = outlines["subcutaneous_fat_inner_border"]
    outer = outlines["subcutaneous_fat_outer"]
    keep = inner.z_mm <= 40
    sheets = []
    for low, high in zip(inner.contours_mm[keep], outer.contours_mm[keep], strict=True):
        angle = np.degrees(np.arctan2(low[:, 0] * side, low[:, 1] - 4))  # 0 = anterior
        chosen = np.flatnonzero((angle > 14) & (angle < 105))
        chosen = chosen[np.argsort(angle[chosen])]
        at = np.linspace(angle[chosen[0]], angle[chosen[-1]], 16)
        normal = high[chosen] - low[chosen]
        unit = normal / np.maximum(np.hypot(*normal.T), 1e-9)[:, None]
        depth = np.minimum(0.35 * np.hypot(*normal.T), 2.0)[:, None]
        edges = [low[chosen] + unit * (depth + d) for d in (0.0, 1.3)]
        rows = [
            np.stack([np.interp(at, angle[chosen], e[:, i]) for i in (0, 1)], 1)
            for e in edges
        ]
        sheets.append(np.concatenate([rows[0], rows[1][::-1]]))
    return Structure(name, "muscle", 0, 3, inner.z_mm[keep], np.stack(sheets))
