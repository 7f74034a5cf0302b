"""Pictures to check a segmentation by eye.

Arrays are ``(x, y, z)`` in RAS; pictures are radiological: the patient's right is on
the left, anterior is up. Figures are objects, without pyplot or global state.
"""

import math
import textwrap
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from scipy.ndimage import maximum_filter, minimum_filter

from cervjax.about import NOTICE
from cervjax.anatomy import MUSCLES
from cervjax.figures.checks import check_labels, check_spacing
from cervjax.figures.style import (
    Box,
    axial_places,
    letters,
    new_figure,
    save_figure,
    show_axial,
)

_WIDTH_IN = 12.0
_RESOLUTIONS_DPI = (150, 110, 80)  # 1800 pixels wide, less if the file grows too large
_MAX_BYTES = 1_500_000
_LINE_PIXELS = 2
_STRIPE_PIXELS, _STRIPES = 9, np.array((255, 60, 60, 255))
_COLORS = np.array([(0, 0, 0, 0)] + [(*m.color_rgb, 255) for m in MUSCLES], np.uint8)


def qc_figure(
    image: np.ndarray,
    labels: np.ndarray,
    *,
    spacing_mm: tuple[float, float, float],
    title: str,
    subtitle: str = "",
    num_slices: int = 8,
    like: np.ndarray | None = None,
    swapped: np.ndarray | None = None,
) -> Figure:
    """Axial slices with the muscles' outlines, from superior to inferior.

    The slices are spread evenly over those with muscles (over the whole volume if
    there are none; a line then tells so), cropped to body and muscles, in one
    grey window from the 1st to the 99.5th percentile of what is not zero. Outlines
    run just inside the voxel borders, so that neighbours keep their own colours.

    Args:
        image: water or in-phase image, ``(x, y, z)`` in RAS; NaN is drawn black.
        labels: integers 0-14, same shape.
        spacing_mm: voxel size along x, y, z.
        title: first line, such as the name of the scan.
        subtitle: what the reader should know about this scan.
        num_slices: how many slices to draw, if there are so many.
        like: labels, same shape, whose slices and box are shown instead of the drawn
            ones': for pictures to be compared.
        swapped: bool, same shape: where the scanner has probably exchanged water and
            fat, in red stripes. The slice with most of it is among those shown.

    Returns:
        A figure with its own Agg canvas, 1800 pixels wide.

    Raises:
        ValueError: shapes differ or are not 3-D, labels are not integers in 0-14,
            the spacing is not positive, or `num_slices` is not positive.
    """
    image, labels = np.asarray(image), np.asarray(labels)
    check_labels(labels, image)
    check_spacing(spacing_mm)
    if num_slices < 1:
        raise ValueError(f"num_slices must be at least 1, got {num_slices}")
    dx, dy, dz = map(float, spacing_mm)
    shown = labels if like is None else like
    if swapped is not None and not swapped.any():
        swapped = None
    slices = _choose_slices(shown, num_slices, swapped)
    grey, drawn = _grey(image[..., slices]), labels[..., slices]
    box_mm = _crop(grey > 0.15, shown[..., slices] > 0, (dx, dy))
    figure, panels = _layout(len(slices), box_mm, title, subtitle)
    for i, (ax, z) in enumerate(zip(panels, slices.tolist(), strict=True)):
        show_axial(ax, grey[..., i], (dx, dy), box_mm, "antialiased")
        ax.set_title(f"slice {z}, z {z * dz:.1f} mm", color="0.8", fontsize=8, pad=3)
        if swapped is not None:
            _stripe(ax, swapped[..., z], (dx, dy), box_mm)
        _mark_borders(ax, drawn[..., i], (dx, dy), box_mm)
        places = axial_places(box_mm, 0.03 * (box_mm[0][1] - box_mm[0][0]))
        letters(ax, {side: places[side] for side in "RL"}, size_pt=11, halo_pt=2)
        if i == 0:
            letters(ax, {side: places[side] for side in "AP"}, halo_pt=2)
    if swapped is not None:
        words = "red stripes: water and fat exchanged?"
        y = 0.22 / figure.get_figheight()
        style = {"color": _STRIPES / 255, "fontsize": 9, "ha": "center", "va": "top"}
        figure.text(0.42, y, words, **style)
    if not labels.any():
        halo = [withStroke(linewidth=3, foreground="black")]
        style = {"color": "orange", "fontsize": 24, "ha": "center", "va": "center"}
        figure.text(0.5, 0.5, "no muscle found", path_effects=halo, **style)
    return figure


def save_png(figure: Figure, path: str | Path) -> None:
    """Writes a figure as PNG, atomically, at a lower resolution if it exceeds 1.5 MB.

    Args:
        figure: what to write.
        path: the file, overwritten if it exists.
    """
    for dpi in _RESOLUTIONS_DPI:
        save_figure(figure, path, dpi=dpi)
        if Path(path).stat().st_size <= _MAX_BYTES:
            break


def _choose_slices(
    labels: np.ndarray, num_slices: int, swapped: np.ndarray | None = None
) -> np.ndarray:
    """Slice indices, superior first; a single one is the middle.

    The slice with most of what is swapped takes the place of the nearest.
    """
    found = np.flatnonzero(labels.any((0, 1)))
    first, last = (found[0], found[-1]) if found.size else (0, labels.shape[2] - 1)
    count = min(num_slices, last - first + 1)
    if count == 1:
        return np.array([(first + last) // 2])
    chosen = np.linspace(last, first, count).round().astype(int)
    if swapped is not None:
        most = int(swapped.sum((0, 1)).argmax())
        chosen[np.abs(chosen - most).argmin()] = most
    return chosen


def _grey(image: np.ndarray) -> np.ndarray:
    """The image in [0, 1] through its robust grey window."""
    image = np.nan_to_num(image.astype(np.float64), posinf=0, neginf=0)
    signal = image[image != 0]
    low, high = np.percentile(signal, (1, 99.5)) if signal.size else (0, 1)
    if low == high:  # a constant is mid-grey
        low, high = low - abs(low), high + abs(high)
    return np.clip((image - low) / (high - low), 0, 1).astype(np.float32)


def _crop(body: np.ndarray, muscles: np.ndarray, spacing_mm: tuple) -> Box:
    """Bounds in mm along x and y, with a margin for the letters."""
    bounds = []
    for axis, step in enumerate(spacing_mm):
        others = (1 - axis, 2)
        inside = (body.mean(others) > 0.05) | muscles.any(others)
        index = np.flatnonzero(inside) if inside.any() else np.arange(inside.size)
        bounds.append((index[0] * step, (index[-1] + 1) * step))
    margin = 0.06 * (bounds[0][1] - bounds[0][0])
    (x0, x1), (y0, y1) = bounds
    return (x0 - margin, x1 + margin), (y0 - margin, y1 + margin)


def _layout(
    num_panels: int, box_mm: Box, title: str, subtitle: str
) -> tuple[Figure, list[Axes]]:
    """A black figure with text, colour key and empty panels, row by row."""
    rows = math.ceil(num_panels / math.ceil(math.sqrt(2 * num_panels)))
    columns = math.ceil(num_panels / rows)
    (x0, x1), (y0, y1) = box_mm
    gap, label = 0.08, 0.22
    width = (_WIDTH_IN - gap) / columns - gap
    height = min(width * (y1 - y0) / (x1 - x0), 1.5 * width, 12 / rows)
    head, foot = textwrap.wrap(title, 95), textwrap.wrap(subtitle, 160)
    header = 0.12 + 0.26 * len(head) + 0.19 * len(foot)
    total = header + rows * (height + label) + 0.85

    dpi = _RESOLUTIONS_DPI[0]
    figure = new_figure(_WIDTH_IN, total, dpi=dpi, color="black")
    _write(figure, head, foot)
    panels = []
    for i in range(num_panels):
        row, column = divmod(i, columns)
        left = gap + column * (width + gap)
        bottom = total - header - (row + 1) * (height + label)
        box = (left / _WIDTH_IN, bottom / total, width / _WIDTH_IN, height / total)
        panels.append(figure.add_axes(box))
        panels[-1].set_axis_off()
    return figure, panels


def _write(figure: Figure, head: list[str], foot: list[str]) -> None:
    """Title and subtitle above, colour key, disclaimer and convention below."""
    total = figure.get_figheight()
    for y_in, lines, size, weight in (
        (total - 0.1, head, 13, "bold"),
        (total - 0.1 - 0.26 * len(head), foot, 9, "normal"),
        (0.22, [NOTICE], 9, "normal"),
    ):
        figure.text(
            0.01,
            y_in / total,
            "\n".join(lines),
            color="white",
            fontsize=size,
            fontweight=weight,
            va="top",
            parse_math=False,  # file names may hold dollar signs
        )
    view = "Radiological view: patient's right on the left. z from the lowest slice."
    y = 0.22 / total
    figure.text(0.99, y, view, color="0.8", fontsize=9, ha="right", va="top")
    figure.legend(
        [Line2D([], [], color=_COLORS[m.label] / 255, linewidth=3) for m in MUSCLES],
        [f"{m.abbreviation} {m.side}" for m in MUSCLES],
        ncols=len(MUSCLES) // 2,
        loc="lower center",
        bbox_to_anchor=(0.5, 0.24 / total),
        fontsize=9,
        labelcolor="white",
        frameon=False,
    )


def _mark_borders(ax: Axes, labels: np.ndarray, spacing_mm: tuple, box: Box) -> None:
    """Borders of every label of a slice ``(x, y)``, on the picture's pixels.

    To check a mask its very voxels must be seen, so they are not smoothed as in
    `outlines`, and scikit-image is not needed.
    """
    voxel_of_pixel, pixel_of_voxel = _pixels(ax, labels.shape, spacing_mm, box)
    picture = np.pad(labels, 1)[np.ix_(*voxel_of_pixel)]
    x, y = np.nonzero(labels)  # so that no voxel is lost where pixels are larger
    picture[pixel_of_voxel[0][x], pixel_of_voxel[1][y]] = labels[x, y]
    window = 2 * _LINE_PIXELS + 1
    border = minimum_filter(picture, window) != maximum_filter(picture, window)
    _overlay(ax, _COLORS[np.where(border, picture, 0)], box)


def _stripe(ax: Axes, region: np.ndarray, spacing_mm: tuple, box: Box) -> None:
    """Diagonal stripes over a region of a slice ``(x, y)``; it is seen in between."""
    voxel_of_pixel, _ = _pixels(ax, region.shape, spacing_mm, box)
    inside = np.pad(region, 1)[np.ix_(*voxel_of_pixel)]
    x, y = np.indices(inside.shape)
    picture = np.zeros((*inside.shape, 4), np.uint8)
    picture[inside & ((x + y) % _STRIPE_PIXELS < _STRIPE_PIXELS // 3)] = _STRIPES
    _overlay(ax, picture, box)


def _overlay(ax: Axes, colors: np.ndarray, box: Box) -> None:
    extent = (*box[0], *box[1])
    picture = colors.swapaxes(0, 1)
    ax.imshow(picture, origin="lower", extent=extent, interpolation="nearest")


def _pixels(
    ax: Axes, shape: tuple[int, ...], spacing_mm: tuple, box: Box
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Along x and y: the voxel of each pixel (from 1), and the pixel of each voxel."""
    ax.apply_aspect()
    box_pixels = np.round(ax.get_window_extent().size).astype(int)
    voxel_of_pixel, pixel_of_voxel = [], []
    for (low, high), step, voxels, pixels in zip(
        box, spacing_mm, shape, box_pixels, strict=True
    ):
        pixel_mm = (high - low) / pixels
        voxel = np.floor((low + (np.arange(pixels) + 0.5) * pixel_mm) / step) + 1
        voxel_of_pixel.append(voxel.clip(0, voxels + 1).astype(int))
        pixel = ((np.arange(voxels) + 0.5) * step - low) / pixel_mm
        pixel_of_voxel.append(pixel.clip(0, pixels - 1).astype(int))
    return voxel_of_pixel, pixel_of_voxel
