"""What shared shapes cost in voxels and spare in compilations, in made-up cohorts.

    python benchmarks/buckets.py

A cohort is drawn many times: necks of random width and depth, cropped to the body, at
1 mm with the package's padding, seen in the frames of one or more protocols. For each
way to round shapes up, the table gives the different shapes (compilations) of 20 scans
and the voxels computed over those needed. No network is run.
"""

import argparse
from collections.abc import Callable

import numpy as np

from cervjax.inference.tiling import bucket_shape

COHORTS = {
    "paper": [(320, 190, 40)],  # 457 x 271 x 40 voxels of 0.7 x 0.7 x 3 mm
    "paper, 320x192x60": [(320, 190, 40), (320, 192, 60)],
    "five protocols": [
        *[(320, 190, 40), (320, 192, 60), (240, 240, 32)],
        *[(300, 220, 50), (256, 192, 28)],
    ],
}
"""Frames in mm and slices."""
Size = tuple[int, int, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scans", type=int, default=20, help="of a cohort (20)")
    parser.add_argument("--draws", type=int, default=50, help="of a cohort (50)")
    flags = parser.parse_args()
    ways: dict[str, Callable[[Size], Size]] = {
        "multiples of 8": multiples(8, 8, 8),
        "of 16, 16, 8": multiples(16, 16, 8),
        "of 64, 64, 24": multiples(64, 64, 24),
        "cervjax": bucket_shape,
    }
    head = "".join(f"{name:>26}" for name in COHORTS)
    print(f"{'':16}{head}\n{'':16}" + f"{'shapes (most)   voxels':>26}" * len(COHORTS))
    for name, way in ways.items():
        cells = (cost(way, frames, flags) for frames in COHORTS.values())
        print(f"{name:16}" + "".join(f"{cell:>26}" for cell in cells))


def multiples(*of: int) -> Callable[[Size], Size]:
    def way(size: Size) -> Size:
        x, y, z = (-(-n // m) * m for n, m in zip(size, of, strict=True))
        return x, y, z

    return way


def cost(
    way: Callable[[Size], Size], frames: list[Size], flags: argparse.Namespace
) -> str:
    rng = np.random.default_rng(0)
    shapes, voxels = [], []
    for _ in range(flags.draws):
        sizes = draw(rng, frames, flags.scans)
        found = [way(size) for size in sizes]
        shapes.append(len(set(found)))
        voxels.append(np.prod(found, 1).sum() / np.prod(sizes, 1).sum())
    return f"{np.mean(shapes):.1f} ({max(shapes)})  x {np.mean(voxels):.2f}"


def draw(rng: np.random.Generator, frames: list[Size], count: int) -> list[Size]:
    """Padded sizes of scans; the digital necks of the demo measure 204 x 171 mm."""
    sizes = []
    for _ in range(count):
        width, depth, slices = frames[rng.integers(len(frames))]
        stature = rng.normal(1, 0.08)
        x, y = (round(n * stature * rng.normal(1, 0.04)) for n in (204, 171))
        sizes.append((min(x, width) + 16, min(y, depth) + 16, slices + 8))
    return sizes


if __name__ == "__main__":
    main()
