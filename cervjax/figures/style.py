"""What all pictures share: canvas, type, colours, side letters, scale bar, files.

Figures are objects with their own Agg canvas, without pyplot or global state.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib import font_manager, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from cervjax.about import NOTICE
from cervjax.anatomy import MUSCLES, Muscle
from cervjax.io.files import write_atomically

Palette = Literal["sides", "muscles"]
"""``sides``: the left muscle is the lighter of a pair; ``muscles``: both alike."""

Box = tuple[tuple[float, float], tuple[float, float]]
"""Bounds in mm along x (to the patient's right) and along y (forwards)."""

DPI = 300
"""Of pictures for print."""
MM_PER_INCH = 25.4
TEXT_PT = 8.0
SMALL_PT = 6.0
BAR_MM = 20.0
"""Length of a scale bar."""

_FONTS = ("Arial", "Helvetica", "Liberation Sans", "DejaVu Sans")


def new_figure(
    width_in: float,
    height_in: float,
    *,
    dpi: float = 100,
    color: str = "white",
    layout: Literal["constrained"] | None = None,
) -> Figure:
    """An empty figure with its own Agg canvas.

    Args:
        width_in: inches.
        height_in: inches.
        dpi: pixels per inch on the canvas; a file may have others.
        color: of the background.
        layout: ``constrained`` lets matplotlib place the axes.
    """
    size = width_in, height_in
    figure = Figure(size, dpi=dpi, facecolor=color, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: str | Path, *, dpi: float = DPI) -> None:
    """Writes a figure, atomically, with `NOTICE` in the file's description.

    The same figure gives the same bytes: no time, no version of matplotlib.

    Args:
        figure: what to write.
        path: ``.png``, or ``.pdf`` with outlines and type that can be edited;
            overwritten if it exists.
        dpi: pixels per inch of a PNG.

    Raises:
        ValueError: another ending.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    about = {
        "png": {"Software": None, "Description": NOTICE},
        "pdf": {"CreationDate": None, "Subject": NOTICE},
    }
    if kind not in about:
        raise ValueError(f"{path}: a figure is written as .png or .pdf")

    # Level 6, the default, takes three times as long as 3 and spares 1 %.
    packed: dict[str, Any] = {}
    if kind == "png":
        packed["pil_kwargs"] = {"compress_level": 3}

    def write(part: Path) -> None:
        figure.savefig(part, format=kind, dpi=dpi, metadata=about[kind], **packed)

    with rc_context({"pdf.fonttype": 42}):
        write_atomically(path, write)


def font() -> str:
    """Arial, which journals ask for, or the closest that is installed."""
    installed = {f.name for f in font_manager.fontManager.ttflist}
    return next((name for name in _FONTS if name in installed), "sans-serif")


def write_text(ax: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Text at a point of the axes; never read as mathematics."""
    style = {"fontsize": TEXT_PT, "fontfamily": font(), "parse_math": False} | style
    ax.text(x, y, text, **style)


def muscle_color(muscle: Muscle, palette: Palette) -> tuple[float, float, float]:
    """The muscle's colour, 0-1 per component.

    Raises:
        ValueError: the palette is unknown.
    """
    if palette not in ("sides", "muscles"):
        raise ValueError(f"palette must be 'sides' or 'muscles', got {palette!r}")
    pair = [m for m in MUSCLES if m.abbreviation == muscle.abbreviation]
    left = next(m for m in pair if m.side == "left")
    r, g, b = (left if palette == "muscles" else muscle).color_rgb
    return r / 255, g / 255, b / 255


def letters(
    ax: Axes,
    places: Mapping[str, tuple[float, float]],
    *,
    size_pt: float = TEXT_PT,
    color: str = "white",
    halo_pt: float = 1.5,
) -> None:
    """Letters of the patient's sides, such as R and L, at points of the axes.

    Args:
        ax: where.
        places: x and y of the middle of each letter, by letter.
        size_pt: of the type.
        color: of the letters.
        halo_pt: width of the black rim, 0 for none.
    """
    style = {"color": color, "ha": "center", "va": "center"}
    for letter, (x, y) in places.items():
        write_text(ax, x, y, letter, fontsize=size_pt, **style, **_halo(halo_pt))


def show_axial(
    ax: Axes,
    grey: np.ndarray,
    spacing_mm: tuple[float, float],
    box_mm: Box,
    interpolation: str,
) -> None:
    """An axial slice in patient coordinates, with the patient's right on the left.

    Args:
        ax: where.
        grey: ``(x, y)``, 0 is black and 1 is white.
        spacing_mm: voxel size along x and y.
        box_mm: what is seen of it.
        interpolation: matplotlib's name.
    """
    (nx, ny), (dx, dy) = grey.shape, spacing_mm
    ax.imshow(
        np.clip(grey, 0, 1).T,
        cmap="gray",
        vmin=0,
        vmax=1,
        origin="lower",
        extent=(0, nx * dx, 0, ny * dy),
        interpolation=interpolation,
    )
    ax.set(xlim=box_mm[0][::-1], ylim=box_mm[1])


def axial_places(box_mm: Box, pad_mm: float) -> dict[str, tuple[float, float]]:
    """Where `letters` stand in an axial slice.

    In patient coordinates, so that they turn with the image.

    Args:
        box_mm: what is seen of the slice.
        pad_mm: distance of a letter's middle from the edge.
    """
    (left, right), (posterior, anterior) = box_mm
    x, y = (left + right) / 2, (posterior + anterior) / 2
    return {
        "R": (right - pad_mm, y),
        "L": (left + pad_mm, y),
        "A": (x, anterior - pad_mm),
        "P": (x, posterior + pad_mm),
    }


def scale_bar(
    ax: Axes,
    corner_mm: tuple[float, float],
    scale: float,
    *,
    color: str = "white",
    halo_pt: float = 1.5,
) -> None:
    """`BAR_MM` of the patient, half a millimetre of paper high, with its length.

    Args:
        ax: axes in the patient's millimetres.
        corner_mm: the bar's end with the lowest x, and its lower edge.
        scale: the patient's millimetres per millimetre of paper.
        color: of bar and text.
        halo_pt: width of the black rim of the text, 0 for none.
    """
    x, y = corner_mm
    ax.add_patch(Rectangle((x, y), BAR_MM, 0.5 * scale, color=color, linewidth=0))
    style = {"fontsize": SMALL_PT, "color": color, "ha": "center", "va": "bottom"}
    text = f"{BAR_MM:g} mm"
    write_text(ax, x + BAR_MM / 2, y + scale, text, **style, **_halo(halo_pt))


def _halo(width_pt: float) -> dict[str, Any]:
    if not width_pt:
        return {}
    return {"path_effects": [withStroke(linewidth=width_pt, foreground="black")]}
