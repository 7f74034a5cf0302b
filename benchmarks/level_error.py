"""How far the levels of slices are off, in slices and millimetres.

    cervjax phantom -o necks --subjects 8 --seed 515153
    python infer.py necks -o out
    python benchmarks/level_error.py out necks
    python benchmarks/level_error.py --images ../shared/real

Digital necks: the side-cars of the results against ``_levels.nii.gz`` of the truth.
Images: folders with ``image.nii.gz`` and ``levels.json`` (``disc_slice``: where a
reader saw the discs). An error is that of a border between two levels, which both name.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np

import cervjax
from cervjax.inference.levels import LEVEL_NUMBERS

_NAMES = list(LEVEL_NUMBERS)
_BORDERS = ["C2/3", "C3/4", "C4/5", "C5/6", "C6/7", "C7/T1"]


def main() -> None:
    """Prints a row per scan, and the means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="?", help="of infer.py")
    parser.add_argument("truth", type=Path, nargs="?", help="of cervjax phantom")
    parser.add_argument("--images", type=Path, help="folder of outlined images")
    parser.add_argument("--weights", type=Path, help="for --images")
    args = parser.parse_args()
    if args.images is None and args.truth is None:
        parser.error("give RESULTS and TRUTH, or --images FOLDER")
    scans = of_images(args) if args.images else of_necks(args.results, args.truth)
    print(f"{'scan':<24} error in slices of the border below (+ is too high)")
    errors, in_mm = [], []
    for name, found, true, mm in scans:
        error = {b: found[b] - true[b] for b in _BORDERS if b in found and b in true}
        cells = "  ".join(f"{b[:2]} {e:+.1f}" for b, e in error.items())
        missing = [b[:2] for b in true if b not in found]
        print(f"{name:<24} {cells}  not found: {', '.join(missing) or 'none'}")
        errors += list(error.values())
        in_mm += [e * mm for e in error.values()]
    if not errors:
        raise SystemExit("no border was found")
    size, size_mm = np.abs(errors), np.abs(in_mm)
    print(
        f"{len(errors)} borders: mean {size.mean():.2f} slices ({size_mm.mean():.1f} "
        f"mm), 95 % below {np.percentile(size, 95):.1f} "
        f"({np.percentile(size_mm, 95):.1f} mm), largest {size.max():.1f}"
    )


Scan = tuple[str, dict[str, float], dict[str, float], float]


def of_necks(results: Path, truth: Path) -> Iterator[Scan]:
    """Name, borders found and true in slices from below, and the slices' distance."""
    for path in sorted(truth.rglob("*_levels.nii.gz")):
        name = path.name.removesuffix("_levels.nii.gz")
        for side_car in results.rglob(f"{name}*_dseg.json"):
            image = nib.as_closest_canonical(nib.load(path))
            levels = np.asarray(image.dataobj)
            number = [
                int(np.bincount(s[s > 0]).argmax()) if s.any() else 0 for s in levels.T
            ]
            content = json.loads(side_car.read_text())
            yield (
                name,
                _of_levels(content["Levels"]),
                _of_numbers(np.array(number)),
                float(image.header.get_zooms()[2]),
            )


def of_images(args: argparse.Namespace) -> Iterator[Scan]:
    """The same, of real images."""
    weights = {"weights": args.weights} if args.weights else {}
    for case in sorted(p.parent for p in args.images.glob("*/levels.json")):
        discs = json.loads((case / "levels.json").read_text())["disc_slice"]
        path = case / "image.nii.gz"
        result = cervjax.segment(path, path, **weights)
        levels = [v._asdict() for v in result.levels or ()]
        mm = float(nib.load(path).header.get_zooms()[2])
        yield case.name, _of_levels(levels), discs, mm


def _of_levels(levels: list[dict]) -> dict[str, float]:
    """Borders halfway between the last slice of one and the first of the next."""
    at = {v["level"]: v for v in levels}
    neighbours = zip(_BORDERS, _NAMES, _NAMES[1:], strict=False)
    return {
        border: (at[upper]["first_slice"] + at[lower]["last_slice"]) / 2
        for border, upper, lower in neighbours
        if upper in at and lower in at
    }


def _of_numbers(number: np.ndarray) -> dict[str, float]:
    levels = [
        {"level": n, "first_slice": at[0], "last_slice": at[-1]}
        for n in _NAMES
        if len(at := np.flatnonzero(number == LEVEL_NUMBERS[n]))
    ]
    return _of_levels(levels)


if __name__ == "__main__":
    main()
