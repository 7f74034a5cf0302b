"""Borders of masks in millimetres: outlines in a slice, smooth surfaces in space.

Surfaces keep the mask's volume. Both need scikit-image, which comes with
``pip install "cervjax[figures]"``.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects, gaussian_filter, map_coordinates
from scipy.optimize import brentq

from cervjax.anatomy import MUSCLES, NUM_CLASSES, Muscle
from cervjax.figures.checks import check_installed, check_labels, check_some_muscle

_SLICES_OF_BLUR = 0.6  # sigma along an axis, in voxels, if that is more than smooth_mm
_LEVEL_ACCURACY = 1e-3


@dataclass(frozen=True, eq=False)
class Mesh:
    """The surface of one muscle.

    Attributes:
        muscle: which.
        vertices: ``(n, 3)`` scanner millimetres, RAS (x to the patient's right).
        faces: ``(m, 3)`` vertex numbers, counter-clockwise as seen from outside.
        normals: ``(n, 3)`` unit vectors that point out of the muscle.
        mask_volume_ml: volume of the voxels it was made of.
    """

    muscle: Muscle
    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    mask_volume_ml: float

    @property
    def volume_ml(self) -> float:
        """Volume inside the surface, by the divergence theorem."""
        return _volume_mm3(self.vertices, self.faces) / 1000


def muscle_meshes(
    labels: np.ndarray,
    affine: np.ndarray,
    *,
    resolution_mm: float = 1.0,
    smooth_mm: float = 1.2,
) -> list[Mesh]:
    """Surfaces of all muscles in a mask.

    Each mask is sampled on a grid of equal steps (linear), blurred by a Gaussian and
    cut at the level where the surface holds the mask's volume: blurring alone would
    shrink thin muscles. Along an axis of thick slices the Gaussian is wider, 0.6 of a
    slice, so that no steps are left. A muscle that reaches the end of the volume is
    closed there. Neighbours may overlap by a fraction of the blur.

    Args:
        labels: integers 0-14, ``(x, y, z)``.
        affine: ``(4, 4)``, voxel index to scanner millimetres (may be oblique).
        resolution_mm: size of a step, and of the triangles.
        smooth_mm: sigma of the Gaussian.

    Returns:
        One mesh per muscle that occurs, in order of labels.

    Raises:
        ValueError: labels are not 3-D, not integers in 0-14 or all background; the
            affine is singular; a size is not positive; scikit-image is not installed.
    """
    check_installed("skimage")
    labels, affine = np.asarray(labels), np.asarray(affine, np.float64)
    check_labels(labels)
    check_some_muscle(labels)
    _check_geometry(affine, resolution_mm, smooth_mm)
    boxes = find_objects(labels.astype(np.int32), NUM_CLASSES - 1)
    return [
        _mesh(labels, muscle, box, affine, resolution_mm, smooth_mm)
        for muscle, box in zip(MUSCLES, boxes, strict=True)
        if box is not None
    ]


def outlines_mm(mask: np.ndarray, spacing_mm: tuple[float, float]) -> list[np.ndarray]:
    """Closed outlines of a mask, along its voxel borders.

    They run through the middle of every face between a voxel inside and one outside
    and cut the corners there, so that an outline holds its voxels less half a voxel;
    around a hole it runs the other way round and holds half a voxel more. Voxels that
    touch at a corner alone are apart.

    Args:
        mask: boolean ``(x, y)``.
        spacing_mm: voxel size along x and y.

    Returns:
        Per outline ``(n, 2)`` x and y in millimetres from the outer corner of voxel
        ``(0, 0)``, first point repeated at the end.

    Raises:
        ValueError: scikit-image is not installed.
    """
    check_installed("skimage")
    from skimage.measure import find_contours

    padded = np.pad(np.asarray(mask, np.float32), 1)
    lines = find_contours(padded, 0.5, fully_connected="low")
    return [(line - 0.5) * np.asarray(spacing_mm) for line in lines]


def _check_geometry(affine: np.ndarray, resolution_mm: float, smooth_mm: float) -> None:
    if affine.shape != (4, 4) or not abs(np.linalg.det(affine[:3, :3])) > 1e-9:
        raise ValueError(f"affine must be (4, 4) and invertible, got {affine.tolist()}")
    if not (resolution_mm > 0 and smooth_mm > 0):
        raise ValueError(
            "resolution_mm and smooth_mm must be positive, got "
            f"{resolution_mm} and {smooth_mm}"
        )


def _mesh(
    labels: np.ndarray,
    muscle: Muscle,
    box: tuple[slice, ...],
    affine: np.ndarray,
    resolution_mm: float,
    smooth_mm: float,
) -> Mesh:
    mask = labels[box] == muscle.label
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    volume_mm3 = float(mask.sum() * abs(np.linalg.det(affine[:3, :3])))
    sigma_mm = np.maximum(smooth_mm, _SLICES_OF_BLUR * spacing)
    margin_mm = spacing + 4 * sigma_mm + 2 * resolution_mm
    # Sample i of an axis lies at voxel first + i * step of the whole volume's index.
    step = resolution_mm / spacing
    first = -margin_mm / spacing
    size = np.array(mask.shape)
    count = np.ceil((size - 1 - 2 * first) / step).astype(int) + 1
    axes = [f + s * np.arange(n) for f, s, n in zip(first, step, count, strict=True)]
    grid = np.meshgrid(*axes, indexing="ij", sparse=True)
    padded = np.pad(mask.astype(np.float32), 1)  # closed where the volume ends
    places = np.stack(np.broadcast_arrays(*grid)) + 1
    field = map_coordinates(padded, places, np.float32, order=1, mode="nearest")
    field = gaussian_filter(
        field, sigma_mm / resolution_mm, mode="constant", truncate=4
    )

    to_mm = affine[:3, :3] * step
    start = affine[:3, :3] @ (first + [s.start for s in box]) + affine[:3, 3]
    vertices, faces = _surface_of_volume(field, to_mm, volume_mm3)
    if np.linalg.det(to_mm) < 0:  # a mirrored grid turns triangles inside out
        faces = faces[:, ::-1]
    normals = _normals(vertices, faces)
    return Mesh(muscle, vertices + start, faces, normals, volume_mm3 / 1000)


def _surface_of_volume(
    field: np.ndarray, to_mm: np.ndarray, volume_mm3: float
) -> tuple[np.ndarray, np.ndarray]:
    """Vertices in mm and faces of the level set that holds the volume."""
    from skimage.measure import marching_cubes

    def surface(level: float) -> tuple[np.ndarray, np.ndarray]:
        vertices, faces, *_ = marching_cubes(field, level, gradient_direction="ascent")
        return vertices.astype(np.float64) @ to_mm.T, faces.astype(np.int32)

    def excess(level: float) -> float:
        return abs(_volume_mm3(*surface(level))) - volume_mm3

    top = float(field.max())
    level = brentq(excess, 0.001 * top, 0.999 * top, xtol=_LEVEL_ACCURACY * top)
    return surface(float(level))  # type: ignore[arg-type]


def _volume_mm3(vertices: np.ndarray, faces: np.ndarray) -> float:
    """Signed: positive where faces are counter-clockwise from outside."""
    a, b, c = (vertices[faces[:, i]] - vertices.mean(0) for i in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def _normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals of the vertices: means of their triangles', by area."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    of_faces = np.cross(b - a, c - a)
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], of_faces)
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    return normals / np.maximum(lengths, 1e-12)
