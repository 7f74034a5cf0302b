"""Whether exchanged water and fat are found: digital necks, each also with a swap.

python benchmarks/swaps.py NECKS   # a folder of `cervjax phantom`
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from cervjax.io.dixon import FatWater, read_scan
from cervjax.io.labels import find_labelled, read_labels
from cervjax.measurement.swaps import swapped_region
from cervjax.phantom import artefacts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("necks", type=Path)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    found = {True: [0, 0], False: [0, 0]}
    for scan in find_labelled(args.necks)[0]:
        images = read_scan(scan.scan)
        labels = read_labels(scan.labels, images.grid)
        ml = images.grid.voxel_volume_ml
        own = images.scanner
        (record,) = args.necks.rglob(f"{scan.scan.name}_desc-truth.json")
        if own is None or json.loads(record.read_text())["settings"]["fat_water_swap"]:
            continue
        region = artefacts.swapped_region(labels.shape, rng)
        for swapped in (False, True):
            water = np.where(region & swapped, own.fat, own.water)
            fat = np.where(region & swapped, own.water, own.fat)
            pair = FatWater(fat, water, own.source)
            seen = swapped_region(labels, replace(images, scanner=pair))
            inside = ml * np.count_nonzero(region & (labels > 0))
            if swapped and inside < 1:
                continue  # it does not reach a millilitre of muscle
            found[swapped][int(bool(seen.any()))] += 1
    for swapped, (no, yes) in found.items():
        name, right = ("sensitivity", yes) if swapped else ("specificity", no)
        print(f"{name} {right / max(no + yes, 1):.2f} ({right} of {no + yes})")


if __name__ == "__main__":
    main()
