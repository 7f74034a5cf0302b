"""Distances between the surfaces of two masks, every square millimetre counting once.

Neck scans have slices four times as thick as their pixels are wide. Counting surface
*voxels* gives the flat ends of a muscle far more weight than its sides, so the surface
is cut into elements and each counts by its area: the method of google-deepmind's
surface-distance (Nikolov et al., JMIR 2021;23:e26151). An element lies between 2x2x2
voxels; which of the eight are inside, one of 256 codes, gives its shape, a
marching-cubes polygon, and that its area.
"""

from collections import defaultdict
from functools import lru_cache
from itertools import product

import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8
from scipy import ndimage

from cervjax.anatomy import NUM_CLASSES

SURFACE_MEASURES = ("surface_distance_mm", "hausdorff95_mm")

_CORNERS = tuple(product((0, 1), repeat=3))
"""Of the cube whose corners are 2x2x2 voxel centres; corner k is bit k of a code."""


def surface_distances(
    predicted: Integer[np.ndarray, "x y z"],
    reference: Integer[np.ndarray, "x y z"],
    spacing_mm: tuple[float, float, float],
) -> dict[str, Float[np.ndarray, " 14"]]:
    """Distances between the surfaces of each label, in both directions.

    A distance runs from the middle of an element's eight voxels to the nearest of the
    other surface. An oblique surface is a layer of elements up to two voxels thick,
    which makes distances up to about half a voxel too short.

    Args:
        predicted: labels 0-14.
        reference: the same.
        spacing_mm: voxel size.

    Returns:
        ``surface_distance_mm``, the mean over the area of both surfaces together, and
        ``hausdorff95_mm``, the larger of the two directions' 95th percentiles (the
        distance that 95 % of the area does not exceed); float64, NaN where a map lacks
        the label.
    """
    mean, far = np.full((2, NUM_CLASSES - 1), np.nan)
    areas = element_areas_mm2(spacing_mm)
    boxes = ndimage.find_objects(np.maximum(predicted, 0), NUM_CLASSES - 1)
    others = ndimage.find_objects(np.maximum(reference, 0), NUM_CLASSES - 1)
    for k, (one, two) in enumerate(zip(boxes, others, strict=True)):
        if one is None or two is None:
            continue
        box = tuple(
            slice(min(a.start, b.start), max(a.stop, b.stop))
            for a, b in zip(one, two, strict=True)
        )
        codes = [neighbour_codes(m[box] == k + 1) for m in (predicted, reference)]
        surfaces = [(code > 0) & (code < 255) for code in codes]
        near = [ndimage.distance_transform_edt(~s, spacing_mm) for s in surfaces]
        there, back = near[1][surfaces[0]], near[0][surfaces[1]]
        weights = [areas[c[s]] for c, s in zip(codes, surfaces, strict=True)]
        total = there @ weights[0] + back @ weights[1]
        mean[k] = total / (weights[0].sum() + weights[1].sum())
        far[k] = max(_percentile95(there, weights[0]), _percentile95(back, weights[1]))
    return {"surface_distance_mm": mean, "hausdorff95_mm": far}


def neighbour_codes(
    mask: Bool[np.ndarray, "x y z"],
) -> UInt8[np.ndarray, "x+1 y+1 z+1"]:
    """Which of the 2x2x2 voxels around each corner of the voxels are inside.

    Outside the array everything is outside. 0 and 255 are no surface.
    """
    padded = np.pad(mask, 1)
    codes = np.zeros([n + 1 for n in mask.shape], np.uint8)
    for bit, corner in enumerate(_CORNERS):
        window = tuple(
            slice(i, i + n) for i, n in zip(corner, codes.shape, strict=True)
        )
        codes |= padded[window].astype(np.uint8) << bit
    return codes


@lru_cache(maxsize=16)
def element_areas_mm2(
    spacing_mm: tuple[float, float, float],
) -> Float[np.ndarray, " 256"]:
    """Area of the surface element of each code, in square millimetres."""
    areas = np.zeros(256)
    for code in range(256):
        for polygon in _polygons(code):
            points = polygon * np.asarray(spacing_mm)
            spokes = points - points.mean(0)
            fan = np.cross(spokes, np.roll(spokes, -1, axis=0))
            areas[code] += np.linalg.norm(fan, axis=1).sum() / 2
    areas.flags.writeable = False  # cached
    return areas


def _polygons(code: int) -> list[np.ndarray]:
    """Closed polygons (n, 3) that part the corners inside from those outside.

    Their points are the middles of the cube's edges with one end inside. A face has
    two such edges, which are joined, or, where its inside corners face each other
    across the diagonal, four: the two at each inside corner are joined.
    """
    joined: defaultdict[tuple[float, ...], list[tuple[float, ...]]] = defaultdict(list)
    for axis, side in product(range(3), (0, 1)):
        face = [c for c in _CORNERS if c[axis] == side]
        cut = [
            (a, b)
            for i, a in enumerate(face)
            for b in face[i + 1 :]
            if np.abs(np.subtract(a, b)).sum() == 1
            and _inside(code, a) != _inside(code, b)
        ]
        if len(cut) == 4:
            pairs = [[e for e in cut if c in e] for c in face if _inside(code, c)]
        else:
            pairs = [cut] if cut else []
        for one, two in pairs:
            p, q = (tuple(float(v) for v in np.add(*edge) / 2) for edge in (one, two))
            joined[p].append(q)
            joined[q].append(p)
    polygons = []
    while joined:
        point = next(iter(joined))
        loop = []
        while point in joined:
            loop.append(point)
            neighbours = joined.pop(point)
            point = next((q for q in neighbours if q in joined), point)
        polygons.append(np.array(loop))
    return polygons


def _inside(code: int, corner: tuple[int, ...]) -> bool:
    return bool(code >> _CORNERS.index(corner) & 1)


def _percentile95(
    distances: Float[np.ndarray, " n"], areas: Float[np.ndarray, " n"]
) -> float:
    order = np.argsort(distances)
    share = np.cumsum(areas[order]) / areas.sum()
    return float(distances[order][min(np.searchsorted(share, 0.95), len(order) - 1)])
