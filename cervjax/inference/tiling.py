"""Where a volume is cut into windows, and what is kept of each: data, no network.

The whole volume is one window; NiftyNet's grid is many, whose borders are cut and where
later windows overwrite earlier ones.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cervjax.inference.types import Settings, Size

FRAMES = (
    *((32, 32), (64, 64), (96, 96), (128, 128), (160, 144), (224, 192)),
    *((256, 208), (336, 208), (352, 272), (480, 352), (640, 400)),
)
"""Whole volumes are extended along x and y to the first that holds them, so that scans
share programs. Close where necks are, at 1 mm, with 8 voxels around: 224 x 192 holds
most, 336 x 208 a whole frame of 320 x 190 mm, and 640 x 400 one of NiftyNet's recipe.
`benchmarks/buckets.py` shows what they cost and spare."""
HEIGHTS = (8, 16, 24, 32, 48, 56, 72)
"""The same along z; beyond the last, multiples of 24."""

Box = tuple[slice, ...]


class Tile(NamedTuple):
    """A window's place.

    Attributes:
        start: its first voxel in the volume.
        kept: the box of the volume that it decides.
    """

    start: Size
    kept: Box

    def inside(self, start: tuple[int, ...] | None = None) -> Box:
        """The kept box, counted from the window's first voxel, or from ``start``."""
        origin = self.start if start is None else start
        return tuple(
            slice(k.start - s, k.stop - s)
            for k, s in zip(self.kept, origin, strict=True)
        )


@dataclass(frozen=True)
class Tiling:
    """A volume cut into windows.

    Attributes:
        shape: of the volume, extended at its far ends so that windows fit.
        window: voxels of each window.
        margin: voxels at both ends of a window that are input but need no label.
        tiles: in the order in which they are written.
    """

    shape: Size
    window: Size
    margin: Size
    tiles: tuple[Tile, ...]


def whole_volume(size: tuple[int, ...], margin: Size) -> Tiling:
    """One window over everything; labels are wanted within the margin."""
    bucket = bucket_shape(size)
    kept = tuple(slice(m, n - m) for n, m in zip(size, margin, strict=True))
    return Tiling(bucket, bucket, margin, (Tile((0, 0, 0), kept),))


def sliding_window(
    size: tuple[int, ...], settings: Settings, *, even: bool = False
) -> Tiling:
    """NiftyNet's grid of windows.

    Args:
        size: of the volume; where it is smaller than the window it is extended.
        settings: window, border and whether the volume's own border is kept.
        even: windows and kept boxes begin on even voxels, for logits, which stand for
            two; odd borders grow by a voxel.
    """
    window, border = settings.window, settings.border
    if even:
        size = tuple(n + n % 2 for n in size)
        border = tuple(b + b % 2 for b in border)
    x, y, z = map(max, size, window)
    tiles = []
    for start in window_starts((x, y, z), window, border, even=even):
        kept = []
        for s, w, b, n in zip(start, window, border, (x, y, z), strict=True):
            low = 0 if settings.predict_border and s == 0 else b
            high = w if settings.predict_border and s + w == n else w - b
            kept.append(slice(s + low, s + high))
        tiles.append(Tile(start, tuple(kept)))
    return Tiling((x, y, z), window, (0, 0, 0), tuple(tiles))


def window_starts(
    shape: tuple[int, ...],
    window: tuple[int, ...],
    border: tuple[int, ...],
    *,
    even: bool = False,
) -> Iterator[Size]:
    """First voxels of NiftyNet's windows, in its order: z fastest, then x, then y.

    Per axis the windows step by window - 2 border and end flush with the volume; where
    two would do, a third in the middle is run last, ``even`` on an even voxel, unless
    it is one of the two.
    """
    xs, ys, zs = (
        _axis_starts(n, w, b, even)
        for n, w, b in zip(shape, window, border, strict=True)
    )
    return ((x, y, z) for y, x, z in itertools.product(ys, xs, zs))


def bucket_shape(shape: tuple[int, ...]) -> Size:
    """The shape that a volume is extended to in whole mode."""
    x, y, z = shape
    beyond = _multiple(x, 128), _multiple(y, 128)
    frame = next((f for f in FRAMES if x <= f[0] and y <= f[1]), beyond)
    height = next((n for n in HEIGHTS if z <= n), _multiple(z, 24))
    return *frame, height


def _multiple(n: int, of: int) -> int:
    """The next one from ``n`` on."""
    return -(-n // of) * of


def extend(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A volume (x, y, z, c) grown at its far ends by repeating its last planes."""
    widths = [(0, n - m) for n, m in zip(shape, image.shape[:3], strict=True)]
    return np.pad(image, [*widths, (0, 0)], mode="edge")


def is_constant(image: np.ndarray, margin: Size) -> bool:
    """Whether the margins are what padding makes: constant along their axis."""
    for axis, m in enumerate(margin):
        lines = np.moveaxis(image, axis, 0)
        if m and not (
            np.array_equal(lines[1:m], lines[: m - 1])
            and np.array_equal(lines[-m:-1], lines[len(lines) - m + 1 :])
        ):
            return False
    return True


def _axis_starts(size: int, window: int, border: int, even: bool) -> list[int]:
    step = max(window - 2 * border, 1)
    starts = sorted({*range(0, size - window + 1, step), size - window})
    if len(starts) == 2:
        middle = round(sum(starts) / 2)
        middle -= middle % 2 if even else 0
        starts += [middle] if middle not in starts else []
    return starts
