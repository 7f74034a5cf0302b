"""Pictures of a run: its curve (the paper's supplementary figure 1), and scans."""

from pathlib import Path

import numpy as np

from cervjax.anatomy import MUSCLES
from cervjax.data.cache import Volume
from cervjax.data.windows import whole_volumes
from cervjax.figures.quality import qc_figure, save_png
from cervjax.figures.style import new_figure, save_figure
from cervjax.preprocessing.pipeline import Recipe
from cervjax.training.metrics_log import Table

_WINDOWS, _TRAIN, _VALIDATION = "#999999", "#0072B2", "#D55E00"


def draw_curve(table: Table, path: Path) -> None:
    """Draws loss and Dice over the steps, and each muscle's Dice of validation scans.

    Args:
        table: the run's.
        path: PNG file.
    """
    figure = new_figure(12, 3.8, layout="constrained")
    loss, dice, muscles = figure.subplots(1, 3)
    steps, values = table.series("windows", "loss")
    loss.plot(steps, values, color=_WINDOWS, linewidth=0.6, label="windows")
    loss.plot(steps, _smooth(values), color=_TRAIN, linewidth=1.5, label="smoothed")
    positive = len(values) > 0 and min(values) > 0  # a loss with a score is not
    loss.set(title="Loss", xlabel="step", yscale="log" if positive else "linear")
    steps, values = table.series("windows", "dice_mean")
    dice.plot(steps, _smooth(values), color=_WINDOWS, label="windows (soft, smoothed)")
    for part, color in (("train", _TRAIN), ("validation", _VALIDATION)):
        steps, values = table.series(part, "dice_mean")
        name = {"train": "training scans", "validation": "validation scans"}[part]
        dice.plot(steps, values, "o-", color=color, markersize=3, label=name)
    dice.set(title="Dice, mean of 14 muscles", xlabel="step", ylim=(0, 1))
    split = "validation" if len(table.series("validation", "dice_mean")[0]) else "train"
    for m in MUSCLES:
        steps, values = table.series(split, f"dice_{m.key}")
        style = "-" if m.side == "right" else "--"
        color = np.array(m.color_rgb) / 255 * 0.85
        muscles.plot(steps, values, style, color=color, linewidth=1.2, label=m.key)
    muscles.set(title=f"Dice per muscle, {split} scans", xlabel="step", ylim=(0, 1))
    muscles.legend(fontsize=6, ncols=2, loc="lower right")
    for ax in (loss, dice):
        ax.legend(fontsize=7)
    for ax in (loss, dice, muscles):
        ax.grid(alpha=0.3)
    save_figure(figure, path, dpi=110)


def save_picture(
    path: Path,
    volume: Volume,
    labels: np.ndarray,
    recipe: Recipe,
    text: tuple[str, str],
) -> None:
    """Saves a picture of a prepared scan with its labels.

    Args:
        path: PNG file; its folder is made if need be.
        volume: with padding.
        labels: uint8 (x, y, z), without padding.
        recipe: its preprocessing.
        text: title and subtitle.
    """
    inner = tuple(slice(p, -p or None) for p in recipe.padding)
    image = next(whole_volumes([volume]))[1][inner][..., 0]
    title, subtitle = text
    figure = qc_figure(
        np.asarray(image) - image.min(),
        labels,
        spacing_mm=recipe.spacing_mm,
        title=title,
        subtitle=f"in-phase, standardised; {subtitle}",
    )
    path.parent.mkdir(exist_ok=True)
    save_png(figure, path)


def _smooth(values: np.ndarray, window: int = 15) -> np.ndarray:
    """Running mean of the last values."""
    total = np.cumsum(np.r_[0.0, np.nan_to_num(values)])
    end = np.arange(1, len(values) + 1)
    start = np.maximum(end - window, 0)
    return (total[end] - total[start]) / (end - start)
