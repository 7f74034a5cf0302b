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

import nibabel as nib
import numpy as np

import cervjax
from cervjax.anatomy import LEVEL_CLASSES, MUSCLES
from cervjax.model.weights import SHIPPED, load_weights

SIX = ("MFSS", "SSCap", "SPCap", "LS", "SCM", "LC")
_DISCS = ("C2/3", "C3/4", "C4/5", "C5/6", "C6/7", "C7/T1")


def main() -> None:
    """Prints a row per image, and a row per muscle."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path, default=SHIPPED)
    parser.add_argument("--only", nargs="*", help="names of folders")
    parser.add_argument("--save", type=Path, help="folder for the label maps found")
    args = parser.parse_args()
    weights = load_weights(args.weights)
    print(f"weights {weights.card.name}: {weights.card.trained_on}")
    columns = "  ".join(f"{m:>5}" for m in (*SIX, "TR"))
    print(f"{'image':<16} slices of   mean of 6  {columns}")
    for case in sorted(p.parent for p in args.folder.glob("*/status.csv")):
        if args.only and case.name not in args.only:
            continue
        found = segment(case / "image.nii.gz", weights)
        if args.save:
            args.save.mkdir(parents=True, exist_ok=True)
            like = nib.load(case / "image.nii.gz")
            nib.save(
                nib.Nifti1Image(found, like.affine), args.save / f"{case.name}.nii.gz"
            )
        for which in ("levels", "all"):
            dice = dice_by_muscle(case, found, which)
            mean = np.nanmean([dice[m] for m in SIX])
            cells = "  ".join(f"{dice[m]:5.2f}" for m in (*SIX, "TR"))
            print(f"{case.name:<16} {which:<11} {mean:9.3f}  {cells}", flush=True)


def segment(image: Path, weights) -> np.ndarray:
    """Whole muscles, whatever their level, on the image's own grid."""
    result = cervjax.segment(image, image, weights=weights, levels_rule="none")
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
