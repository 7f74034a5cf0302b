"""Histogram standardisation (Nyul and Udupa 1999), as NiftyNet 0.6.0 implements it.

Percentiles of a scan's foreground are mapped onto landmarks that were learnt from the
training scans, so that one tissue has about one intensity in every scan.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Real
from scipy import ndimage

CHANNELS = ("in_phase", "out_phase")
NUM_LANDMARKS = 13
DILATIONS = 2
"""Voxels by which a foreground is grown."""

Foreground = Literal["threshold_plus", "otsu_plus", "none"]
Landmarks = Mapping[str, tuple[float, ...]]
"""Per channel, `NUM_LANDMARKS` standard intensities, 0-100, never falling."""

_PERCENTS = (10.0, 20.0, 25.0, 30.0, 40.0, 50.0, 60.0, 70.0, 75.0, 80.0, 90.0)
_USED = np.array([0, 1, 2, 4, 5, 6, 7, 8, 10, 11, 12])  # 25 and 75 % are skipped
_ROWS = dict(zip(CHANNELS, ("IP", "OP"), strict=True))  # of NiftyNet's file


def foreground(
    volume: Real[np.ndarray, "x y z"], threshold: float = 0.0
) -> Bool[np.ndarray, "x y z"]:
    """Voxels above a threshold, dilated twice (6 neighbours), holes filled.

    Args:
        volume: (x, y, z).
        threshold: in the volume's unit.

    Returns:
        bool (x, y, z).
    """
    mask = ndimage.binary_dilation(volume > threshold, iterations=DILATIONS)
    return np.asarray(ndimage.binary_fill_holes(mask))


def percentiles(
    values: Real[np.ndarray, "..."], cutoff: tuple[float, float]
) -> Float64[np.ndarray, "13"]:
    """The percentiles of a histogram that are mapped onto the landmarks.

    Args:
        values: any shape, at least one.
        cutoff: fractions of the histogram taken as its two ends, 0-1; at most 0.09
            and at least 0.91 count.

    Returns:
        float64 (13,).
    """
    low, high = min(cutoff[0], 0.09), max(cutoff[1], 0.91)
    percents = np.array([100 * low, *_PERCENTS, 100 * high])
    ordered = np.sort(values, axis=None)  # vectorised: faster than a selection
    at = percents / 100 * (ordered.size - 1)
    below = np.floor(at).astype(int)
    above = np.minimum(below + 1, ordered.size - 1)
    a, b = ordered[below].astype(np.float64), ordered[above].astype(np.float64)
    return a + (b - a) * (at - below)


def standardise(
    volume: Real[np.ndarray, "*shape"],
    source: Float[np.ndarray, "13"],
    landmarks: Float[np.ndarray, "13"],
) -> Float32[np.ndarray, "*shape"]:
    """Maps intensities piecewise linearly so that percentiles meet the landmarks.

    The end segments go on straight beyond the landmarks, without clipping.

    Args:
        volume: float32, any shape.
        source: (13,) percentiles of the volume.
        landmarks: (13,) standard intensities.

    Returns:
        float32, the shape of the volume.
    """
    source, target = source[_USED], np.asarray(landmarks, np.float64)[_USED]
    rise, run = np.diff(target), np.diff(source)
    slopes = np.divide(rise, run, out=np.zeros_like(rise), where=run != 0)
    offsets = target[:-1] - slopes * source[:-1]
    segment = np.zeros(volume.shape, np.uint8)
    for knot in source[1:-1]:
        segment += volume >= knot
    return (slopes[segment] * volume + offsets[segment]).astype(np.float32)


def train_landmarks(
    pairs: Iterable[Sequence[Real[np.ndarray, "x y z"]]],
    *,
    cutoff: tuple[float, float] = (0.001, 1.0),
    foreground_type: Foreground = "threshold_plus",
) -> dict[str, tuple[float, ...]]:
    """Learns the standard histogram of a set of scans, as NiftyNet does.

    Percentiles of each unpadded volume within its own foreground, its ends mapped to
    0 and 100, averaged over the volumes. Denormal numbers must still be there
    (``flush_denormals=False``): this ran in NiftyNet's main thread.

    Args:
        pairs: resampled in-phase and out-of-phase volumes, (x, y, z).
        cutoff: fractions of the histogram taken as its ends.
        foreground_type: voxels that count: above zero, above Otsu's threshold, all.

    Returns:
        13 landmarks per channel.

    Raises:
        ValueError: no pair was given, a volume is constant, or scikit-image is needed
            and not installed.
    """
    rows: dict[str, list[np.ndarray]] = {name: [] for name in CHANNELS}
    for pair in pairs:
        for name, volume in zip(CHANNELS, pair, strict=True):
            points = percentiles(_foreground_values(volume, foreground_type), cutoff)
            span = points[-1] - points[0]
            if span <= 0:
                raise ValueError(f"the {name} histogram of a scan has no width")
            rows[name].append(100 * (points - points[0]) / span)
    if not rows[CHANNELS[0]]:
        raise ValueError("landmarks need at least one pair of volumes")
    return {name: tuple(np.mean(r, axis=0).tolist()) for name, r in rows.items()}


def read_landmarks(path: str | Path) -> dict[str, tuple[float, ...]]:
    """Reads NiftyNet's ``standardisation_models.txt``: rows IP and OP, 13 numbers.

    Raises:
        ValueError: a row is missing or malformed, or its label table is not the
            identity on 0-14 (those would not be this package's muscles).
    """
    path = Path(path)
    try:
        rows = {
            words[0]: words[1:]
            for words in map(str.split, path.read_text("utf-8").splitlines())
            if words
        }
        landmarks = {
            channel: tuple(np.array(rows[key], np.float32).tolist())
            for channel, key in _ROWS.items()
        }
        labels = [
            np.array(rows.get(f"label_label-{k}", []), float) for k in ("from", "to")
        ]
    except (OSError, UnicodeDecodeError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path}: must hold the rows IP and OP, 13 numbers each, "
            f"as NiftyNet's standardisation_models.txt does ({error!r})"
        ) from error
    for channel, values in landmarks.items():
        if not are_landmarks(values):
            raise ValueError(
                f"{path}: {channel} needs {NUM_LANDMARKS} rising numbers, got {values}"
            )
    if not np.array_equal(labels[0], labels[1]):
        raise ValueError(f"{path}: its label table must be the identity, got {labels}")
    return landmarks


def are_landmarks(values: Sequence[float]) -> bool:
    """Whether these are `NUM_LANDMARKS` finite numbers that never fall."""
    return (
        len(values) == NUM_LANDMARKS
        and bool(np.all(np.isfinite(values)))
        and bool(np.all(np.diff(values) >= 0))
    )


def format_landmarks(landmarks: Landmarks) -> str:
    """The text of a ``standardisation_models.txt`` that NiftyNet reads too."""
    return "".join(
        f"{key} {' '.join(str(np.float32(v)) for v in landmarks[channel])}\n"
        for channel, key in _ROWS.items()
    )


def _foreground_values(volume: np.ndarray, kind: Foreground) -> np.ndarray:
    if kind == "none":
        return volume
    return volume[foreground(volume, _otsu(volume) if kind == "otsu_plus" else 0.0)]


def _otsu(volume: np.ndarray) -> float:
    try:
        from skimage.filters import threshold_otsu
    except ImportError:
        raise ValueError(
            "otsu_plus needs scikit-image, which is not installed; "
            "pip install 'cervjax[figures]', or choose threshold_plus"
        ) from None
    return float(threshold_otsu(volume))
