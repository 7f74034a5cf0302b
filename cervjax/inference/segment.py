"""One scan: from images to labels."""

import time
from dataclasses import replace

import jax
import numpy as np
import psutil

from cervjax.inference.sliding_window import segment_windows, segment_windows_at
from cervjax.inference.types import Segmentation, Settings
from cervjax.inference.whole_volume import segment_whole, whole_memory_bytes
from cervjax.io.dixon import DixonImages
from cervjax.model.dense_vnet import SIZE_MULTIPLE
from cervjax.model.weights import Weights
from cervjax.preprocessing.pipeline import Prepared, Recipe, prepare, unpad
from cervjax.preprocessing.resampling import resample_labels, resampled_shape

_WINDOWS_BYTES_PER_VOXEL = 60
"""Volumes held at once in windows mode: input, masks, logits, labels, splines."""


def segment_images(
    images: DixonImages, weights: Weights, recipe: Recipe, settings: Settings
) -> tuple[Segmentation, list[str], dict[str, float]]:
    """Labels and confidence on the scan's own grid, in RAS.

    Returns:
        The segmentation; warnings, among them a fall-back from whole to windows; the
        seconds that preprocessing and network took.
    """
    started = time.perf_counter()
    prepared = prepare_images(images, recipe, settings)
    ready = time.perf_counter()
    shape = images.in_phase.shape
    found, _, warnings = segment_prepared(prepared, shape, weights, recipe, settings)
    seconds = {"preprocess": ready - started, "network": time.perf_counter() - ready}
    return found, warnings, seconds


def prepare_images(images: DixonImages, recipe: Recipe, settings: Settings) -> Prepared:
    """The network's input.

    Raises:
        ValueError: it could never fit into memory, or there is no foreground.
    """
    shape, spacing = images.in_phase.shape, images.grid.spacing_mm
    padded = [
        n + 2 * p
        for n, p in zip(
            resampled_shape(shape, spacing, recipe.spacing_mm),
            recipe.padding,
            strict=True,
        )
    ]
    limit_gb = settings.max_memory_gb
    limit = psutil.virtual_memory().total if limit_gb is None else limit_gb * 1e9
    _check_memory(tuple(padded), limit)
    return prepare(images.in_phase, images.out_phase, spacing, recipe)


def segment_prepared(
    prepared: Prepared,
    shape: tuple[int, ...],
    weights: Weights,
    recipe: Recipe,
    settings: Settings,
) -> tuple[Segmentation, Settings, list[str]]:
    """Labels and confidence of ``shape``, the scan's; settings executed; warnings."""
    settings, warnings = _within_memory(prepared.image.shape[:3], settings)
    if settings.mode == "whole":
        found = segment_whole(
            weights.variables,
            prepared.image,
            recipe.padding,
            passes=settings.tta,
            shape=shape,
            slices_whole=settings.snap_slice_ends,
        )
        return found, settings, warnings
    size = prepared.image.shape[:3]
    if any(n < w for n, w in zip(size, settings.window, strict=True)):
        warnings.append(
            f"the padded scan {size} is smaller than the window {settings.window} "
            "and was extended (NiftyNet stops here)"
        )
    if weights.card.mode == "whole" and settings.window[2] < size[2]:
        warnings.append(
            f"windows of {settings.window[2]} slices of {size[2]}: these weights "
            "find a muscle's levels from the whole height; give --window X Y "
            f"{_whole_height(size)}"
        )
    how = {
        "window": settings.window,
        "border": settings.border,
        "predict_border": settings.predict_border,
        "batch_size": settings.batch_size,
        "passes": settings.tta,
    }
    image, padding = prepared.image, recipe.padding
    if settings.stitch == "logits":
        how["slices_whole"] = settings.snap_slice_ends
        found = segment_windows_at(weights.variables, image, padding, shape, **how)
        return found, settings, warnings
    found = segment_windows(weights.variables, image, **how)
    found = Segmentation(*(unpad(volume, padding) for volume in found))

    def back(volume: np.ndarray) -> np.ndarray:
        keep = recipe.keep_last_plane
        return resample_labels(volume, shape, keep_last_plane=keep)

    return Segmentation(*map(back, found)), settings, warnings


def device_name() -> str:
    """Where the network runs."""
    device = jax.devices()[0]
    threads = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    return f"cpu ({threads} cores)" if device.platform == "cpu" else device.device_kind


def _check_memory(padded: tuple[int, ...], free: float) -> None:
    least = float(np.prod(padded)) * _WINDOWS_BYTES_PER_VOXEL
    if least > free:
        raise ValueError(
            f"the scan is {padded} voxels at the network's spacing and needs "
            f"{least / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; crop it, or look at "
            "the voxel size in its header"
        )


def _whole_height(size: tuple[int, ...]) -> int:
    """Slices of a window that is as high as a volume."""
    return -(-size[2] // SIZE_MULTIPLE) * SIZE_MULTIPLE


def _within_memory(
    padded: tuple[int, ...], settings: Settings
) -> tuple[Settings, list[str]]:
    """Falls back to windows, or refuses, before memory runs out."""
    free = (
        settings.max_memory_gb * 1e9
        if settings.max_memory_gb is not None
        else 0.9 * psutil.virtual_memory().available
    )
    _check_memory(padded, free)
    need = whole_memory_bytes(padded, settings.tta)
    if settings.mode == "whole" and need > free:
        # Weights trained on whole volumes count levels along the whole height.
        high = (*settings.window[:2], _whole_height(padded))
        window = (
            high if whole_memory_bytes(high, settings.tta) <= free else settings.window
        )
        reason = (
            f"whole mode would need {need / 1e9:.1f} GB, {free / 1e9:.1f} GB are free: "
            f"windows of {window} used instead"
        )
        return replace(settings, mode="sliding_window", window=window), [reason]
    return settings, []
