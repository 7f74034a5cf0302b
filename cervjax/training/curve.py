"""The training curve: the paper's supplementary figure 1."""

from pathlib import Path

import numpy as np

from cervjax.anatomy import MUSCLES
from cervjax.figures.style import new_figure, save_figure
from cervjax.training.metrics_log import Table

_WINDOWS, _TRAIN, _TEST = "#999999", "#0072B2", "#D55E00"


def draw_curve(table: Table, path: Path) -> None:
    """Draws loss and Dice over the steps, and each muscle's Dice of held-out scans.

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
    for split, color in (("train", _TRAIN), ("test", _TEST)):
        steps, values = table.series(split, "dice_mean")
        name = {"train": "training scans", "test": "held-out scans"}[split]
        dice.plot(steps, values, "o-", color=color, markersize=3, label=name)
    dice.set(title="Dice, mean of 14 muscles", xlabel="step", ylim=(0, 1))
    judged = "test" if len(table.series("test", "dice_mean")[0]) else "train"
    for m in MUSCLES:
        steps, values = table.series(judged, f"dice_{m.key}")
        style = "-" if m.side == "right" else "--"
        color = np.array(m.color_rgb) / 255 * 0.85
        muscles.plot(steps, values, style, color=color, linewidth=1.2, label=m.key)
    muscles.set(title=f"Dice per muscle, {judged} scans", xlabel="step", ylim=(0, 1))
    muscles.legend(fontsize=6, ncols=2, loc="lower right")
    for ax in (loss, dice):
        ax.legend(fontsize=7)
    for ax in (loss, dice, muscles):
        ax.grid(alpha=0.3)
    save_figure(figure, path, dpi=110)


def _smooth(values: np.ndarray, window: int = 15) -> np.ndarray:
    """Running mean of the last values."""
    total = np.cumsum(np.r_[0.0, np.nan_to_num(values)])
    end = np.arange(1, len(values) + 1)
    start = np.maximum(end - window, 0)
    return (total[end] - total[start]) / (end - start)
