"""What figures need: labels, image, spacing and packages are checked here."""

from importlib.util import find_spec

import numpy as np

from cervjax.anatomy import NUM_CLASSES

_PACKAGES = {"skimage": "scikit-image"}


def check_labels(labels: np.ndarray, image: np.ndarray | None = None) -> None:
    """Does nothing for labels that can be drawn.

    Args:
        labels: to be integers 0-14, ``(x, y, z)``.
        image: that they are drawn on, to be of the same shape.

    Raises:
        ValueError: they are not.
    """
    if image is not None and image.shape != labels.shape:
        raise ValueError(
            f"image and labels must be of one shape, got {image.shape} and "
            f"{labels.shape}; give the mask on the scan's own grid"
        )
    if labels.ndim != 3 or labels.dtype.kind not in "iu" or not labels.size:
        raise ValueError(
            "labels must be integers (x, y, z), 3-D and not empty, got "
            f"{labels.dtype} of shape {labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= NUM_CLASSES:
        raise ValueError(
            f"labels must be 0-{NUM_CLASSES - 1} (Table 1 of the paper), got "
            f"{labels.min()} to {labels.max()}; renumber or remove the others"
        )


def check_some_muscle(labels: np.ndarray, where: str = "") -> None:
    """Does nothing if there is a muscle.

    Args:
        labels: of `check_labels`.
        where: which part of the mask they are, for the message.

    Raises:
        ValueError: all are background.
    """
    if not labels.any():
        raise ValueError(
            f"the mask has no muscle{where}, every voxel is 0; give a mask with "
            "labels 1-14"
        )


def check_spacing(spacing_mm: tuple[float, ...]) -> None:
    """Does nothing for three positive numbers.

    Raises:
        ValueError: they are not.
    """
    spacing = np.asarray(spacing_mm, np.float64)
    if spacing.shape != (3,) or not np.all((spacing > 0) & np.isfinite(spacing)):
        raise ValueError(f"spacing_mm must be three positive numbers, got {spacing_mm}")


def check_installed(*modules: str) -> None:
    """Does nothing where the modules, which are not in every installation, are.

    Raises:
        ValueError: one is missing; says how to get it.
    """
    missing = [_PACKAGES.get(m, m) for m in modules if find_spec(m) is None]
    if missing:
        raise ValueError(
            f"{' and '.join(missing)} missing, which these figures need: "
            'pip install "cervjax[figures]"'
        )
