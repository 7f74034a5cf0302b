"""Compares a cohort of digital necks with the paper.

``python benchmarks/cohort_check.py FOLDER``

Prints, per muscle, volume and MFI by the paper's rule beside the paper's manual values
(Table 2: mean of the network less its bias; SD = SE sqrt(18), of the network), and the
effects of sex and age found by least squares beside those drawn. Last, the share of
subjects whose MFI is more than a point above what was drawn: partial volume alone.
"""

import csv
import sys
from pathlib import Path

import numpy as np

from cervjax.anatomy import MUSCLES
from cervjax.phantom.subject import AGE_SLOPE_POINTS_PER_YEAR, MEAN_MFI_PERCENT

# Volume in ml, its SD, and the SD of MFI in points.
PAPER = {
    "MFSS_L": (16.4, 4.2, 4.2),
    "MFSS_R": (15.8, 4.7, 5.1),
    "LC_L": (5.4, 1.7, 4.2),
    "LC_R": (5.5, 1.7, 4.2),
    "SSCap_L": (11.6, 4.2, 4.2),
    "SSCap_R": (11.8, 4.2, 4.2),
    "SPCap_L": (6.9, 1.7, 4.2),
    "SPCap_R": (7.3, 2.1, 4.2),
    "LS_L": (7.1, 3.0, 2.5),
    "LS_R": (7.1, 3.0, 3.0),
    "SCM_L": (13.7, 4.7, 3.8),
    "SCM_R": (14.7, 5.1, 3.8),
    "TR_L": (4.8, 2.1, 3.4),
    "TR_R": (4.5, 2.5, 3.4),
}

ABOVE_POINTS = 1.0


def main(folder: str) -> None:
    """Reads the tables of a cohort and prints the comparison."""
    with open(Path(folder) / "truth.csv") as stream:
        truth = list(csv.DictReader(stream))
    with open(Path(folder) / "participants.tsv") as stream:
        subjects = {
            row["participant_id"]: row for row in csv.DictReader(stream, delimiter="\t")
        }
    print(
        "| muscle | volume ml | paper | MFI % | paper | women - men | +- | "
        "per year | +- | drawn | above |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    inside, ratios = 0, []
    for m in MUSCLES:
        rows = [r for r in truth if int(r["label"]) == m.label]
        who = [subjects[r["participant_id"]] for r in rows]
        volume = np.array([float(r["volume_ml"]) for r in rows])
        mfi = np.array([float(r["mfi_signal_percent"]) for r in rows])
        drawn = np.array([float(r["mfi_drawn_percent"]) for r in rows])
        above = np.mean(mfi > drawn + ABOVE_POINTS)
        female = np.array([p["sex"] == "F" for p in who], float)
        age = np.array([float(p["age"]) for p in who])
        design = np.stack([np.ones_like(age), female, age - age.mean()], 1)
        beta, *_ = np.linalg.lstsq(design, mfi, rcond=None)
        residual = mfi - design @ beta
        variance = residual @ residual / (len(mfi) - 3)
        se = np.sqrt(np.diag(variance * np.linalg.inv(design.T @ design)))
        paper_ml, sd_ml, sd_mfi = PAPER[m.key]
        inside += abs(volume.mean() - paper_ml) <= sd_ml
        ratios.append(volume)
        print(
            f"| {m.key} | {volume.mean():.1f} +- {volume.std(ddof=1):.1f} "
            f"| {paper_ml} +- {sd_ml} "
            f"| {mfi.mean():.1f} +- {mfi.std(ddof=1):.1f} "
            f"| {MEAN_MFI_PERCENT[m.key]} +- {sd_mfi} "
            f"| {beta[1]:.1f} | {se[1]:.1f} | {beta[2]:.2f} | {se[2]:.2f} "
            f"| {AGE_SLOPE_POINTS_PER_YEAR[m.abbreviation]} | {100 * above:.0f} % |"
        )
    right, left = np.array(ratios[0::2]), np.array(ratios[1::2])
    print(
        f"\n{len(mfi)} scans; {inside} of 14 mean volumes within the paper's SD; "
        f"right / left {np.mean(right / left):.3f}"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
