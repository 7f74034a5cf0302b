"""Draws the montage of digital necks: ``python benchmarks/montage.py SEVERITY OUT``.

Three subjects, a row each: in-phase at C3 to C6; out-of-phase, water, fat and labels
at C5; the middle sagittal and a coronal plane. Radiological convention.
"""

import sys

import numpy as np

from cervjax.anatomy import MUSCLES
from cervjax.figures.style import letters, new_figure
from cervjax.phantom.dataset import anatomy_of, subject_of
from cervjax.phantom.neck import build_neck
from cervjax.phantom.protocol import TIERS
from cervjax.phantom.scan import make_scan

SEED = 2021
_COLORS = np.array([(0, 0, 0)] + [m.color_rgb for m in MUSCLES]) / 255
_HALF_WIDTH_MM, _COLUMNS = 88.0, ("C3", "C4", "C5", "C6")


def main(severity: str, out: str) -> None:
    """Makes three scans and the picture."""
    tier = TIERS[severity]
    figure = new_figure(15, 5.6, color="black")
    titles = [f"in-phase {c}" for c in _COLUMNS]
    titles += ["out-of-phase C5", "water C5", "fat C5", "labels C5", "sagittal"]
    titles += ["coronal"]
    axes = figure.subplots(3, len(titles), squeeze=False)
    for index, row in enumerate(axes):
        subject = subject_of(SEED, index, tier)
        neck = build_neck(subject, anatomy_of(SEED, index))
        scan = make_scan(neck, tier, (SEED, index, 5, 1))
        for ax, (picture, colored) in zip(row, _panels(scan), strict=True):
            ax.imshow(
                picture,
                cmap=None if colored else "gray",
                vmin=0,
                vmax=1,
                interpolation="antialiased",
                aspect="equal",
            )
            ax.set_axis_off()
        snr = scan.settings["snr"]
        text = f"{subject.sex}, {subject.age_years:.0f} y, BMI {subject.bmi:.0f}, "
        text += "no noise" if snr is None else f"SNR {snr:.0f}"
        text += f", {neck.anatomy.name}"
        text += ", " + " x ".join(f"{v:.2g}" for v in scan.grid.spacing_mm) + " mm"
        row[0].text(0, 1.02, text, color="0.8", fontsize=7, transform=row[0].transAxes)
        for ax in (*row[:8], row[9]):
            left, right = ax.get_xlim()
            y = np.mean(ax.get_ylim())
            at = {"R": (left + 0.03 * (right - left), y)}
            at["L"] = left + 0.97 * (right - left), y
            letters(ax, at, size_pt=7, color="yellow", halo_pt=0)
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, color="white", fontsize=8, pad=12)
    figure.subplots_adjust(0.005, 0.01, 0.995, 0.92, 0.03, 0.12)
    figure.savefig(out, facecolor="black", pil_kwargs={"quality": 88})


def _panels(scan):
    """Pictures (rows from top to bottom) of one scan, and whether they have colour."""
    spacing = scan.grid.spacing_mm
    level = scan.levels.max((0, 1))
    slices = {
        f"C{n}": int(np.median(np.flatnonzero(level == n)))
        for n in range(3, 7)
        if (level == n).any()
    }
    top = np.percentile(scan.in_phase[scan.levels > 0], 97)
    body = np.argwhere(scan.full_labels > 0)
    cx, cy = (int(v) for v in body.mean(0)[:2])
    half = int(_HALF_WIDTH_MM / spacing[0])
    xs = slice(max(cx - half, 0), cx + half)

    def axial(image, name):
        return _grey(image[xs, :, slices.get(name, scan.grid.shape[2] // 2)], top)

    for name in _COLUMNS:
        yield axial(scan.in_phase, name), False
    for image in (scan.out_phase, scan.water, scan.fat):
        yield axial(image, "C5"), False
    k = slices["C5"]
    yield _overlay(scan.water[xs, :, k], scan.labels[xs, :, k], top), True
    thick = spacing[2] / spacing[0]
    yield _overlay(scan.in_phase[cx], scan.labels[cx], top, thick), True
    plane = scan.in_phase[xs, cy], scan.labels[xs, cy]
    yield _overlay(*plane, top, thick), True


def _grey(image, top):
    return np.clip(image[::-1, ::-1].T / top, 0, 1)


def _overlay(image, labels, top, stretch=1.0):
    grey, label = _grey(image, top), labels[::-1, ::-1].T
    rows = (np.arange(round(len(grey) * stretch)) / stretch).astype(int)
    grey, label = grey[rows], label[rows]
    color = np.repeat(grey[..., None], 3, -1)
    return np.where(label[..., None] > 0, 0.45 * color + 0.55 * _COLORS[label], color)


if __name__ == "__main__":
    main(*sys.argv[1:])
