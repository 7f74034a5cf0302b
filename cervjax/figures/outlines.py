"""Figure 1 of the paper: the muscles' outlines on the water image at C3 to C6.

Arrays are ``(x, y, z)`` in RAS; panels are radiological: the patient's right is on
the left, anterior is up.
"""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Outline

from cervjax.anatomy import MUSCLES
from cervjax.figures.checks import (
    check_labels,
    check_some_muscle,
    check_spacing,
)
from cervjax.figures.levels import LevelSlice
from cervjax.figures.meshes import outlines_mm
from cervjax.figures.page import (
    HEAD_MM,
    PAGE_MM,
    WIDE_MM,
    PaperBox,
    add_panel,
    add_title,
    draw_foot,
    foot_mm,
    new_page,
)
from cervjax.figures.style import (
    SMALL_PT,
    Box,
    Palette,
    axial_places,
    letters,
    muscle_color,
    scale_bar,
    show_axial,
    write_text,
)

_MARGIN_MM = 12.0  # of tissue around the muscles
_LINE_PT = 0.9
_GAP_MM = 1.5


def levels_figure(
    water: np.ndarray,
    labels: np.ndarray,
    slices: Sequence[LevelSlice],
    *,
    spacing_mm: tuple[float, float, float],
    source: str = "",
    width_mm: float = PAGE_MM,
    palette: Palette = "sides",
) -> Figure:
    """Axial slices with the muscles' outlines, one panel per level.

    All panels show one part of the body, on one scale and in one grey window (from
    the 1st to the 99.5th percentile of what is shown). A level without a slice has
    its reason in its panel. Lines are drawn inside the outlines, so that neighbours
    keep their own colours. Four panels in a row on a page, two in a column.

    Args:
        water: water image, ``(x, y, z)`` in RAS.
        labels: integers 0-14, same shape.
        slices: levels from above, as `levels` gives them.
        spacing_mm: voxel size along x, y, z.
        source: how the levels were found, for the foot of the page.
        width_mm: 180 for a page, 85 for a column.
        palette: whether sides differ in colour.

    Returns:
        A figure for `style.save_figure`.

    Raises:
        ValueError: shapes differ or are not 3-D; labels are not 0-14, or all
            background; a size is not positive; no level has a slice in the volume.
    """
    water, labels = np.asarray(water), np.asarray(labels)
    check_labels(labels, water)
    check_spacing(spacing_mm)
    shown = _check_slices(slices, labels)
    step = float(spacing_mm[0]), float(spacing_mm[1])
    box = _box(labels[..., shown], step)
    low, high = _window(water[..., shown], box, step)

    height_mm, places = _layout(len(slices), box, width_mm)
    figure, paper = new_page(width_mm, height_mm)
    for letter, found, place in zip("abcdefgh", slices, places, strict=False):
        if found.index is None:
            add_title(paper, place, letter, found.level)
            _explain(paper, place, found.reason)
            continue
        add_title(paper, place, letter, found.level, f"slice {found.index}")
        panel = add_panel(figure, place)
        grey = (water[..., found.index] - low) / (high - low)
        _draw_slice(panel, grey, labels[..., found.index], step, box, palette)
        scale = (box[0][1] - box[0][0]) / place[2]  # patient per paper
        letters(panel, axial_places(box, 2.2 * scale))
        if found.index == shown[0]:
            scale_bar(panel, (box[0][0] + 1.5 * scale, box[1][0] + 1.5 * scale), scale)
    present = set(np.unique(labels[..., shown]).tolist())
    draw_foot(paper, [m for m in MUSCLES if m.label in present], palette, source)
    return figure


def _layout(count: int, box: Box, width_mm: float) -> tuple[float, list[PaperBox]]:
    """Height of the page, and left, bottom, width, height of each panel, in mm."""
    columns = min(count, 4 if width_mm > WIDE_MM else 2)
    rows = -(-count // columns)
    width = (width_mm - _GAP_MM * (columns - 1)) / columns
    height = width * (box[1][1] - box[1][0]) / (box[0][1] - box[0][0])
    page_mm = rows * (height + HEAD_MM) + foot_mm(width_mm)
    places = []
    for i in range(count):
        row, column = divmod(i, columns)
        bottom = page_mm - (row + 1) * (height + HEAD_MM)
        places.append((column * (width + _GAP_MM), bottom, width, height))
    return page_mm, places


def _check_slices(slices: Sequence[LevelSlice], labels: np.ndarray) -> list[int]:
    """Indices of the slices that are drawn, if there are some with a muscle."""
    count = labels.shape[2]
    if not slices or all(s.index is None for s in slices):
        reasons = "; ".join(dict.fromkeys(s.reason for s in slices)) or "none given"
        raise ValueError(
            f"no level is known, so there is nothing to draw: {reasons}. Give a map "
            "of the levels, or a mask that ends at the levels of Table 1"
        )
    for s in slices:
        if s.index is not None and not 0 <= s.index < count:
            raise ValueError(
                f"slice {s.index} of {s.level} is outside the volume, which has slices "
                f"0-{count - 1}"
            )
    shown = [s.index for s in slices if s.index is not None]
    check_some_muscle(labels[..., shown], " in the slices of the levels")
    return shown


def _box(labels: np.ndarray, spacing_mm: tuple[float, float]) -> Box:
    """Bounds in mm along x and y of the muscles and their margin, in the image."""
    bounds = []
    for axis, step in enumerate(spacing_mm):
        index = np.flatnonzero(labels.any((1 - axis, 2)))
        low, high = index[0] * step - _MARGIN_MM, (index[-1] + 1) * step + _MARGIN_MM
        bounds.append((max(low, 0.0), min(high, labels.shape[axis] * step)))
    return bounds[0], bounds[1]


def _window(
    water: np.ndarray, box: Box, spacing_mm: tuple[float, float]
) -> tuple[float, float]:
    """Grey values that become black and white."""
    parts = tuple(
        slice(int(low / step), int(np.ceil(high / step)))
        for (low, high), step in zip(box, spacing_mm, strict=True)
    )
    values = water[parts].astype(np.float64)
    values = values[np.isfinite(values) & (values != 0)]
    low, high = np.percentile(values, (1, 99.5)) if values.size else (0.0, 1.0)
    return (float(low), float(high)) if high > low else (float(low) - 1, float(low) + 1)


def _draw_slice(
    panel: Axes,
    grey: np.ndarray,
    labels: np.ndarray,
    spacing_mm: tuple[float, float],
    box: Box,
    palette: Palette,
) -> None:
    """A slice (x, y), 0 black and 1 white, under its muscles' outlines."""
    show_axial(panel, grey, spacing_mm, box, "bicubic")
    panel.set_aspect("auto")
    _draw_outlines(panel, labels, spacing_mm, palette)


def _draw_outlines(
    panel: Axes, labels: np.ndarray, spacing_mm: tuple[float, float], palette: Palette
) -> None:
    """Smooth lines for print; `quality` marks voxels as they are instead."""
    for m in MUSCLES:
        lines = outlines_mm(labels == m.label, spacing_mm)
        if lines:
            path = Outline.make_compound_path(*(Outline(v, closed=True) for v in lines))
            line = PathPatch(
                path,
                facecolor="none",
                edgecolor=muscle_color(m, palette),
                linewidth=2 * _LINE_PT,  # its outer half is cut off
                joinstyle="round",
                gid=m.key,
            )
            panel.add_patch(line)
            line.set_clip_path(path, panel.transData)


def _explain(paper: Axes, place: PaperBox, reason: str) -> None:
    left, bottom, width, height = place
    paper.add_patch(Rectangle((left, bottom), width, height, color="0.93"))
    text = textwrap.fill(f"This level is not known: {reason}.", int(width / 1.25))
    style = {"fontsize": SMALL_PT, "color": "0.2", "ha": "center", "va": "center"}
    write_text(paper, left + width / 2, bottom + height / 2, text, **style)
