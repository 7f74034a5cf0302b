"""How far the sliding window is from whole mode, in volumes and MFI.

    python benchmarks/modes.py scans/ -o runs/modes --window 360 240 104 \\
        --window 240 176 104

Segments the scans in whole mode and once more for each window, and prints, as Markdown,
the largest and mean differences over scans and muscles.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from cervjax.cli.main import main as cervjax


def measured(
    scans: Path, output: Path, *flags: str
) -> dict[tuple[str, str], list[float]]:
    """Volume (ml) and MFI (%) by scan and label."""
    cervjax(["infer", str(scans), "-o", str(output), *flags])
    with open(output / "measurements.csv", newline="") as stream:
        return {
            (row["scan"], row["label"]): [
                float(row[key] or "nan") for key in ("volume_ml", "mfi_percent")
            ]
            for row in csv.DictReader(stream)
        }


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="Sliding window against whole mode")
    parser.add_argument("scans", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--window", nargs=3, action="append", required=True)
    flags = parser.parse_args()
    own = ["--weights", str(flags.weights)] if flags.weights else []
    whole = measured(flags.scans, flags.output / "whole", *own)
    lines = [
        "| window | volume: largest, mean difference (%) "
        "| MFI: largest, mean difference (points) |",
        "|---|---|---|",
    ]
    for window in flags.window:
        name = "x".join(window)
        found = measured(
            flags.scans,
            flags.output / name,
            *own,
            "--mode",
            "sliding_window",
            "--window",
            *window,
        )
        one, other = (
            np.array([table[key] for key in whole]) for table in (whole, found)
        )
        volume = 100 * np.abs(other[:, 0] / one[:, 0] - 1)
        mfi = np.abs(other[:, 1] - one[:, 1])
        lines.append(
            f"| {name} | {np.nanmax(volume):.2f}, {np.nanmean(volume):.2f} "
            f"| {np.nanmax(mfi):.2f}, {np.nanmean(mfi):.2f} |"
        )
    print("\n".join(lines))
    print(f"\n{len({scan for scan, _ in whole})} scan(s)")


if __name__ == "__main__":
    main()
