"""What the figures of a cohort share: size, type, colours of muscles, signs of sexes.

Women are filled vermilion circles, men open blue triangles (Okabe and Ito's set, safe
for the colour-blind), a muscle has its colour in `anatomy`. Sizes are for print.
"""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cervjax.about import NOTICE
from cervjax.anatomy import MUSCLES
from cervjax.cohort.page import p_text
from cervjax.figures.style import new_figure, save_figure

WIDE_MM, _MM = 180.0, 1 / 25.4
SEXES: tuple[tuple[str, float, str, dict[str, Any]], ...] = (
    (
        "women",
        1.0,
        "#D55E00",
        {"marker": "o", "facecolors": "#D55E00", "linewidths": 0},
    ),
    ("men", 0.0, "#0072B2", {"marker": "^", "facecolors": "none", "linewidths": 0.7}),
)
MUSCLE_COLOR = {
    m.abbreviation: np.array(m.color_rgb) / 255 for m in MUSCLES if m.side == "right"
}
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "pdf.fonttype": 42,
}


def wide_figure(height_mm: float) -> Figure:
    """An empty figure as wide as a page."""
    return new_figure(WIDE_MM * _MM, height_mm * _MM, layout="constrained")


def p_equals(p: float) -> str:
    """As it stands behind a "p "."""
    text = p_text(p)
    return text.replace("<", "< ") if text[0] == "<" else f"= {text}"


def scatter_by_sex(
    ax: Axes, x: np.ndarray, y: np.ndarray, female: np.ndarray, size: float = 7
) -> None:
    """Points ``x``, ``y``, (n,) each; women are 1 in ``female``, men 0."""
    for _, code, color, marker in SEXES:
        ax.scatter(
            x[female == code],
            y[female == code],
            s=size,
            alpha=0.6,
            edgecolors=color,
            **marker,
        )


def add_legend(figure: Figure, more: list[Line2D], names: list[str]) -> None:
    """The sexes, more lines with their names, and the notice, above the figure."""
    sexes = [
        Line2D(
            [],
            [],
            linestyle="",
            marker=marker["marker"],
            markersize=3.5,
            markeredgecolor=color,
            markerfacecolor=marker["facecolors"],
        )
        for _, _, color, marker in SEXES
    ]
    figure.legend(
        [*sexes, *more],
        [*(s[0] for s in SEXES), *names],
        loc="outside upper right",
        ncols=4,
        frameon=False,
    )
    figure.text(0.005, 0.995, NOTICE, fontsize=6, color="0.4", va="top")


def save(figure: Figure, stem: Path) -> list[str]:
    """Writes ``stem.png`` (300 dpi) and ``stem.pdf``, the same bytes for the same data.

    Returns:
        The names of the two files.
    """
    names = []
    for kind in ("png", "pdf"):
        path = stem.with_name(f"{stem.name}.{kind}")
        with matplotlib.rc_context(STYLE):
            save_figure(figure, path)
        names.append(path.name)
    return names
