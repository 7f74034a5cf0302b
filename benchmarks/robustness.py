"""What the weights can bear: one property of the scan changed at a time.

    python benchmarks/robustness.py -o runs/robustness --subjects 3
    python benchmarks/robustness.py -o runs/r --weights runs/a --only thickness swap

Digital necks of the clinical tier that no training saw (seed 7000), their outlines
drawn over all packaged people, the same subjects in every row. Prints a Markdown table:
mean Dice over scans and muscles, mean volume ratio, mean and largest absolute MFI error
(predicted against true mask, same images), Dice of the worst muscle. Accuracy on
phantoms, not on patients.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cervjax.cli.main import main as cervjax
from cervjax.evaluation.comparison import compare
from cervjax.evaluation.pairs import find_pairs
from cervjax.evaluation.tables import by_muscle, column
from cervjax.io.nifti import write_volume
from cervjax.phantom.atlas import draw_anatomy
from cervjax.phantom.dataset import subject_of
from cervjax.phantom.neck import build_neck
from cervjax.phantom.protocol import TIERS, Tier
from cervjax.phantom.scan import DigitalScan, make_scan
from cervjax.phantom.subject import Subject

SEED = 7000
POOL = 60  # subjects among whom the extremes are sought
BASE = TIERS["clinical"]._replace(swap=0.0)


class Condition(NamedTuple):
    """A row of the table."""

    factor: str
    level: str
    tier: Tier = BASE
    swap: bool = False
    choose: Callable[[list[Subject]], list[Subject]] = lambda subjects: subjects


def conditions() -> Iterator[Condition]:
    """The tier as it is, then one change at a time."""
    yield Condition("none", "clinical")
    yield Condition("tier", "clean", TIERS["clean"])
    yield Condition("tier", "hard", TIERS["hard"])
    for snr in (6, 10, 16, 40):
        yield Condition("SNR", f"{snr}", BASE._replace(snr=(snr, snr)))
    for mm in (2.0, 4.0, 5.0):
        tier = BASE._replace(spacing_mm=(0.7, 0.7, mm, mm))
        yield Condition("thickness", f"{mm:g} mm", tier)
    for mm in (0.5, 1.0, 1.4):
        tier = BASE._replace(spacing_mm=(mm, mm, 3.0, 3.0))
        yield Condition("in-plane", f"{mm:g} mm", tier)
    for mm in (210, 250):
        yield Condition("width", f"{mm} mm", BASE._replace(field_of_view_mm=(mm, mm)))
    for mm in (70, 90):
        yield Condition("height", f"{mm} mm", BASE._replace(slices_mm=(mm, mm)))
    yield Condition("orientation", "any storage", BASE._replace(any_orientation=1.0))
    for degrees in (8, 15):
        tier = BASE._replace(tilt_deg=degrees, slab_tilt_deg=degrees / 2)
        yield Condition("tilt", f"sd {degrees} deg", tier)
    yield Condition("swap", "water and fat", swap=True)
    yield Condition("wrap", "around", BASE._replace(wrap=1.0))
    yield Condition("motion", "always", BASE._replace(motion=1.0, swallowing=1.0))
    yield Condition("shading", "strong", BASE._replace(shading=(1.6, 2.2)))
    for name, key in (
        ("BMI", lambda s: s.bmi),
        ("age", lambda s: s.age_years),
        ("MFI", lambda s: float(np.mean(s.mfi_percent))),
    ):
        yield Condition(name, "lowest", choose=partial(sorted, key=key))
        yield Condition(name, "highest", choose=partial(sorted, key=key, reverse=True))
    yield Condition(
        "disease",
        "pathology",
        choose=lambda p: [subject_of(SEED, i, TIERS["hard"]) for i in range(len(p))],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--subjects", type=int, default=3)
    parser.add_argument("--only", nargs="+", help="factors")
    flags = parser.parse_args()
    subjects = [subject_of(SEED, i, TIERS["clinical"]) for i in range(POOL)]
    lines = [
        "| changed | to | Dice | volume ratio | mean, largest MFI error (points) "
        "| worst muscle |",
        "|---|---|---|---|---|---|",
    ]
    for condition in conditions():
        if flags.only and condition.factor not in flags.only:
            continue
        chosen = condition.choose(subjects)[: flags.subjects]
        folder = flags.output / f"{condition.factor}-{condition.level}".replace(
            " ", "-"
        )
        write_scans(folder / "scans", condition, chosen)
        lines.append(row(condition, folder, flags.weights))
        print(lines[-1], flush=True)
    print("\n".join(lines))


def write_scans(folder: Path, condition: Condition, subjects: list[Subject]) -> None:
    for subject in subjects:
        if (folder / f"{subject.name}_dseg.nii.gz").exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        person = draw_anatomy(np.random.default_rng([*subject.seed, 8]))
        scan: DigitalScan = make_scan(
            build_neck(subject, person),
            condition.tier,
            (*subject.seed, 5, 1),
            swap=condition.swap or None,
        )
        for name, array in (
            ("inphase", scan.in_phase),
            ("outphase", scan.out_phase),
            ("water", scan.water),
            ("fat", scan.fat),
            ("dseg", scan.labels),
        ):
            path, grid = folder / f"{subject.name}_{name}.nii.gz", scan.grid
            write_volume(path, array, grid.affine, grid.stored_axes)


def row(condition: Condition, folder: Path, weights: Path | None) -> str:
    own = ["--weights", str(weights)] if weights else []
    cervjax(
        ["infer", str(folder / "scans"), "-o", str(folder / "out"), *own, "--overwrite"]
    )
    rows = []
    for pair in find_pairs(folder / "out", folder / "scans")[0]:
        rows += [r for r in compare(pair) if r["tp"] + r["fn"] > 200]  # in the picture
    found, true = (column(rows, f"{w}_mfi_percent") for w in ("predicted", "reference"))
    error = np.abs(found - true)
    dice = {key: column(own, "dice").mean() for key, own in by_muscle(rows).items()}
    worst = min(dice, key=lambda key: dice[key])
    ratio, mean = column(rows, "volume_ratio").mean(), np.mean(list(dice.values()))
    return (
        f"| {condition.factor} | {condition.level} | {mean:.3f} | {ratio:.3f} | "
        f"{np.nanmean(error):.2f}, {np.nanmax(error):.2f} | {worst} {dice[worst]:.2f} |"
    )


if __name__ == "__main__":
    main()
