"""What neck images show and the traced outlines lack: small parts, added by eye.

Platysma, nerve roots, clavicles, lung apices, small nodes and veins of the anterior
neck, in the frame of the standard anatomy. Sizes are textbook ones.
"""

from collections.abc import Mapping

import numpy as np

from cervjax.phantom.structure import Structure

_RIGHT, _LEFT = 1, -1


def added(outlines: Mapping[str, Structure]) -> list[Structure]:
    """The small parts.

    Args:
        outlines: the borders of the subcutaneous fat, by name.
    """
    parts = []
    for side in (_RIGHT, _LEFT):
        letter = "R" if side == _RIGHT else "L"
        parts.append(_platysma(outlines, side, f"platysma_{letter}"))
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
            parts.append(_tube(f"{name}_{letter}", tissue, order, path, radius))
        lung = np.array(
            [(38, -14, -78), (37, -13, -66), (36, -12, -58), (35, -11, -54)]
        )
        radii = (21.0, 16.0, 9.0, 3.0)
        parts.append(_tube(f"lung_{letter}", "lung", 43, lung * (side, 1, 1), radii))
        for i, (x, y, z, radius) in enumerate(_NODES):
            path = np.array([(x * side, y, z - radius), (x * side, y, z + radius)])
            parts.append(
                _tube(f"node{i}_{letter}", "node", 19, path, radius, pointed=True)
            )
        for i, disc in enumerate(_ROOT_Z):
            path = np.array(
                [(13, -13, disc), (22, -9, disc - 4), (34, -5, disc - 11)], float
            )
            parts.append(
                _tube(f"root{i}_{letter}", "nerve", 43, path * (side, 1, 1), 1.9)
            )
    return parts


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


def _platysma(outlines: Mapping[str, Structure], side: int, name: str) -> Structure:
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
