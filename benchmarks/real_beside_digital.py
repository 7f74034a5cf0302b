"""Real axial slices beside digital ones of the same person's outlines.

    python benchmarks/real_beside_digital.py FOLDER OUT.jpg [--labels]

FOLDER holds one folder per person with image.nii.gz and levels.json (slice of each
body's centre). Two rows a person: the image, and a clinical scan of a digital neck of
that person's anatomy. Radiological convention, all at one scale.
"""

import argparse
import json
from pathlib import Path

import nibabel as nib
import numpy as np

from cervjax.anatomy import MUSCLES
from cervjax.figures.style import letters, new_figure
from cervjax.phantom.atlas import load_anatomy
from cervjax.phantom.dataset import subject_of
from cervjax.phantom.neck import build_neck
from cervjax.phantom.protocol import TIERS
from cervjax.phantom.scan import make_scan

SEED = 2026
CASES = {  # folder: anatomy, sex, caption
    "sub-01": ("gre_adult", "F", "gradient echo, 0.9 x 0.9 x 5 mm"),
    "man41_t1": ("man_41", "M", "man of 41, T1-weighted, 0.7 x 0.7 x 3 mm"),
    "vhf_ct": ("woman_59", "F", "woman of 59, CT, 1 mm"),
    "neck_gre_05mm": ("standard", "M", "an adult, gradient echo, 0.5 x 0.5 x 5 mm"),
}
LEVELS = ("C3", "C4", "C5", "C6", "C7")
_COLORS = np.array([(0, 0, 0)] + [m.color_rgb for m in MUSCLES]) / 255
_HALF_MM, _FRONT_MM, _BEHIND_MM = 88.0, 62.0, 92.0  # about the body's middle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--labels", action="store_true", help="colour the muscles")
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--inch", type=float, default=1.5, help="height of a picture")
    flags = parser.parse_args()
    chosen = [c for c in flags.case or CASES if (flags.folder / c).is_dir()]
    wide = flags.inch * 2 * _HALF_MM / (_FRONT_MM + _BEHIND_MM)
    figure = new_figure(
        wide * len(LEVELS), flags.inch * 2 * len(chosen) + 0.3, color="black"
    )
    axes = figure.subplots(2 * len(chosen), len(LEVELS), squeeze=False)
    for i, case in enumerate(chosen):
        anatomy, sex, caption = CASES[case]
        real = _real(flags.folder / case, flags.labels)
        digital = _digital(anatomy, sex, flags.labels)
        rows = axes[2 * i : 2 * i + 2]
        for row, pictures, text in zip(
            rows,
            (real, digital),
            (caption, f"digital neck: {anatomy}"),
            strict=True,
        ):
            _draw(row, pictures, text)
    for ax, level in zip(axes[0], LEVELS, strict=True):
        ax.set_title(level, color="white", fontsize=8, pad=2)
    figure.subplots_adjust(0.002, 0.002, 0.998, 0.975, 0.02, 0.02)
    jpeg = {"quality": 85} if flags.out.suffix == ".jpg" else {}
    figure.savefig(flags.out, facecolor="black", pil_kwargs=jpeg)


def _real(folder: Path, colored: bool) -> dict[str, np.ndarray]:
    """One picture a level where the image has it."""
    image = _load(folder / "image.nii.gz")
    data, spacing = image.get_fdata(), image.header.get_zooms()
    labels = np.zeros(data.shape, np.uint8)
    if colored:
        labels = np.asarray(_load(folder / "labels.nii.gz").dataobj).astype(np.uint8)
    levels = json.loads((folder / "levels.json").read_text())["body_centre_slice"]
    content = json.loads((folder / "contours.json").read_text())
    middle = _middle(content, data.shape)
    low, top = (50.0, 74.0) if "ct" in folder.name else (0.0, None)
    found = {}
    for level, k in levels.items():
        k = round(k)
        if 0 <= k < data.shape[2]:
            plane = data[:, :, k]
            high = top or np.percentile(plane[plane > np.percentile(plane, 60)], 96)
            grey = np.clip((plane - low) / (high - low), 0, 1)
            found[level] = _crop(grey, labels[:, :, k], spacing, middle)
    return found


def _load(path: Path) -> nib.Nifti1Image:
    return nib.as_closest_canonical(nib.load(path))


def _middle(content: dict, shape: tuple[int, ...]) -> tuple[float, float]:
    """Voxel x, y of the origin of the outlines, which the file's axes tell."""
    text = content.get("axes", "")
    if "voxel [" in text:
        x, y, _ = (float(v) for v in text.split("voxel [")[1].split("]")[0].split(","))
        return x, y
    return shape[0] / 2, shape[1] / 2


def _digital(name: str, sex: str, colored: bool) -> dict[str, np.ndarray]:
    tier, anatomy = TIERS["clinical"], load_anatomy(name)
    index = next(i for i in range(99) if subject_of(SEED, i, tier).sex == sex)
    neck = build_neck(subject_of(SEED, index, tier), anatomy)
    scan = make_scan(neck, tier, (SEED, index, 5, 1))
    levels = scan.levels.max((0, 1))
    spine = np.argwhere(scan.full_labels == 3), np.argwhere(scan.full_labels == 4)
    x, y = (np.concatenate([s.mean(0, keepdims=True) for s in spine])).mean(0)[:2]
    top = np.percentile(scan.in_phase[scan.levels > 0], 97)
    found = {}
    for level in LEVELS:
        at = np.flatnonzero(levels == int(level[1]))
        if len(at):
            k = int(np.median(at))
            grey = np.clip(scan.in_phase[:, :, k] / top, 0, 1)
            labels = scan.full_labels[:, :, k] if colored else 0 * scan.labels[:, :, k]
            found[level] = _crop(
                grey, labels, scan.grid.spacing_mm, (x, y - 8 / scan.grid.spacing_mm[1])
            )
    return found


def _crop(grey, labels, spacing, middle):
    """A picture of fixed size in mm, the patient's right at its left."""
    step = 0.5
    x = middle[0] + np.arange(-_HALF_MM, _HALF_MM, step) / spacing[0]
    y = middle[1] + np.arange(-_BEHIND_MM, _FRONT_MM, step) / spacing[1]
    i, j = np.round(x).astype(int), np.round(y).astype(int)
    inside = (i >= 0) & (i < grey.shape[0]), (j >= 0) & (j < grey.shape[1])
    box = np.ix_(np.clip(i, 0, grey.shape[0] - 1), np.clip(j, 0, grey.shape[1] - 1))
    seen = inside[0][:, None] & inside[1][None]
    picture = np.repeat(np.where(seen, grey[box], 0)[..., None], 3, -1)
    label = np.where(seen, labels[box], 0)
    mixed = 0.55 * picture + 0.45 * _COLORS[label]
    picture = np.where(label[..., None] > 0, mixed, picture)
    return picture[::-1, ::-1].swapaxes(0, 1)


def _draw(row, pictures, text):
    for ax, level in zip(row, LEVELS, strict=True):
        ax.set_axis_off()
        ax.set_facecolor("black")
        if level not in pictures:
            continue
        picture = pictures[level]
        ax.imshow(picture, interpolation="antialiased", aspect="equal")
        h, w = picture.shape[:2]
        letters(ax, {"R": (0.03 * w, h / 2), "L": (0.97 * w, h / 2)}, size_pt=6)
    behind = {"facecolor": "black", "linewidth": 0, "pad": 1}
    at = {"transform": row[0].transAxes, "va": "top", "bbox": behind}
    row[0].text(0.01, 0.99, text, color="0.9", fontsize=5.5, **at)


if __name__ == "__main__":
    main()
