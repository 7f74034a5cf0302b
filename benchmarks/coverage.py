"""How often 95 % intervals hold the truth, per muscle.

    cervjax phantom -o fit --subjects 6 --seed 2401
    cervjax phantom -o test --subjects 8 --seed 2402
    python infer.py fit -o fit_found
    python infer.py test -o test_found
    cervjax intervals fit_found fit -o table.intervals.json
    python benchmarks/coverage.py test_found test --intervals table.intervals.json

People of another seed than those that the table was learnt on. Without `--intervals`
the columns of the results are tested as they are, calibrated or not.
"""

import argparse
from pathlib import Path

import numpy as np

from cervjax.anatomy import MUSCLES
from cervjax.evaluation.intervals import inside, observe
from cervjax.measurement.interval_table import read_intervals
from cervjax.measurement.intervals import apply


def main() -> None:
    """Prints a row per muscle."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("results", type=Path, help="of infer.py")
    parser.add_argument("truth", type=Path, help="of cervjax phantom")
    parser.add_argument("--intervals", type=Path, help="of cervjax intervals")
    args = parser.parse_args()
    observed = observe(args.results, args.truth)
    rows = observed.rows
    basis = {one.row["interval_basis"] for one in rows}
    ends = [one.row for one in rows]
    if args.intervals is not None:
        table = read_intervals(args.intervals)
        if not table.fit_to(observed.weights_sha256, observed.settings):
            parser.error(f"{args.intervals} is of other weights or settings")
        ends, basis = [apply(row, table.factors) for row in ends], {table.source}
    held = inside(rows, ends)
    half = np.array(
        [
            (
                (end["mfi_high_percent"] - end["mfi_low_percent"]) / 2,
                50 * (end["volume_high_ml"] - end["volume_low_ml"]) / one.volume_ml,
            )
            for one, end in zip(rows, ends, strict=True)
        ]
    )
    print(f"{observed.people} people; intervals: {', '.join(sorted(basis))}")
    print("muscle     n   MFI in, %  half width, points   volume in, %  half width, %")
    of_row = np.array([one.row["muscle"] for one in rows])
    for muscle in (*(m.abbreviation for m in MUSCLES[::2]), "all"):
        own = (of_row == muscle) | (muscle == "all")
        share, wide = 100 * held[own].mean(0), np.median(half[own], 0)
        print(
            f"{muscle:8} {own.sum():3}   {share[0]:9.1f}  {wide[0]:18.2f}"
            f"   {share[1]:12.1f}  {wide[1]:13.1f}"
        )


if __name__ == "__main__":
    main()
