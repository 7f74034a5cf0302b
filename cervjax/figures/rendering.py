"""Figure 2 of the paper: the muscles in three dimensions, a still picture.

A parallel projection, so that the page's scale holds at any depth. Triangles that
face away are left out, the others drawn from far to near, shaded smoothly.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.collections import TriMesh
from matplotlib.figure import Figure
from matplotlib.tri import Triangulation

from cervjax.figures.meshes import Mesh
from cervjax.figures.page import (
    HEAD_MM,
    PAGE_MM,
    PaperBox,
    add_panel,
    add_title,
    draw_foot,
    foot_mm,
    new_page,
)
from cervjax.figures.style import (
    BAR_MM,
    Palette,
    letters,
    muscle_color,
    scale_bar,
)
from cervjax.figures.views import VIEWS, View

_RIM_MM, _GAP_MM = 4.5, 3.0
_LIGHT = np.array([-0.28, 0.5, 0.82])  # right, up, towards the viewer
_AMBIENT, _SHINE, _SHININESS = 0.42, 0.18, 24
_HAZE = 0.22  # how much paler the farthest point is


def rendering_figure(
    meshes: Sequence[Mesh],
    *,
    views: Sequence[View] = VIEWS,
    remark: str = "",
    width_mm: float = PAGE_MM,
    palette: Palette = "sides",
) -> Figure:
    """The muscles from several sides, all on one scale, two panels in a row.

    Args:
        meshes: of `meshes.muscle_meshes`.
        views: from where.
        remark: one line for the foot of the page.
        width_mm: 180 for a page, 85 for a column.
        palette: whether sides differ in colour.

    Returns:
        A figure for `style.save_figure`, PNG.

    Raises:
        ValueError: no mesh or no view.
    """
    if not meshes or not views:
        raise ValueError(
            f"{len(meshes)} meshes and {len(views)} views make no picture; "
            "give at least one of each"
        )
    points = np.concatenate([mesh.vertices for mesh in meshes])
    middle = (points.min(0) + points.max(0)) / 2
    half = (points.max(0) - points.min(0)) / 2
    sizes = np.array([2 * np.abs(view.project(half[None])[0, :2]) for view in views])
    height_mm, scale, boxes = _layout(sizes, width_mm)
    figure, paper = new_page(width_mm, height_mm)
    for i, (view, box) in enumerate(zip(views, boxes, strict=True)):
        add_title(paper, box, "abcdefgh"[i], f"from the {view.name}")
        panel = add_panel(figure, box)
        reach = box[2] / scale / 2, box[3] / scale / 2
        panel.set(xlim=(-reach[0], reach[0]), ylim=(-reach[1], reach[1]))
        panel.add_collection(_surface(meshes, middle, view, palette), autolim=False)
        places = _places(view, sizes[i] / 2, 2.2 / scale)
        letters(panel, places, color="0.25", halo_pt=0)
        if i == 0:
            corner = reach[0] - BAR_MM - 0.5 / scale, -reach[1] + 0.5 / scale
            scale_bar(panel, corner, 1 / scale, color="0.25", halo_pt=0)
    draw_foot(paper, [mesh.muscle for mesh in meshes], palette, remark)
    return figure


def _layout(sizes: np.ndarray, width_mm: float) -> tuple[float, float, list[PaperBox]]:
    """Height of the page, paper per patient, and the panels, two in a row.

    Args:
        sizes: ``(views, 2)`` width and height of the muscles in mm.
        width_mm: of the page.
    """
    columns = min(len(sizes), 2)
    rows = -(-len(sizes) // columns)
    width = (width_mm - _GAP_MM * (columns - 1)) / columns
    scale = (width - 2 * _RIM_MM) / sizes[:, 0].max()
    heights = [
        scale * sizes[row * columns : (row + 1) * columns, 1].max() + 2 * _RIM_MM
        for row in range(rows)
    ]
    page_mm = sum(heights) + rows * HEAD_MM + foot_mm(width_mm)
    boxes, bottom = [], page_mm
    for i in range(len(sizes)):
        row, column = divmod(i, columns)
        if column == 0:
            bottom -= HEAD_MM + heights[row]
        boxes.append((column * (width + _GAP_MM), bottom, width, heights[row]))
    return page_mm, scale, boxes


def _surface(
    meshes: Sequence[Mesh], middle: np.ndarray, view: View, palette: Palette
) -> TriMesh:
    """All muscles as one set of triangles, so that they hide each other rightly."""
    places, colors, faces, offset = [], [], [], 0
    for mesh in meshes:
        at = view.project(mesh.vertices - middle)
        a, b, c = (at[mesh.faces[:, i], :2] for i in range(3))
        ab, ac = b - a, c - a
        near = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0] > 0  # seen from outside
        color = np.array(muscle_color(mesh.muscle, palette))
        places.append(at)
        colors.append(_shade(color, view.project(mesh.normals)))
        faces.append(mesh.faces[near] + offset)
        offset += len(at)
    at, color, face = map(np.concatenate, (places, colors, faces))
    depth = at[:, 2]
    far = (depth.max() - depth) / max(float(np.ptp(depth)), 1e-9)
    color = color + _HAZE * far[:, None] * (1 - color)
    face = face[np.argsort(depth[face].mean(1), kind="stable")]
    surface = TriMesh(Triangulation(at[:, 0], at[:, 1], face))
    surface.set_facecolor(np.c_[color, np.ones(len(color))].tolist())
    return surface


def _shade(color: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Colours of points in one light and a soft surrounding, with a little shine."""
    light = _LIGHT / np.linalg.norm(_LIGHT)
    lit = np.clip(normals @ light, 0, 1)[:, None]
    halfway = light + (0, 0, 1)
    halfway /= np.linalg.norm(halfway)
    shine = _SHINE * np.clip(normals @ halfway, 0, 1)[:, None] ** _SHININESS
    facing = np.clip(normals[:, 2:], 0, 1)  # darker towards the outline
    bright = (_AMBIENT + (1 - _AMBIENT) * lit) * (0.72 + 0.28 * facing)
    return np.clip(color * bright + shine, 0, 1)


def _places(view: View, half: np.ndarray, pad: float) -> dict[str, tuple[float, float]]:
    """Where the letters of the patient's sides stand around the muscles."""
    x, y = half + pad
    at = {"left": (-x, 0.0), "right": (x, 0.0), "top": (0.0, y), "bottom": (0.0, -y)}
    return {letter: at[side] for side, letter in view.letters.items()}
