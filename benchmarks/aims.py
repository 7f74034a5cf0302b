"""What was aimed at for weights, and where evaluations miss it, as Markdown.

    python benchmarks/aims.py tables_a/ tables_b/

Each folder is what `cervjax evaluate` wrote. A cell holds the worst muscle's figure;
what misses its aim is bold, and named in full in the last column.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cervjax.evaluation.table_files import in_brief


class Aim(NamedTuple):
    """One column: how far off a muscle's figure is, and how far it may be."""

    title: str
    column: str
    form: str
    distance: Callable[[float], float]
    limit: Callable[[str], float]


AIMS = (
    Aim(
        "Dice",
        "dice_mean",
        ".3f",
        lambda v: 1 - v,
        lambda muscle: 0.25 if muscle.startswith("TR") else 0.15,
    ),
    Aim(
        "volume ratio",
        "volume_ratio_mean",
        ".2f",
        lambda v: abs(round(v, 2) - 1),
        lambda muscle: 0.05 + 1e-9,
    ),
    Aim("MFI bias", "mfi_bias", "+.2f", abs, lambda muscle: 0.5),
    Aim("MFI MAE", "mfi_mae", ".2f", abs, lambda muscle: 1.0),
    Aim("MFI RMSE", "mfi_rmse", ".2f", abs, lambda muscle: 1.5),
    Aim("MFI ICC", "mfi_icc", ".3f", lambda v: 1 - v, lambda muscle: 0.05),
    Aim("volume ICC", "volume_icc", ".3f", lambda v: 1 - v, lambda muscle: 0.15),
)


def row(folder: Path) -> list[str]:
    """The cells of one evaluation."""
    found = in_brief(folder)
    dice = [own["dice_mean"] for own in found.values() if own["dice_mean"] is not None]
    mean = f"{sum(dice) / len(dice):.3f}" if dice else "-"
    cells, missed = [folder.name, mean], []
    for aim in AIMS:
        values = {m: own[aim.column] for m, own in found.items()}
        told = {m: v for m, v in values.items() if v is not None}
        if not told:
            cells.append("-")
            continue
        over = {m: aim.distance(v) - aim.limit(m) for m, v in told.items()}
        worst = max(over, key=lambda m: over[m])
        cell = f"{told[worst]:{aim.form}} {worst}"
        cells.append(f"**{cell}**" if over[worst] > 0 else cell)
        missed += [
            f"{aim.title} {m} {told[m]:{aim.form}}" for m, by in over.items() if by > 0
        ]
    return [*cells, "; ".join(missed) or "nothing"]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="Where evaluations miss")
    parser.add_argument("tables", type=Path, nargs="+")
    args = parser.parse_args()
    try:
        rows = [row(folder) for folder in args.tables]
    except ValueError as error:
        parser.error(str(error))
    titles = ["cohort", "mean Dice", *(aim.title for aim in AIMS), "missed"]
    print(f"| {' | '.join(titles)} |")
    print("|---" * len(titles) + "|")
    for cells in rows:
        print(f"| {' | '.join(cells)} |")
    print(
        "\nAimed at, per muscle: Dice 0.85 (TR 0.75), volume ratio 0.95-1.05, MFI bias "
        "0.5, MAE 1.0, RMSE 1.5 points, MFI ICC(2,1) 0.95, volume ICC(2,1) 0.85."
    )


if __name__ == "__main__":
    main()
