"""A page as journals print it: width, type, colours, key, notice, PNG and PDF files.

Everything on a page is placed in millimetres from its lower left corner. Figures are
objects with their own canvas, without pyplot or global state.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Literal

from matplotlib import font_manager, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cervjax.anatomy import MUSCLES, Muscle
from cervjax.io.files import write_atomically

Palette = Literal["sides", "muscles"]
"""``sides``: the left muscle is the lighter of a pair; ``muscles``: both alike."""

COLUMN_MM, PAGE_MM = 85.0, 180.0
"""Widths of one and of two columns."""

DPI = 300
TEXT_PT = 8.0
SMALL_PT = 6.0
NOTICE = "Research use only. Not for clinical use."
WIDE_MM = 120.0
"""Wider pages have their panels and their colour key in one row."""

_FONTS = ("Arial", "Helvetica", "Liberation Sans", "DejaVu Sans")
_MM_PER_INCH = 25.4


def new_page(width_mm: float, height_mm: float) -> tuple[Figure, Axes]:
    """An empty white page.

    Args:
        width_mm: its width, 40-400.
        height_mm: its height.

    Returns:
        The figure, and axes over all of it whose units are millimetres.

    Raises:
        ValueError: the width is none that a page can have.
    """
    if not 40 <= width_mm <= 400:
        raise ValueError(
            f"width_mm must be 40-400 ({COLUMN_MM:g} for a column, {PAGE_MM:g} for a "
            f"page), got {width_mm}"
        )
    size = width_mm / _MM_PER_INCH, height_mm / _MM_PER_INCH
    figure = Figure(size, dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    paper = figure.add_axes((0, 0, 1, 1))
    paper.set(xlim=(0, width_mm), ylim=(0, height_mm))
    paper.set_axis_off()
    return figure, paper


def add_panel(figure: Figure, box_mm: tuple[float, float, float, float]) -> Axes:
    """Axes without frame at left, bottom, width, height, in millimetres."""
    width, height = (_MM_PER_INCH * v for v in figure.get_size_inches())
    left, bottom, w, h = box_mm
    panel = figure.add_axes((left / width, bottom / height, w / width, h / height))
    panel.set_axis_off()
    return panel


def write(paper: Axes, x: float, y: float, text: str, **style) -> None:
    """Text at a point of a page or a panel; never read as mathematics."""
    style = {"fontsize": TEXT_PT, "fontfamily": font(), "parse_math": False} | style
    paper.text(x, y, text, **style)


def font() -> str:
    """Arial, which journals ask for, or the closest that is installed."""
    installed = {f.name for f in font_manager.fontManager.ttflist}
    return next((name for name in _FONTS if name in installed), "sans-serif")


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


def foot_mm(width_mm: float) -> float:
    """Height of the colour key and the line below it."""
    return 8.5 if width_mm > WIDE_MM else 15.5


def draw_foot(
    paper: Axes, muscles: Collection[Muscle], palette: Palette, remark: str = ""
) -> None:
    """Colours and names of muscles, the notice, and a remark, at the foot of a page.

    One row of names on a wide page, two in a column.

    Args:
        paper: of `new_page`.
        muscles: those to be seen.
        palette: as they are drawn.
        remark: one line, such as where the picture comes from.
    """
    width = paper.get_xlim()[1]
    names = list(dict.fromkeys(m.abbreviation for m in MUSCLES))
    columns = 8 if width > WIDE_MM else 4
    top = foot_mm(width) - 4.2

    def place(i: int) -> tuple[float, float]:
        row, column = divmod(i, columns)
        return 0.3 + column * width / columns, top - 4.2 * row

    for i, name in enumerate(names):
        x, y = place(i)
        for m in muscles:
            if m.abbreviation == name:
                apart = 2.8 if palette == "sides" else 2.5
                left = x if m.side == "right" else x + apart
                color = muscle_color(m, palette)
                paper.add_patch(Rectangle((left, y), 2.5, 2.1, color=color, lw=0))
        write(paper, x + 6.3, y + 0.9, name, va="center_baseline")
    grey = {"fontsize": SMALL_PT, "color": "0.35"}
    if palette == "sides":
        x, y = place(len(names))
        write(paper, x, y + 0.9, "right, left", va="center_baseline", **grey)
    write(paper, 0.3, 0.6, NOTICE, va="bottom", **grey)
    if width > WIDE_MM:
        write(paper, width - 0.3, 0.6, remark, va="bottom", ha="right", **grey)
    else:
        write(paper, 0.3, 3.4, remark, va="bottom", **grey)


def save_page(figure: Figure, path: str | Path) -> None:
    """Writes a page, atomically: PNG at 300 dpi, or PDF with outlines and type.

    The same figure gives the same bytes.

    Args:
        figure: what to write.
        path: ``.png`` or ``.pdf``; overwritten if it exists.

    Raises:
        ValueError: another ending.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    metadata = {"png": {"Software": None}, "pdf": {"CreationDate": None}}.get(kind)
    if metadata is None:
        raise ValueError(f"{path}: a page is written as .png or .pdf")
    with rc_context({"pdf.fonttype": 42}):  # type that can still be edited
        write_atomically(
            path,
            lambda part: figure.savefig(part, format=kind, dpi=DPI, metadata=metadata),
        )
