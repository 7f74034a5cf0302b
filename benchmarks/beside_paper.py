"""An evaluation beside the paper's Tables 2-4, as Markdown.

    python benchmarks/beside_paper.py tables/

`tables/` is what `cervjax evaluate` wrote. The paper's figures (weber2021.csv: Weber et
al. 2021, CC BY 4.0) are in brackets: real scans and other raters, no measure of these.
"""

import argparse
import csv
from pathlib import Path

from cervjax.evaluation.table_files import in_brief

COLUMNS = {
    "dice": ("Dice", "dice_mean", ".3f"),
    "volume_ratio": ("volume ratio", "volume_ratio_mean", ".2f"),
    "mfi_bias": ("MFI bias", "mfi_bias", "+.2f"),
    "mfi_mae": ("MFI MAE", "mfi_mae", ".2f"),
    "mfi_rmse": ("MFI RMSE", "mfi_rmse", ".2f"),
    "mfi_icc": ("MFI ICC(2,1)", "mfi_icc", ".3f"),
    "volume_icc": ("volume ICC(2,1)", "volume_icc", ".3f"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", type=Path)
    flags = parser.parse_args()
    found = in_brief(flags.tables)
    with open(Path(__file__).with_name("weber2021.csv"), newline="") as stream:
        paper = {row["muscle"]: row for row in csv.DictReader(stream)}
    print(f"| muscle | {' | '.join(name for name, *_ in COLUMNS.values())} |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for muscle, own in found.items():
        cells = []
        for key, (_, column, form) in COLUMNS.items():
            value = own[column]
            ours = "-" if value is None else format(value, form)
            cells.append(f"{ours} ({paper[muscle][key]})")
        print(f"| {muscle} | {' | '.join(cells)} |")
    means = [own["dice_mean"] for own in found.values() if own["dice_mean"]]
    print(f"\nMean Dice {sum(means) / len(means):.3f}.")


if __name__ == "__main__":
    main()
