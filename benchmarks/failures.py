"""Where masks go wrong: the worst scans as pictures, and in which slices.

    python benchmarks/failures.py OUT REFERENCE -o runs/failures

OUT is a results folder of `infer.py`, REFERENCE the labelled scans, as for
`cervjax evaluate`. Writes a picture of each of the three scans with the lowest mean
Dice (predicted above, reference below) and prints Markdown: per muscle, mean Dice of
all slices, and of the slices between the ends alone; the share of wrong voxels in the
slices next to a muscle's ends (within one slice), where both have it, and elsewhere.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from cervjax.anatomy import MUSCLES
from cervjax.evaluation.overlap import confusion, dice_per_label
from cervjax.evaluation.pairs import Pair, find_pairs
from cervjax.figures.quality import qc_figure, save_png
from cervjax.io.dixon import read_scan
from cervjax.io.labels import read_labels

WORST = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("predicted", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    flags = parser.parse_args()
    flags.output.mkdir(parents=True, exist_ok=True)
    pairs, _ = find_pairs(flags.predicted, flags.reference)
    dice, counts = {}, np.zeros((len(MUSCLES), 5))
    inner: list[list[float]] = [[] for _ in MUSCLES]
    every: list[list[float]] = [[] for _ in MUSCLES]
    shifts = []
    for pair in pairs:
        predicted, reference, _ = load(pair)
        own = dice_per_label(confusion(predicted, reference))
        dice[pair] = float(np.nanmean(own))
        for k, muscle in enumerate(MUSCLES):
            a, b = predicted == muscle.label, reference == muscle.label
            counts[k] += where_wrong(a, b)
            every[k].append(own[k])
            inner[k].append(dice_between_ends(a, b))
        both = [(predicted == m.label, reference == m.label) for m in MUSCLES]
        shifts.append([middle_slice(a) - middle_slice(b) for a, b in both])
    print("| muscle | Dice | between its ends | wrong at the ends | wrong elsewhere |")
    print("|---|---|---|---|---|")
    for k, muscle in enumerate(MUSCLES):
        ends, rest, size = counts[k, 0], counts[k, 1], counts[k, 2]
        print(
            f"| {muscle.key} | {np.nanmean(every[k]):.3f} "
            f"| {np.nanmean(inner[k]):.3f} "
            f"| {100 * ends / size:.1f} % | {100 * rest / size:.1f} % |"
        )
    too_long, too_short = counts[:, 3].sum(), counts[:, 4].sum()
    print(
        f"\nmuscle slices too many {too_long:.0f}, too few {too_short:.0f}, in "
        f"{len(pairs)} scans"
    )
    shift = np.array(shifts)
    print(
        "middle too high by (slices): "
        f"all muscles of a scan {spread(np.nanmean(shift, axis=1))}, "
        f"MFSS {spread(shift[:, :2].mean(1))}, TR {spread(shift[:, 10:12].mean(1))}; "
        f"correlation of MFSS and TR "
        f"{np.corrcoef(shift[:, :2].mean(1), shift[:, 10:12].mean(1))[0, 1]:.2f}"
    )
    for rank, pair in enumerate(sorted(dice, key=lambda p: dice[p])[:WORST], start=1):
        path = flags.output / f"worst{rank}.png"
        picture(pair, dice[pair], path)
        print(f"{path}: {pair.name}, mean Dice {dice[pair]:.3f}")


def load(pair: Pair):
    """Predicted and reference labels, and the images."""
    if pair.scan is None:
        raise SystemExit(f"{pair.name}: no images beside the reference")
    images = read_scan(pair.scan)
    masks = [
        read_labels(path, images.grid, may_be_empty=True)
        for path in (pair.predicted, pair.reference)
    ]
    return *masks, images


def where_wrong(predicted: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Wrong voxels at the ends, elsewhere; reference voxels; slices more and less."""
    wrong = (predicted != reference).sum((0, 1))
    has = reference.any((0, 1))
    slices = np.flatnonzero(has)
    if not len(slices):
        return np.zeros(5)
    z = np.arange(len(has))
    ends = (np.abs(z - slices[0] + 0.5) < 1) | (np.abs(z - slices[-1] - 0.5) < 1)
    ends |= ~has  # beyond them
    found = predicted.any((0, 1))
    return np.array(
        [
            wrong[ends].sum(),
            wrong[~ends].sum(),
            reference.sum(),
            (found & ~has).sum(),
            (has & ~found).sum(),
        ]
    )


def middle_slice(mask: np.ndarray) -> float:
    """Where a muscle's volume has its middle along z, in slices."""
    per_slice = mask.sum((0, 1))
    total = per_slice.sum()
    return float(np.arange(len(per_slice)) @ per_slice / total) if total else np.nan


def spread(values: np.ndarray) -> str:
    """Mean and standard deviation."""
    return f"{np.nanmean(values):+.2f} +- {np.nanstd(values, ddof=1):.2f}"


def dice_between_ends(predicted: np.ndarray, reference: np.ndarray) -> float:
    slices = np.flatnonzero(reference.any((0, 1)))[1:-1]
    if not len(slices):
        return np.nan
    a, b = predicted[..., slices], reference[..., slices]
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def picture(pair: Pair, dice: float, path: Path) -> None:
    predicted, reference, images = load(pair)
    parts = []
    for name, labels in (("predicted", predicted), ("reference", reference)):
        figure = qc_figure(
            images.fat_water.water,
            labels,
            spacing_mm=images.grid.spacing_mm,
            title=f"{pair.name}, {name}",
            subtitle=f"mean Dice {dice:.3f}; synthetic neck",
            num_slices=8,
            like=np.where(reference > 0, reference, predicted),
        )
        part = path.with_name(f"{path.stem}_{name}.png")
        save_png(figure, part)
        parts.append(Image.open(part).convert("RGB"))
        part.unlink()
    width = max(p.width for p in parts)
    both = Image.new("RGB", (width, sum(p.height for p in parts)))
    both.paste(parts[0], (0, 0))
    both.paste(parts[1], (0, parts[0].height))
    both.resize((both.width * 2 // 3, both.height * 2 // 3)).save(path)


if __name__ == "__main__":
    main()
