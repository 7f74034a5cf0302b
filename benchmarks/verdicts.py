"""How often verdicts are right: good scans, hard ones, and what should not be measured.

    python benchmarks/verdicts.py NECKS [--weights FILE] [--scans FOLDER] [--count 6]

NECKS is a folder of `cervjax phantom`. Each neck is segmented as it is, and in a few
ways that a scan can be wrong: upside down, mirrored, back to front, half of it, echoes
exchanged, identical or on another scale, noise. A muscle is good if MFI and volume are
near the truth of the digital neck; of what is wrong nothing should be used. Other scans
(thighs, calves) may be given: nothing in them should be used either.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np

import cervjax
from cervjax.io.nifti import read_nifti
from cervjax.io.pairing import find_scans
from cervjax.io.tables import read_rows
from cervjax.model.weights import SHIPPED, load_weights

MFI_POINTS, VOLUME_SHARE = 3.0, 0.35
"""A muscle is good within these of the truth."""


def wrong_ways(ip: np.ndarray, op: np.ndarray) -> dict[str, tuple]:
    """Pairs that should not be measured, by what is wrong with them."""
    rng = np.random.default_rng(0)
    half = ip.shape[0] // 2
    return {
        "upside down": (ip[..., ::-1], op[..., ::-1]),
        "mirrored": (ip[::-1], op[::-1]),  # cannot be seen: necks are symmetric
        "back to front": (ip[:, ::-1], op[:, ::-1]),
        "half": (ip[:half], op[:half]),
        "exchanged": (op, ip),
        "identical": (ip, ip),
        "scaled 0.7": (ip, 0.7 * op),
        "noise": tuple(np.abs(rng.normal(0, 100, (2, *ip.shape)))),
    }


def verdicts(ip, op, affine, weights) -> list[dict]:
    result = cervjax.segment(
        ip.astype(np.float32), op.astype(np.float32), affine=affine, weights=weights
    )
    return result.rows


def is_good(row: dict, truth: dict[str, str]) -> bool:
    if not truth["volume_ml"] or not float(truth["volume_ml"]):
        return not row["voxels"]
    mfi = abs(row["mfi_percent"] - float(truth["mfi_image_percent"]))
    volume = row["volume_ml"] / float(truth["volume_ml"])
    return mfi <= MFI_POINTS and abs(np.log(max(volume, 1e-9))) <= VOLUME_SHARE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("necks", type=Path)
    parser.add_argument("--weights", type=Path, default=SHIPPED)
    parser.add_argument("--scans", type=Path, nargs="*", default=[])
    parser.add_argument("--count", type=int, default=6)
    parser.add_argument("--wrong", type=int, default=1, help="necks made wrong")
    args = parser.parse_args()
    weights = load_weights(args.weights)
    table = read_rows(args.necks / "truth.csv")
    truth = {(r["scan"], int(r["label"])): r for _, r in table}
    counts: Counter[tuple[str, str]] = Counter()
    found, _ = find_scans(args.necks)
    for i, scan in enumerate(found[: args.count]):
        images = [read_nifti(scan.files[r]) for r in ("in_phase", "out_phase")]
        ip, op = (image.data for image in images)
        for row in verdicts(ip, op, images[0].affine, weights):
            good = is_good(row, truth[scan.name, row["label"]])
            counts["good" if good else "bad", row["verdict"]] += 1
            if good != (row["verdict"] == "use"):
                error = row["mfi_percent"] - float(
                    truth[scan.name, row["label"]]["mfi_image_percent"] or "nan"
                )
                print(
                    f"{scan.name} {row['muscle']} {row['side']}: {row['verdict']}, "
                    f"MFI {error:+.1f} points ({row['reasons']})"
                )
        for way, pair in wrong_ways(ip, op).items() if i < args.wrong else ():
            for row in verdicts(*pair, images[0].affine, weights):
                counts[way, row["verdict"]] += 1
    for folder in args.scans:
        for scan in find_scans(folder)[0]:
            images = [read_nifti(scan.files[r]) for r in ("in_phase", "out_phase")]
            pair = (image.data for image in images)
            for row in verdicts(*pair, images[0].affine, weights):
                counts[scan.name, row["verdict"]] += 1
    print(f"{'':16} {'use':>6} {'look':>6} {'not':>6}")
    for case in dict.fromkeys(case for case, _ in counts):
        row = [counts[case, verdict] for verdict in ("use", "look", "do_not_use")]
        print(f"{case:16} {row[0]:6} {row[1]:6} {row[2]:6}")
    for case, kept in (("good", ("use",)), ("bad", ("look", "do_not_use"))):
        own = sum(n for (c, _), n in counts.items() if c == case)
        right = sum(counts[case, verdict] for verdict in kept)
        name = "specificity" if case == "good" else "sensitivity"
        print(f"{name} {right / own:.2f} ({right} of {own})" if own else name)


if __name__ == "__main__":
    main()
