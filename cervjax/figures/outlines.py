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
    PAGE_MM,
    WIDE_MM,
    add_panel,
    draw_foot,
    foot_mm,
    new_page,
)
from cervjax.figures.style import (
    SMALL_PT,
    Palette,
    axial_places,
    letters,
    muscle_color,
    scale_bar,
    write_text,
)

_MARGIN_MM = 12.0  # of tissue around the muscles
_LINE_PT = 0.9
_GAP_MM, _HEAD_MM = 1.5, 5.0

Box = tuple[tuple[float, float], tuple[float, float]]


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
        source: how the levels were told, for the foot of the page.
        width_mm: 180 for a page, 85 for a column.
        palette: whether sides differ in colour.

    Returns:
        A figure for `style.save_figure`.

    Raises:
        ValueError: shapes differ or are not 3-D; labels are not integers in 0-14, or
            all background; a voxel size is not positive; a slice is outside the
            volume; no level has a slice.
    """
    water, labels = np.asarray(water), np.asarray(labels)
    check_labels(labels, water)
    check_spacing(spacing_mm)
    _check_slices(slices, labels.shape[2])
    dx, dy, _ = map(float, spacing_mm)
    shown = [s.index for s in slices if s.index is not None]
    check_some_muscle(labels[..., shown], " in the slices of the levels")
    box = _box(labels[..., shown], (dx, dy))
    low, high = _window(water[..., shown], box, (dx, dy))

    columns = min(len(slices), 4 if width_mm > WIDE_MM else 2)
    rows = -(-len(slices) // columns)
    panel_w = (width_mm - _GAP_MM * (columns - 1)) / columns
    scale = (box[0][1] - box[0][0]) / panel_w  # patient per paper
    panel_h = panel_w * (box[1][1] - box[1][0]) / (box[0][1] - box[0][0])
    height_mm = rows * (panel_h + _HEAD_MM) + foot_mm(width_mm)
    figure, paper = new_page(width_mm, height_mm)
    for i, found in enumerate(slices):
        row, column = divmod(i, columns)
        left = column * (panel_w + _GAP_MM)
        top = height_mm - row * (panel_h + _HEAD_MM)
        _head(paper, left, top, panel_w, "abcdefgh"[i], found)
        bottom = top - _HEAD_MM - panel_h
        if found.index is None:
            _explain(paper, (left, bottom, panel_w, panel_h), found.reason)
            continue
        panel = add_panel(figure, (left, bottom, panel_w, panel_h))
        panel.imshow(
            np.clip((water[..., found.index].T - low) / (high - low), 0, 1),
            cmap="gray",
            vmin=0,
            vmax=1,
            origin="lower",
            extent=(0, water.shape[0] * dx, 0, water.shape[1] * dy),
            interpolation="bicubic",
        )
        panel.set(xlim=box[0][::-1], ylim=box[1], aspect="auto")  # x: radiological
        _draw_outlines(panel, labels[..., found.index], (dx, dy), palette)
        letters(panel, axial_places(box, 2.2 * scale))
        if found.index == shown[0]:
            scale_bar(panel, (box[0][0] + 1.5 * scale, box[1][0] + 1.5 * scale), scale)
    present = [m for m in MUSCLES if (labels[..., shown] == m.label).any()]
    draw_foot(paper, present, palette, source)
    return figure


def _check_slices(slices: Sequence[LevelSlice], count: int) -> None:
    if not slices or all(s.index is None for s in slices):
        reasons = "; ".join(dict.fromkeys(s.reason for s in slices)) or "none given"
        raise ValueError(
            f"no level can be told, so there is nothing to draw: {reasons}. Give a map "
            "of the levels, or a mask that ends at the levels of Table 1"
        )
    for s in slices:
        if s.index is not None and not 0 <= s.index < count:
            raise ValueError(
                f"slice {s.index} of {s.level} is outside the volume, which has slices "
                f"0-{count - 1}"
            )


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


def _draw_outlines(
    panel: Axes, labels: np.ndarray, spacing_mm: tuple[float, float], palette: Palette
) -> None:
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


def _head(
    paper: Axes, left: float, top: float, width: float, letter: str, found: LevelSlice
) -> None:
    y = top - _HEAD_MM + 1.2
    write_text(paper, left + 0.3, y, letter, fontweight="bold")
    write_text(paper, left + 3.8, y, found.level)
    if found.index is not None:
        style = {"fontsize": SMALL_PT, "color": "0.35", "ha": "right"}
        write_text(paper, left + width - 0.3, y, f"slice {found.index}", **style)


def _explain(
    paper: Axes, box_mm: tuple[float, float, float, float], reason: str
) -> None:
    left, bottom, width, height = box_mm
    paper.add_patch(Rectangle((left, bottom), width, height, color="0.93"))
    text = textwrap.fill(f"This level cannot be told: {reason}.", int(width / 1.25))
    style = {"fontsize": SMALL_PT, "color": "0.2", "ha": "center", "va": "center"}
    write_text(paper, left + width / 2, bottom + height / 2, text, **style)
