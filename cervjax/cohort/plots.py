"""Figures 5 and 6 of the paper from one's own cohort, and muscles against each other.

Figures are objects with their own Agg canvas; see `plot_style`.
"""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cervjax.cohort.analysis import Outcome, Rows
from cervjax.cohort.assembly import Cohort, modelled
from cervjax.cohort.plot_style import (
    MUSCLE_COLOR,
    SEXES,
    STYLE,
    WIDE_MM,
    add_legend,
    p_equals,
    scatter_by_sex,
    wide_figure,
)

_COVARIATES = {
    "age_years": ("Age (years)", "age_years"),
    "bmi_kg_m2": ("BMI (kg/m²)", "bmi"),
}


def muscles_figure(cohort: Cohort, sex: Rows, outcome: Outcome) -> Figure:
    """Figure 5: all values per muscle and sex, adjusted means with 95 % CI.

    Args:
        cohort: who is in it; the first session is drawn.
        sex: table of that name of `analysis.analyse`.
        outcome: the same as the table's.
    """
    with matplotlib.rc_context(STYLE):
        figure = wide_figure(75)
        ax = figure.subplots()
        values = getattr(cohort, outcome.key)[0]
        for k, row in enumerate(sex):
            who = modelled(cohort, k)
            for (_, code, color, marker), group, side in zip(
                SEXES, ("female", "male"), (-0.2, 0.2), strict=True
            ):
                y = values[who & (cohort.female == code), k]
                ax.scatter(
                    k + side + _spread(y),
                    y,
                    s=7,
                    alpha=0.55,
                    edgecolors=color,
                    **marker,
                )
                mean, low, high = (
                    row[f"mean_{group}{part}_{outcome.unit}"]
                    for part in ("", "_ci_low", "_ci_high")
                )
                ax.errorbar(
                    k + side,
                    mean,
                    [[mean - low], [high - mean]],
                    fmt="D",
                    color="black",
                    markersize=3.5,
                    capsize=2,
                    linewidth=1,
                    zorder=5,
                )
            stars = f"p {p_equals(row['p'])}"
            ax.text(
                k,
                1.01,
                stars,
                ha="center",
                va="bottom",
                fontsize=7,
                transform=ax.get_xaxis_transform(),
            )
        _color_ticks(ax, cohort.muscles)
        ax.set(ylabel=outcome.axis, xlim=(-0.55, len(sex) - 0.45))
        ax.set_ylim(bottom=min(0, ax.get_ylim()[0]))
        mean = Line2D([], [], color="black", marker="D", markersize=3.5, linewidth=1)
        add_legend(figure, [mean], ["adjusted mean, 95 % CI"])
    return figure


def covariate_figure(
    cohort: Cohort, sex: Rows, correlations: Rows, outcome: Outcome, covariate: str
) -> Figure:
    """Figure 6: each muscle against age or BMI, with the partial regression line.

    The line is the model's at the mean of the other covariate and midway between the
    sexes; the band is the 95 % interval of its slope.

    Args:
        cohort: who is in it; the first session is drawn.
        sex: table of that name of `analysis.analyse`.
        correlations: table of that name of `analysis.analyse`.
        outcome: the same as the tables'.
        covariate: ``age_years`` or ``bmi_kg_m2``.
    """
    label, field = _COVARIATES[covariate]
    rows = [r for r in correlations if r["covariate"] == covariate]
    with matplotlib.rc_context(STYLE):
        figure = wide_figure(95)
        panels = figure.subplots(2, 4, sharex=True, sharey=True).ravel()
        for k, (ax, row) in enumerate(zip(panels, rows, strict=False)):
            who = modelled(cohort, k)
            x, y = getattr(cohort, field)[who], getattr(cohort, outcome.key)[0][who, k]
            scatter_by_sex(ax, x, y, cohort.female[who])
            _line(ax, x, sex[k], row, outcome)
            ax.set_title(row["muscle"], loc="left", fontweight="bold", pad=4)
            text = f"r = {row['r']:.2f}, p {p_equals(row['p'])}"
            ax.set_title(text, loc="right", pad=4, fontsize=7)
            ax.tick_params(labelbottom=True)
            ax.plot(
                [0, 1],
                [1, 1],
                color=MUSCLE_COLOR[row["muscle"]],
                linewidth=3,
                clip_on=False,
                solid_capstyle="butt",
                transform=ax.transAxes,
            )
        for ax in panels[len(rows) :]:
            ax.set_axis_off()
        figure.supxlabel(label, fontsize=8)
        figure.supylabel(outcome.axis, fontsize=8)
        line = Line2D([], [], color="black", linewidth=1)
        add_legend(figure, [line], ["partial regression, 95 % CI of the slope"])
    return figure


def pairs_figure(cohort: Cohort, pairs: Rows, outcome: Outcome) -> Figure:
    """Every muscle against every other, below; mean difference and p, above.

    Args:
        cohort: who is in it; the first session is drawn.
        pairs: table of that name of `analysis.analyse`.
        outcome: the same as the table's.
    """
    values = getattr(cohort, outcome.key)[0]
    count = len(cohort.muscles)
    tests = {(r["muscle"], r["less_muscle"]): r for r in pairs}
    low, high = np.nanmin(values), np.nanmax(values)
    margin = 0.05 * (high - low)
    span = low - margin, high + margin
    with matplotlib.rc_context(STYLE):
        figure = wide_figure(WIDE_MM)
        panels = figure.subplots(count, count, squeeze=False)
        for (i, j), ax in np.ndenumerate(panels):
            ax.tick_params(
                labelsize=6,
                length=2,
                labelbottom=i == count - 1,
                labelleft=j == 0 and i > 0,
            )
            ax.set_box_aspect(1)
            a, b = cohort.muscles[j], cohort.muscles[i]
            if i == j:
                x = values[np.isfinite(values[:, i]), i]
                ax.hist(x, bins=np.linspace(*span, 16), color=MUSCLE_COLOR[a])
                ax.set(xlim=span, yticks=[])
                ax.set_title(a, fontweight="bold", pad=2)
            elif i > j:
                ax.plot(span, span, color="0.6", linewidth=0.6)
                scatter_by_sex(ax, values[:, j], values[:, i], cohort.female, size=4)
                ax.set(xlim=span, ylim=span)
            else:
                row = tests[b, a]
                ax.set_axis_off()
                text = (
                    f"{row[f'difference_{outcome.step}']:+.1f}\n"
                    f"({row[f'difference_ci_low_{outcome.step}']:.1f} to "
                    f"{row[f'difference_ci_high_{outcome.step}']:.1f})\n"
                    f"p {p_equals(row['p'])}"
                )
                ax.text(
                    0.5,
                    0.5,
                    text,
                    ha="center",
                    va="center",
                    fontsize=7,
                    transform=ax.transAxes,
                )
        figure.supxlabel(outcome.axis, fontsize=8)
        figure.supylabel(outcome.axis, fontsize=8)
        line = Line2D([], [], color="0.6", linewidth=0.6)
        add_legend(figure, [line], ["equal; above: row less column, mean and 95 % CI"])
    return figure


def _spread(y: np.ndarray, width: float = 0.15) -> np.ndarray:
    """Sideways shifts that keep points of near values apart, without chance."""
    shift = np.zeros(len(y))
    if len(y) < 2 or np.ptp(y) == 0:
        return shift
    order = np.argsort(y, kind="stable")
    golden = (np.arange(len(y)) * 0.6180339887) % 1 - 0.5
    crowd = np.exp(-0.5 * ((y[:, None] - y) / (0.5 * y.std() + 1e-9)) ** 2).sum(1)
    shift[order] = golden
    return 2 * width * shift * crowd / crowd.max()


def _line(
    ax: Axes, x: np.ndarray, sex: dict[str, Any], row: dict[str, Any], outcome: Outcome
) -> None:
    level = np.mean([sex[f"mean_{g}_{outcome.unit}"] for g in ("female", "male")])
    slope, low, high = (
        row[f"slope{part}_{outcome.step}_per_unit"]
        for part in ("", "_ci_low", "_ci_high")
    )
    at = np.linspace(x.min(), x.max(), 50)
    off = at - x.mean()
    ax.fill_between(
        at, level + low * off, level + high * off, color="0.5", alpha=0.25, linewidth=0
    )
    ax.plot(at, level + slope * off, color="black", linewidth=1)


def _color_ticks(ax: Axes, muscles: tuple[str, ...]) -> None:
    """Muscle names below the axis, each over a bar of its colour."""
    ax.set_xticks(range(len(muscles)), muscles, fontsize=8)
    ax.tick_params(axis="x", length=0, pad=6)
    for k, muscle in enumerate(muscles):
        ax.plot(
            [k - 0.4, k + 0.4],
            [-0.02, -0.02],
            color=MUSCLE_COLOR[muscle],
            linewidth=3,
            solid_capstyle="butt",
            clip_on=False,
            transform=ax.get_xaxis_transform(),
        )
