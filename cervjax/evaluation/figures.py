"""The paper's Figures 3 and 4: prediction against reference, and Bland-Altman plots."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cervjax.about import NOTICE
from cervjax.evaluation.agreement import agreement
from cervjax.evaluation.tables import ORDER, Row, by_muscle, column
from cervjax.figures.style import new_figure

_MM = 1 / 25.4
_WIDTH_MM, _HEIGHT_MM = 180, 96
# Okabe and Ito: safe for the colour-blind
_LEFT, _RIGHT = "#0072B2", "#D55E00"
_SIDES = {"L": ("left", _LEFT, "o"), "R": ("right", _RIGHT, "^")}
_NAMES = {
    "mfi_percent": ("MFI", "%", "points"),
    "volume_ml": ("volume", "ml", "ml"),
}


def correlation_figure(rows: Sequence[Row], quantity: str) -> Figure:
    """Figure 3: reference over prediction, with the line through the origin.

    Args:
        rows: of `comparison.compare`, all scans.
        quantity: "mfi_percent" or "volume_ml".
    """
    name, unit, _ = _NAMES[quantity]
    figure, panels = _panels()
    for muscle, ax in panels.items():
        top, texts = 0.0, []
        for side, x, y in _sides(rows, muscle, quantity):
            top = max(top, *x, *y) if len(x) else top
            a = agreement(x, y)
            _, colour, marker = _SIDES[side]
            ax.plot(x, y, marker, ms=2.6, mfc="none", mew=0.7, color=colour)
            if np.isfinite(a.slope):
                ax.axline((0, 0), slope=a.slope, color=colour, lw=0.9)
            texts.append(f"{side}: slope {a.slope:.2f}, r² {a.r2:.2f}")
        top = 1.08 * top or 1.0
        ax.plot([0, top], [0, top], color="0.6", lw=0.6, ls="--", zorder=0)
        ax.set(xlim=(0, top), ylim=(0, top))
        ax.set_aspect("equal", adjustable="box")
        _note(ax, texts)
    _label(figure, f"predicted {name} ({unit})", f"reference {name} ({unit})")
    _key(figure, [Line2D([], [], color="0.6", lw=0.8, ls="--", label="equal")])
    return figure


def bland_altman_figure(rows: Sequence[Row], quantity: str) -> Figure:
    """Figure 4: difference over mean, with bias and 95 % limits of agreement.

    Args:
        rows: of `comparison.compare`, all scans.
        quantity: "mfi_percent" or "volume_ml".
    """
    name, unit, difference_unit = _NAMES[quantity]
    figure, panels = _panels()
    for muscle, ax in panels.items():
        texts = []
        for side, x, y in _sides(rows, muscle, quantity):
            a = agreement(x, y)
            _, colour, marker = _SIDES[side]
            ax.plot(
                (x + y) / 2, x - y, marker, ms=2.6, mfc="none", mew=0.7, color=colour
            )
            if np.isfinite(a.bias):
                ax.axhline(a.bias, color=colour, lw=0.9)
                for level in (a.loa_low, a.loa_high):
                    ax.axhline(level, color=colour, lw=0.7, ls="--")
            texts.append(
                f"{side}: {_signed(a.bias)} ({_signed(a.loa_low)} to "
                f"{_signed(a.loa_high)})"
            )
        ax.axhline(0, color="0.6", lw=0.6, zorder=0)
        low, high = ax.get_ylim()
        reach = max(-low, high)
        ax.set_ylim(-1.5 * reach, 1.5 * reach)
        _note(ax, texts)
    _label(
        figure,
        f"mean of both, {name} ({unit})",
        f"predicted - reference ({difference_unit})",
    )
    _key(
        figure,
        [
            Line2D([], [], color="0.2", lw=0.9, label="bias"),
            Line2D([], [], color="0.2", lw=0.7, ls="--", label="95 % limits"),
        ],
    )
    return figure


def _panels() -> tuple[Figure, dict[str, Axes]]:
    """A panel for each of the seven muscles, the eighth place free for the key."""
    figure = new_figure(_WIDTH_MM * _MM, _HEIGHT_MM * _MM, layout="constrained")
    axes = list(figure.subplots(2, 4).flat)
    for ax in axes:
        ax.tick_params(labelsize=6, width=0.5, length=2)
        for spine in ax.spines.values():
            spine.set_linewidth(0.5)
    panels: dict[str, Axes] = dict(zip(ORDER, axes[:-1], strict=True))
    for muscle, ax in panels.items():
        ax.set_title(muscle, fontsize=8, pad=3)
    axes[-1].set_axis_off()
    return figure, panels


def _sides(rows: Sequence[Row], muscle: str, quantity: str):
    """Side, predictions and references where both are known."""
    for key, own in by_muscle([r for r in rows if r["muscle"] == muscle]).items():
        x, y = (column(own, f"{who}_{quantity}") for who in ("predicted", "reference"))
        known = np.isfinite(x) & np.isfinite(y)
        yield key[-1], x[known], y[known]


def _note(ax: Axes, lines: list[str]) -> None:
    ax.text(
        0.97,
        0.03,
        "\n".join(lines),
        transform=ax.transAxes,
        fontsize=5.5,
        ha="right",
        va="bottom",
        linespacing=1.2,
        bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1},
    )


def _label(figure: Figure, x: str, y: str) -> None:
    figure.supxlabel(x, fontsize=8)
    figure.supylabel(y, fontsize=8)


def _key(figure: Figure, lines: list[Line2D]) -> None:
    sides = [
        Line2D([], [], ls="none", marker=marker, mfc="none", color=colour, label=name)
        for name, colour, marker in _SIDES.values()
    ]
    ax = figure.axes[-1]
    ax.legend(handles=[*sides, *lines], loc="center", fontsize=7, frameon=False)
    ax.text(
        0.5,
        0.02,
        NOTICE.replace(". ", ".\n"),
        transform=ax.transAxes,
        fontsize=5.5,
        color="0.4",
        ha="center",
    )


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "\N{MINUS SIGN}")
