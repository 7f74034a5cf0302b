"""Scores weights on real images that a reader has outlined on some slices.

python benchmarks/real_images.py ../shared/real --weights runs/2/weights.safetensors

Each folder there holds ``image.nii.gz`` (one contrast, which goes into both channels),
``labels.nii.gz`` (muscles in their full length), ``status.csv`` (which muscle was
traced on which slice) and ``levels.json``. Dice is taken over the traced slices alone,
pooled per muscle and side: over those of the muscle's levels in the paper's Table 1,
and over all.
"""

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np

import cervjax
from cervjax.anatomy import LEVEL_CLASSES, MUSCLES, NUM_CLASSES
from cervjax.model.weights import SHIPPED, load_weights

SIX = ("MFSS", "SSCap", "SPCap", "LS", "SCM", "LC")
_DISCS = ("C2/3", "C3/4", "C4/5", "C5/6", "C6/7", "C7/T1")


def main() -> None:
    """Prints a row per image, and a row per muscle."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path, default=SHIPPED)
    parser.add_argument("--only", nargs="*", help="names of folders")
    parser.add_argument("--picture", type=Path, help="JPEG of slices with outlines")
    args = parser.parse_args()
    weights = load_weights(args.weights)
    print(f"weights {weights.card.name}: {weights.card.trained_on}")
    columns = "  ".join(f"{m:>5}" for m in (*SIX, "TR"))
    print(f"{'image':<16} slices of   mean of 6  {columns}")
    pictures = []
    for case in sorted(p.parent for p in args.folder.glob("*/status.csv")):
        if args.only and case.name not in args.only:
            continue
        found = segment(case / "image.nii.gz", weights)
        pictures.append((case, found))
        for which in ("levels", "all"):
            dice = dice_by_muscle(case, found, which)
            mean = np.nanmean([dice[m] for m in SIX])
            cells = "  ".join(f"{dice[m]:5.2f}" for m in (*SIX, "TR"))
            print(f"{case.name:<16} {which:<11} {mean:9.3f}  {cells}", flush=True)
    if args.picture:
        draw(pictures, args.picture)


def draw(pictures: list[tuple[Path, np.ndarray]], path: Path) -> None:
    """A row per image: what was found (lines) and what was traced (dots), C3 to C6."""
    names = ("C3", "C4", "C5", "C6")
    figure, axes = plt.subplots(
        len(pictures), len(names), figsize=(12, 2.9 * len(pictures)), squeeze=False
    )
    for row, (case, found) in zip(axes, pictures, strict=True):
        image = nib.load(case / "image.nii.gz")
        step = image.header.get_zooms()
        voxels = np.asarray(image.dataobj, np.float32)
        traced = np.asarray(nib.load(case / "labels.nii.gz").dataobj).astype(np.uint8)
        where = np.argwhere(traced.any(2))
        low, high = where.min(0) - np.array(20 / np.array(step[:2]), int), where.max(0)
        high = high + np.array(20 / np.array(step[:2]), int)
        box = tuple(slice(max(a, 0), b) for a, b in zip(low, high, strict=True))
        level_of = _levels(case)
        for axis, name in zip(row, names, strict=True):
            axis.axis("off")
            slices = [
                k
                for k in range(traced.shape[2])
                if traced[..., k].any() and level_of(k) == name
            ]
            if not slices:
                continue
            k = slices[len(slices) // 2]
            part, a, b = (v[..., k][box].T for v in (voxels, traced, found))
            top = np.percentile(part, 99)
            size = (0, part.shape[1] * step[0], 0, part.shape[0] * step[1])
            show = {"origin": "lower", "extent": size}
            axis.imshow(part, cmap="gray", vmin=0, vmax=top, **show)
            for m in MUSCLES:
                color = np.array(m.color_rgb) / 255
                for labels, style in ((b, "-"), (a, ":")):
                    mask = (labels == m.label).astype(float)
                    if mask.any():
                        axis.contour(
                            mask,
                            [0.5],
                            colors=[color],
                            linestyles=style,
                            linewidths=0.9,
                            **show,
                        )
            axis.invert_xaxis()  # radiological: the person's right on the left
            axis.set_title(f"{case.name}, {name}", fontsize=8)
            axis.text(0.02, 0.04, "R", color="w", transform=axis.transAxes, fontsize=8)
            axis.text(0.94, 0.04, "L", color="w", transform=axis.transAxes, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=90, pil_kwargs={"quality": 80})


def segment(image: Path, weights) -> np.ndarray:
    """Muscles in their full length where the weights have it, on the image's grid."""
    rule = "none" if weights.card.architecture.classes > NUM_CLASSES else "paper"
    result = cervjax.segment(image, image, weights=weights, levels_rule=rule)
    return np.asarray(result.labels)


def dice_by_muscle(case: Path, found: np.ndarray, which: str) -> dict[str, float]:
    """Mean over sides of pooled Dice, by abbreviation; NaN where nothing was traced.

    Args:
        case: folder of the image.
        found: uint8 (x, y, z) in RAS order, as the labels are stored.
        which: "levels" or "all".
    """
    traced = np.asarray(nib.load(case / "labels.nii.gz").dataobj).astype(np.uint8)
    level_of = _levels(case)
    slices = defaultdict(set)
    for row in _rows(case / "status.csv"):
        slices[int(row["label"])].add(int(row["slice"]))
    by_name = defaultdict(list)
    for m in MUSCLES:
        use = sorted(slices[m.label])
        if which == "levels":
            use = [k for k in use if level_of(k) in m.levels]
        a, b = (v[..., use] == m.label for v in (traced, found))
        total = a.sum() + b.sum()
        if a.any():
            by_name[m.abbreviation].append(2 * (a & b).sum() / total)
    return {
        m.abbreviation: float(np.mean(by_name[m.abbreviation] or np.nan))
        for m in MUSCLES
    }


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def _levels(case: Path):
    """From slice to the name of its level, by where the discs are."""
    content = json.loads((case / "levels.json").read_text())
    discs = content["disc_slice"]
    known = [(d, discs[d]) for d in _DISCS if d in discs]

    def level_of(k: int) -> str:
        below = [d for d, at in known if k < at]  # discs above this slice
        if len(below) == len(known):  # below all known discs
            return _next(known[-1][0].split("/")[0])
        return "C2" if not below else _next(below[-1].split("/")[0])

    return level_of


def _next(level: str) -> str:
    names = list(LEVEL_CLASSES)
    return names[names.index(level) + 1]


if __name__ == "__main__":
    main()
