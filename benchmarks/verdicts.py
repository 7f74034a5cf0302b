"""How often verdicts are right: good scans, hard ones, and what should not be measured.

python benchmarks/verdicts.py clinical/ hard/ --wrong 2 \\
    --alone ../shared/real/*/image.nii.gz --scans ../shared/scans --record rows.csv
python benchmarks/verdicts.py --record rows.csv      # prints it again

Folders of `cervjax phantom` come first: a muscle is good if MFI and volume are near the
truth of its neck. Some of the necks are made wrong (upside down, mirrored, half, echoes
exchanged, noise, ...), images of one contrast go into both channels (``--alone``), and
other parts of bodies may be given (``--scans``): of those no muscle should be used.
"""

import argparse
import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import cervjax
from cervjax.io.nifti import read_nifti
from cervjax.io.pairing import find_scans
from cervjax.io.tables import read_rows
from cervjax.model.weights import SHIPPED, load_weights

MFI_POINTS, VOLUME_SHARE = 3.0, 0.35
"""A muscle is good within these of the truth."""
COLUMNS = (
    *("case", "scan", "muscle", "side", "truth", "verdict", "reasons"),
    *("mfi_error", "volume_ratio", "confidence_mean"),
)
UNSEEN = "mirrored"
"""Left for right in the header: necks are symmetric, so nothing in the image tells."""


def wrong_ways(ip: np.ndarray, op: np.ndarray) -> dict[str, tuple]:
    """Pairs that should not be measured, by what is wrong with them."""
    rng = np.random.default_rng(0)
    half = ip.shape[0] // 2
    return {
        "upside down": (ip[..., ::-1], op[..., ::-1]),
        UNSEEN: (ip[::-1], op[::-1]),
        "back to front": (ip[:, ::-1], op[:, ::-1]),
        "left half": (ip[:half], op[:half]),
        "exchanged": (op, ip),
        "identical": (ip, ip),
        "scaled 0.7": (ip, 0.7 * op),
        "noise": tuple(np.abs(rng.normal(0, 100, (2, *ip.shape)))),
    }


def cut_ways(ip: np.ndarray, op: np.ndarray) -> dict[str, tuple]:
    """Parts of a neck, some of whose muscles may be good."""
    half = ip.shape[2] // 2
    return {
        "lower half": (ip[..., :half], op[..., :half]),
        "upper half": (ip[..., half:], op[..., half:]),
    }


def is_good(row: dict, truth: dict[str, str]) -> bool:
    if not truth["volume_ml"] or not float(truth["volume_ml"]):
        return not row["voxels"]
    mfi = abs(row["mfi_percent"] - float(truth["mfi_image_percent"]))
    volume = row["volume_ml"] / float(truth["volume_ml"])
    return mfi <= MFI_POINTS and abs(np.log(max(volume, 1e-9))) <= VOLUME_SHARE


def judged(
    case: str, name: str, images: tuple, weights, truth: dict | None = None
) -> Iterator[dict[str, Any]]:
    """A record per muscle; its truth is "good", "bad" or "none" (nothing to measure).

    Args:
        case: what kind of scan.
        name: of the scan.
        images: in-phase, out-of-phase and affine.
        weights: loaded.
        truth: rows of ``truth.csv`` by label.
    """
    ip, op, affine = images
    pair = (image.astype(np.float32) for image in (ip, op))
    try:
        rows: list[dict[str, Any]] = cervjax.segment(
            *pair, affine=affine, weights=weights
        ).rows
    except ValueError as error:
        own = {"verdict": "refused", "reasons": str(error), "truth": "none"}
        rows = [{"muscle": "all", "side": "", "label": 0} | own]
        truth = None
    for row in rows:
        record = {column: row.get(column, "") for column in COLUMNS}
        record |= {"case": case, "scan": name, "truth": "none"}
        if truth:
            true = truth[row["label"]]
            record["truth"] = "good" if is_good(row, true) else "bad"
            told = float(true["mfi_image_percent"] or "nan")
            record["mfi_error"] = f"{row['mfi_percent'] - told:+.1f}"
            volume = float(true["volume_ml"] or 0)
            record["volume_ratio"] = (
                f"{row['volume_ml'] / volume:.2f}" if volume else ""
            )
        yield record


def digital(folder: Path, weights, count: int, wrong: int) -> Iterator[dict]:
    """Of digital necks, and of those made wrong."""
    by_scan: dict[str, dict[int, dict]] = {}
    for _, row in read_rows(folder / "truth.csv"):
        by_scan.setdefault(row["scan"], {})[int(row["label"])] = row
    for i, scan in enumerate(find_scans(folder)[0][:count]):
        read = [read_nifti(scan.files[r]) for r in ("in_phase", "out_phase")]
        (ip, op), affine = (image.data for image in read), read[0].affine
        true = by_scan[scan.name]
        yield from judged(folder.name, scan.name, (ip, op, affine), weights, true)
        for way, pair in cut_ways(ip, op).items() if i < wrong else ():
            yield from judged(way, scan.name, (*pair, affine), weights, true)
        for way, pair in wrong_ways(ip, op).items() if i < wrong else ():
            yield from judged(way, scan.name, (*pair, affine), weights)


def other_scans(args: argparse.Namespace, weights) -> Iterator[dict]:
    """Of images of one contrast, and of other parts of bodies."""
    for path in args.alone:
        image = read_nifti(path)
        name = path.parent.name if path.name.startswith("image") else path.name
        images = (image.data, image.data, image.affine)
        yield from judged("one contrast", name, images, weights)
    for folder in args.scans:
        for scan in find_scans(folder)[0]:
            read = [read_nifti(scan.files[r]) for r in ("in_phase", "out_phase")]
            images = (read[0].data, read[1].data, read[0].affine)
            yield from judged(scan.name, scan.name, images, weights)


def print_matrix(records: list[dict[str, str]]) -> None:
    """Misses one by one, then what was found of what is true."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for r in records:
        counts[r["case"], r["truth"], r["verdict"]] += 1
        used = r["verdict"] == "use"
        if used != (r["truth"] == "good") and r["case"] != UNSEEN:
            what = f"{r['case']} {r['scan']} {r['muscle']} {r['side']}"
            off = f"MFI {r['mfi_error']}, volume x {r['volume_ratio']}"
            print(f"{what}: {r['truth']}, {r['verdict']}; {off} ({r['reasons']})")
    verdicts = ("use", "look", "do_not_use", "refused")
    print(f"\n{'scans':16} {'truth':5} " + " ".join(f"{v:>10}" for v in verdicts))
    for case, truth in dict.fromkeys((c, t) for c, t, _ in counts):
        row = " ".join(f"{counts[case, truth, v]:10}" for v in verdicts)
        print(f"{case:16} {truth:5} {row}")
    for truth, name in (("good", "specificity"), ("bad", "sensitivity, muscles")):
        _print_share(name, counts, truth, keep=truth == "good")
    _print_share("sensitivity, scans that are wrong", counts, "none", keep=False)


def _print_share(name: str, counts: Counter, truth: str, *, keep: bool) -> None:
    own = {(c, v): n for (c, t, v), n in counts.items() if t == truth and c != UNSEEN}
    right = sum(n for (_, v), n in own.items() if (v == "use") == keep)
    total = sum(own.values())
    if total:
        print(f"{name}: {right / total:.3f} ({right} of {total})")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("necks", type=Path, nargs="*", help="folders of digital necks")
    parser.add_argument("--weights", type=Path, default=SHIPPED)
    parser.add_argument("--alone", type=Path, nargs="*", default=[], help="images")
    parser.add_argument("--scans", type=Path, nargs="*", default=[], help="folders")
    parser.add_argument("--count", type=int, default=18, help="necks of each folder")
    parser.add_argument("--wrong", type=int, default=1, help="necks made wrong, each")
    parser.add_argument("--record", type=Path, help="CSV of all muscles; grows")
    args = parser.parse_args()
    records: list[dict] = []
    if args.record and args.record.exists():
        records = [row for _, row in read_rows(args.record)]
    weights = None
    if args.necks or args.alone or args.scans:
        weights = load_weights(args.weights)
    sources = [digital(f, weights, args.count, args.wrong) for f in args.necks]
    for record in (r for s in (*sources, other_scans(args, weights)) for r in s):
        record = {column: str(record.get(column, "")) for column in COLUMNS}
        records.append(record)
        if args.record:
            _append(args.record, record)
    print_matrix(records)


def _append(path: Path, record: dict[str, str]) -> None:
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS], lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(record)


if __name__ == "__main__":
    main()
