"""Leave one person out: how good is a network on a person it was not trained on?

python benchmarks/generalisation.py --workdir runs/loo --real ../shared/real

For each person the stages of the package's weights are trained, with fewer steps, on
necks without that person's outlines or mixes with them, and scored on ``clinical``
digital necks of that person and, where the person was traced on an image, on it.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from real_images import SIX, dice_by_muscle, segment

from cervjax.cli.main import main as cervjax
from cervjax.evaluation.table_files import in_brief
from cervjax.model.weights import load_weights
from cervjax.phantom.atlas import anatomy_names

ROOT = Path(__file__).parents[1]
IMAGES = {"gre_adult": "sub-01", "man_41": "man41_t1", "woman_59": "vhf_ct"}
"""Folder of the image on which a person was traced."""


def main() -> None:
    """Trains, scores, prints a row for each person."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--people", nargs="+", default=anatomy_names())
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--steps", type=int, nargs="+", default=(1200, 1200))
    parser.add_argument("--subjects", type=int, default=4)
    parser.add_argument("--real", type=Path, help="folder of traced images")
    parser.add_argument("--cache", default="", help="folder of tissue maps")
    args = parser.parse_args()
    rows = []
    for person in args.people:
        weights = train(person, args)
        rows.append(
            (person, digital(person, weights, args), real(person, weights, args))
        )
    print("| left out | Dice, digital necks of that person | Dice of six, image |")
    print("|---|---|---|")
    for person, on_digital, on_real in rows:
        print(f"| {person} | {on_digital} | {on_real} |")


def train(person: str, args: argparse.Namespace) -> Path:
    """Weights of stages trained one after the other without the person."""
    before: list[str] = []
    configs = sorted((ROOT / "configs").glob("shipped_*.py"))
    for config, steps in zip(configs, args.steps, strict=False):
        workdir = args.workdir / f"{person}-{config.stem}"
        subprocess.run(
            [
                sys.executable,
                str(ROOT / "train.py"),
                f"--config={config}",
                f"--workdir={workdir}",
                f"--config.tissue_maps.without=('{person}',)",
                f"--config.train.num_steps={steps}",
                f"--config.data.cache={args.cache}",
                *before,
            ],
            check=True,
        )
        before = [f"--init-from={workdir}"]
    return workdir / "weights.safetensors"


def digital(person: str, weights: Path, args: argparse.Namespace) -> str:
    """Mean Dice on digital necks of the person, all muscles; TR apart."""
    necks, out = (args.workdir / f"{person}-{part}" for part in ("necks", "found"))
    count = str(args.subjects)
    cervjax(
        ["phantom", "-o", str(necks), "--subjects", count, "--anatomy", person]
        + ["--seed", "9090", "--severity", "clinical"]
    )
    cervjax(["infer", str(necks), "-o", str(out), "--weights", str(weights)])
    tables = args.workdir / f"{person}-tables"
    cervjax(["evaluate", str(out), str(necks), "-o", str(tables)])
    dice = {m: own["dice_mean"] for m, own in in_brief(tables).items()}
    others = [v for k, v in dice.items() if not k.startswith("TR")]
    trapezius = [v for k, v in dice.items() if k.startswith("TR")]
    return f"{sum(others) / len(others):.3f}, TR {sum(trapezius) / 2:.3f}"


def real(person: str, weights: Path, args: argparse.Namespace) -> str:
    """Mean Dice of six muscles on the image on which the person was traced."""
    if not args.real or person not in IMAGES:
        return "-"
    case = args.real / IMAGES[person]
    found = segment(case / "image.nii.gz", load_weights(weights))
    means = []
    for which in ("levels", "all"):
        dice = dice_by_muscle(case, found, which)
        means.append(sum(dice[m] for m in SIX) / len(SIX))
    return f"{means[0]:.3f} at Table 1's levels, {means[1]:.3f} on all slices"


if __name__ == "__main__":
    main()
