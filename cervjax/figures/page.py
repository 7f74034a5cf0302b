"""A page as journals print it: width, panels, colour key, notice.

Everything on a page is placed in millimetres from its lower left corner.
"""

from collections.abc import Collection

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cervjax.about import NOTICE
from cervjax.anatomy import MUSCLES, Muscle
from cervjax.figures.style import (
    DPI,
    MM_PER_INCH,
    SMALL_PT,
    Palette,
    muscle_color,
    new_figure,
    write_text,
)

COLUMN_MM, PAGE_MM = 85.0, 180.0
"""Widths of one and of two columns."""

WIDE_MM = 120.0
"""Wider pages have their panels and their colour key in one row."""

HEAD_MM = 5.0
"""Space above a panel for its title."""

PaperBox = tuple[float, float, float, float]
"""Left, bottom, width and height on a page, in millimetres."""


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
    figure = new_figure(width_mm / MM_PER_INCH, height_mm / MM_PER_INCH, dpi=DPI)
    paper = figure.add_axes((0, 0, 1, 1))
    paper.set(xlim=(0, width_mm), ylim=(0, height_mm))
    paper.set_axis_off()
    return figure, paper


def add_panel(figure: Figure, box_mm: PaperBox) -> Axes:
    """Axes without frame."""
    width, height = (MM_PER_INCH * v for v in figure.get_size_inches())
    left, bottom, w, h = box_mm
    panel = figure.add_axes((left / width, bottom / height, w / width, h / height))
    panel.set_axis_off()
    return panel


def add_title(
    paper: Axes, box_mm: PaperBox, letter: str, text: str, note: str = ""
) -> None:
    """A panel's letter and name above it on the left, and a note on the right.

    Args:
        paper: of `new_page`.
        box_mm: of the panel, which has `HEAD_MM` of space above it.
        letter: such as a.
        text: name of the panel.
        note: in small type.
    """
    left, bottom, width, height = box_mm
    y = bottom + height + 1.2
    write_text(paper, left + 0.3, y, letter, fontweight="bold")
    write_text(paper, left + 3.8, y, text)
    if note:
        style = {"fontsize": SMALL_PT, "color": "0.35", "ha": "right"}
        write_text(paper, left + width - 0.3, y, note, **style)


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
        write_text(paper, x + 6.3, y + 0.9, name, va="center_baseline")
    grey = {"fontsize": SMALL_PT, "color": "0.35"}
    if palette == "sides":
        x, y = place(len(names))
        write_text(paper, x, y + 0.9, "right, left", va="center_baseline", **grey)
    write_text(paper, 0.3, 0.6, NOTICE, va="bottom", **grey)
    if width > WIDE_MM:
        write_text(paper, width - 0.3, 0.6, remark, va="bottom", ha="right", **grey)
    else:
        write_text(paper, 0.3, 3.4, remark, va="bottom", **grey)
