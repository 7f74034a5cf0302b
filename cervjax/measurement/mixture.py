"""Muscle and fat told apart by brightness alone, in an image of one contrast.

Where a scan is no Dixon there is no fat fraction. In T1 and T2 images fat is bright, so
the intensities of a muscle are taken as a mixture of two or three Gaussians, as
MuscleMap does: the darkest is muscle, the brightest fat, and the middle one neither.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Integer, Real, UInt8
from scipy.optimize import brentq

from cervjax.anatomy import MUSCLES
from cervjax.measurement.composition import Rows, measure
from cervjax.measurement.limits import FEWEST, MOST

Components = Literal[2, 3]
MUSCLE, MIDDLE, FAT = 1, 2, 3
"""Values of a map of tissues."""

_KEPT = (
    *("label", "muscle", "side"),
    *("volume_ml", "voxels", "slice_first", "slice_last", "slices"),
    *("touches_fov_edge", "asymmetry_volume_percent"),
)


class Mixture(NamedTuple):
    """Of one muscle's intensities.

    Attributes:
        muscle_max: what is darker, or just so bright, is muscle.
        fat_min: what is brighter is fat; with two components as `muscle_max`.
        separation: Ashman's D of the darkest and the brightest component: the distance
            of their means in units of their root mean square width.
    """

    muscle_max: float
    fat_min: float
    separation: float


def fit_mixture(
    intensities: Real[np.ndarray, " voxel"], components: Components
) -> Mixture | None:
    """Fits Gaussians to intensities.

    A threshold is where the components beside it are equally likely, between their
    means; so classes do not depend on the far ends of wide components.

    Args:
        intensities: of the voxels of one muscle.
        components: 2 (muscle, fat) or 3 (and what is neither).

    Returns:
        None where there are too few voxels, or all are the same.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
    """
    from sklearn.mixture import GaussianMixture

    values = intensities.astype(np.float64)
    if len(values) < (FEWEST["voxels"].do_not_use or 0):
        return None
    if len(np.unique(values)) < 2 * components:
        return None
    middle, width = values.mean(), values.std()
    model = GaussianMixture(components, random_state=0, tol=1e-5, max_iter=500)
    model.fit(((values - middle) / width)[:, None])
    order = np.argsort(model.means_[:, 0])
    mean = model.means_[order, 0]
    sd = np.sqrt(model.covariances_[order, 0, 0])
    weight = model.weights_[order]
    crossings = [
        middle + width * _crossing(mean[i : i + 2], sd[i : i + 2], weight[i : i + 2])
        for i in range(components - 1)
    ]
    separation = (mean[-1] - mean[0]) / np.hypot(sd[0], sd[-1]) * np.sqrt(2)
    return Mixture(crossings[0], crossings[-1], float(separation))


def _crossing(
    mean: Float[np.ndarray, " 2"],
    sd: Float[np.ndarray, " 2"],
    weight: Float[np.ndarray, " 2"],
) -> float:
    """Where two components are equally likely, between their means."""

    def excess(x: float) -> float:
        log = np.log(weight / sd) - ((x - mean) / sd) ** 2 / 2
        return float(log[0] - log[1])

    low, high = map(float, mean)
    if excess(low) <= 0 or excess(high) >= 0:  # one lies within the other
        return low if excess(low) <= 0 else high
    return float(brentq(excess, low, high))


def measure_mixture(
    labels: Integer[np.ndarray, "x y z"],
    image: Real[np.ndarray, "x y z"],
    *,
    voxel_volume_ml: float,
    components: Components,
) -> tuple[Rows, UInt8[np.ndarray, "x y z"]]:
    """Shares and volumes of muscle, fat and what is neither, of all 14 muscles.

    Args:
        labels: integers 0-14, in RAS.
        image: of one contrast in which fat is bright.
        voxel_volume_ml: volume of one voxel.
        components: 2 or 3.

    Returns:
        A row per muscle, NaN where nothing can be told; and the map of tissues.

    Raises:
        ValueError: as `composition.measure`.
        ModuleNotFoundError: scikit-learn is not installed.
    """
    fat = np.zeros_like(image)  # of no interest
    sizes = measure(labels, fat, image, voxel_volume_ml=voxel_volume_ml)
    tissues = np.zeros(labels.shape, np.uint8)
    rows = []
    for size, m in zip(sizes, MUSCLES, strict=True):
        inside = labels == m.label
        values = image[inside]
        found = fit_mixture(values, components)
        kinds = np.zeros(len(values), np.uint8)
        if found is not None:
            kinds[:] = MIDDLE
            kinds[values <= found.muscle_max] = MUSCLE
            kinds[values > found.fat_min] = FAT
        tissues[inside] = kinds
        row = {k: v for k, v in size.items() if k in _KEPT}
        row |= _parts(kinds, found, voxel_volume_ml, components)
        rows.append(row | _judged(row))
    return rows, tissues


def _parts(
    kinds: UInt8[np.ndarray, " voxel"],
    found: Mixture | None,
    voxel_volume_ml: float,
    components: Components,
) -> dict[str, float]:
    """Columns of a muscle that come of its mixture."""
    names = {"muscle": MUSCLE, "undefined": MIDDLE, "fat": FAT}
    if components == 2:
        del names["undefined"]
    counts = {name: int(np.sum(kinds == kind)) for name, kind in names.items()}
    nan = float("nan")
    told = found is not None
    row = {
        f"{name}_percent": 100 * n / len(kinds) if told else nan
        for name, n in counts.items()
    }
    row |= {
        f"{name}_volume_ml": n * voxel_volume_ml if told else nan
        for name, n in counts.items()
    }
    row["muscle_max_intensity"] = found.muscle_max if told else nan
    row["fat_min_intensity"] = found.fat_min if told else nan
    row["mixture_separation"] = found.separation if told else nan
    return row


def _judged(row: dict[str, Any]) -> dict[str, str]:
    """Whether the numbers may be used, and why not; limits as of Dixon scans."""
    voxels, separation = row["voxels"], row["mixture_separation"]
    if not voxels:
        return {"verdict": "do_not_use", "reasons": "not found"}
    if np.isnan(separation):
        return {"verdict": "do_not_use", "reasons": "too few intensities"}
    reasons = []
    if voxels < (FEWEST["voxels"].look or 0):
        reasons.append(f"{voxels} voxels")
    if row["touches_fov_edge"]:
        reasons.append("cut by the field of view")
    if separation < (FEWEST["mixture_separation"].look or 0):
        reasons.append(f"muscle and fat are not told apart (D {separation:.1f})")
    if row["fat_percent"] > (MOST["mixture_fat_percent"].look or 100):
        share = f"{row['fat_percent']:.0f} %"
        reasons.append(f"{share} fat: is it muscle, and what is darker no muscle?")
    return {"verdict": "look" if reasons else "use", "reasons": "; ".join(reasons)}
