"""Made-up scans and untrained weights, for timing any shape.

The scans are ellipses with Dixon signal, far from a neck; the network knows nothing.
What comes out has the form of a result, and no meaning.
"""

from pathlib import Path

import jax
import nibabel as nib
import numpy as np
from flax.traverse_util import unflatten_dict

from cervjax.model.card import ModelCard
from cervjax.model.dense_vnet import PUBLISHED, Architecture
from cervjax.model.weights import expected_shapes, save_weights
from cervjax.preprocessing.pipeline import Recipe

SMALL = Architecture((1, 1, 1), (2, 3, 4), (3, 4, 5), 6, (4, 5))
"""A network that compiles in a second."""

# The published landmarks' shape, rounded: air, muscle around 3, fat up to 100.
_LANDMARKS = (0.0, 2.5, 2.5, 2.5, 2.5, 2.5, 2.7, 2.9, 3.2, 3.5, 4.0, 12.0, 100.0)


def write_scans(
    folder: Path,
    count: int = 2,
    shape: tuple[int, int, int] = (180, 160, 20),
    spacing_mm: tuple[float, float, float] = (0.7, 0.7, 3.0),
    seed: int = 0,
) -> None:
    """Writes pairs ``demo-1_inphase.nii.gz``, ``demo-1_outphase.nii.gz``, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = -np.multiply(shape, spacing_mm) / 2
    for i in range(count):
        pair = _dixon_ellipses(shape, spacing_mm, np.random.default_rng(seed + i))
        for suffix, data in zip(("inphase", "outphase"), pair, strict=True):
            image = nib.Nifti1Image(data.astype(np.int16), affine)
            image.header.set_xyzt_units("mm", "sec")
            image.set_qform(affine, 1)
            image.set_sform(affine, 1)
            nib.save(image, folder / f"demo-{i + 1}_{suffix}.nii.gz")


def write_untrained_weights(
    path: Path, seed: int = 0, architecture: Architecture = PUBLISHED
) -> None:
    """Writes a weights file of random parameters, and says so in its card."""
    rng = np.random.default_rng(seed)

    def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name.endswith("kernel"):
            return rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
        return np.ones(shape) if name.endswith(("scale", "/var")) else np.zeros(shape)

    tensors = {
        k: np.float32(draw(k, v)) for k, v in expected_shapes(architecture).items()
    }
    card = ModelCard(
        name="untrained",
        source="random numbers",
        trained_on="nothing: masks and measurements mean nothing",
        licence="Apache-2.0",
        mode="whole",
        architecture=architecture,
        recipe=Recipe(
            {"in_phase": _LANDMARKS, "out_phase": _LANDMARKS}, skip_fitting_grid=True
        ),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(path, jax.tree.map(np.asarray, unflatten_dict(tensors, sep="/")), card)


def _dixon_ellipses(
    shape: tuple[int, ...], spacing_mm: tuple[float, ...], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Magnitudes of a round body: skin fat, muscle with some fat, bone, noise."""
    x, y, z = np.meshgrid(
        *[(np.arange(n) - n / 2) * s for n, s in zip(shape, spacing_mm, strict=True)],
        indexing="ij",
    )
    body = shape[0] * spacing_mm[0] * 0.42, shape[1] * spacing_mm[1] * 0.40
    radius = np.hypot(x / body[0], y / body[1]) * (1 + 0.05 * np.sin(z / 20))
    fat = np.full(shape, 0.08) + 0.04 * np.sin(x / 5) * np.cos(y / 6)
    fat[radius > 0.85] = 0.95
    angle = np.arctan2(y, x)
    fat[(radius > 0.3) & (np.abs(np.sin(3.5 * angle)) < 0.12)] = 0.6  # fascia
    signal = np.where(radius < 1, 800.0, 0.0)
    signal[radius < 0.25] = 300
    noise = rng.normal(0, 12, (2, 2, *shape))
    echoes = [signal + 0j, signal * (1 - 2 * fat) + 0j]
    return tuple(
        np.abs(e + n[0] + 1j * n[1]) for e, n in zip(echoes, noise, strict=True)
    )
