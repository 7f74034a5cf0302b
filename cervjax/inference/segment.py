"""One scan: tiling, network, decoding, levels, in this order."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cervjax.anatomy import NUM_CLASSES
from cervjax.inference.decode import Places, labels_at, places_between, with_room
from cervjax.inference.levels import SliceLevels
from cervjax.inference.memory import check_ever_fits, whole_height, within_memory
from cervjax.inference.muscles import in_signal, pasted, with_levels
from cervjax.inference.programs import program
from cervjax.inference.stitching import (
    Forward,
    Logits,
    stitched_labels,
    stitched_logits,
)
from cervjax.inference.test_time_augmentation import logit_steps
from cervjax.inference.tiling import sliding_window, whole_volume
from cervjax.inference.types import Segmentation, Settings, Size
from cervjax.io.dixon import DixonImages
from cervjax.model.card import Tta
from cervjax.model.dense_vnet import DenseVNet
from cervjax.model.weights import Weights
from cervjax.preprocessing.pipeline import Prepared, Recipe, prepare, unpad
from cervjax.preprocessing.resampling import resample_labels, resampled_shape


def prepare_images(images: DixonImages, recipe: Recipe, settings: Settings) -> Prepared:
    """The network's input.

    Raises:
        ValueError: it could never fit into memory, or there is no foreground.
    """
    shape, spacing = images.in_phase.shape, images.grid.spacing_mm
    resampled = resampled_shape(shape, spacing, recipe.spacing_mm)
    padded = [n + 2 * p for n, p in zip(resampled, recipe.padding, strict=True)]
    check_ever_fits(padded, settings)
    return prepare(images.in_phase, images.out_phase, spacing, recipe)


def segment_prepared(
    prepared: Prepared,
    shape: tuple[int, ...],
    weights: Weights,
    recipe: Recipe,
    settings: Settings,
    on_compile: Callable[[Size], object] = lambda window: None,
    on_compiled: Callable[[], object] = lambda: None,
    levels: SliceLevels | None = None,
) -> tuple[Segmentation, Settings, list[str]]:
    """Labels and confidence of a prepared scan.

    Args:
        prepared: the network's input.
        shape: of the scan.
        weights: the network.
        recipe: by which the scan was prepared.
        settings: how to run.
        on_compile: called before the network is compiled, unless it is at hand, with
            the voxels that its program takes.
        on_compiled: called when the network's program is there, before it runs.
        levels: of the slices, where they are known; None is what the network finds.

    Returns:
        The segmentation, of ``shape``; the settings that were run, which are others
        where memory is short; warnings.

    Raises:
        ValueError: not enough memory for any mode.
    """
    image = prepared.image
    settings, warnings = runnable(image.shape[:3], weights, settings)
    forward = Forward(
        weights.network,
        weights.variables,
        settings.tta,
        settings.stitch == "logits",
        settings.batch_size,
        on_compile,
        on_compiled,
    )
    part = part_shape(prepared, shape)
    if settings.stitch == "logits":
        found = segment_volume(forward, image, settings, recipe.padding, part)
    else:
        found = _niftynets(forward, image, settings, recipe, part)
    found = found.each(lambda labels: in_signal(labels, prepared.voids))
    if prepared.box:
        found = pasted(found, prepared.box, shape)
    if weights.card.architecture.classes > NUM_CLASSES:
        spacing_mm = part_spacing_mm(prepared, part, recipe)
        found, more = with_levels(found, spacing_mm, settings.levels_rule, levels)
        return found, settings, warnings + more
    return found._replace(levels=levels), settings, warnings


def runnable(
    size: tuple[int, ...], weights: Weights, settings: Settings
) -> tuple[Settings, list[str]]:
    """What can be run of a volume of ``size``, with warnings; see `within_memory`."""
    settings, warnings = within_memory(size, settings)
    if settings.mode == "sliding_window":
        warnings += _window_warnings(size, weights, settings)
    return settings, warnings


def part_shape(prepared: Prepared, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Voxels of the part of a scan of ``shape`` that was prepared."""
    return tuple(b.stop - b.start for b in prepared.box) if prepared.box else shape


def part_spacing_mm(
    prepared: Prepared, part: tuple[int, ...], recipe: Recipe
) -> tuple[float, ...]:
    """Size of a scan's voxels, nearly: the network's grid is of whole voxels."""
    size_mm = np.multiply(prepared.resampled_shape, recipe.spacing_mm)
    return tuple((size_mm / part).tolist())


def _niftynets(
    forward: Forward,
    image: np.ndarray,
    settings: Settings,
    recipe: Recipe,
    shape: tuple[int, ...],
) -> Segmentation:
    """Labels of windows, which return to the scan by nearest neighbour."""
    found = stitched_labels(forward, image, sliding_window(image.shape[:3], settings))
    keep = recipe.keep_last_plane
    labels, confidence = (
        resample_labels(unpad(v, recipe.padding), shape, keep_last_plane=keep)
        for v in (found.labels, found.confidence)
    )
    return Segmentation(labels, confidence)


def segment_volume(
    forward: Forward,
    image: np.ndarray,
    settings: Settings,
    margin: Size = (0, 0, 0),
    shape: tuple[int, ...] | None = None,
) -> Segmentation:
    """Labels of a scan on its own grid, by logits interpolated at its voxels.

    Args:
        forward: the network.
        image: float32 (x, y, z, 2), padded and whitened.
        settings: mode and window.
        margin: voxels at both ends of each axis that need no label (the padding).
        shape: of the scan, whose corner voxels lie on those of the image within the
            margin; None is the image's own grid.

    Returns:
        Classes and confidence of ``shape``; where no window decides, background and 1
        over the number of classes.
    """
    size = image.shape[:3]
    inner = tuple(n - 2 * m for n, m in zip(size, margin, strict=True))
    if settings.mode == "whole" and shape in (None, inner):
        found = stitched_labels(forward, image, whole_volume(size, margin))
        confidence = unpad(found.confidence, margin)
        found = found.each(lambda labels: unpad(labels, margin))
        return found._replace(confidence=confidence)
    (average, *sides), places = volume_logits(
        forward, image, settings, margin, shape or inner
    )
    opinions = tuple(decode(side, places).labels for side in sides)
    return decode(average, places)._replace(opinions=opinions)


def volume_logits(
    forward: Forward,
    image: np.ndarray,
    settings: Settings,
    margin: Size,
    shape: tuple[int, ...],
) -> tuple[list[Logits], tuple[Places, Places, Places]]:
    """Logits of a padded volume, and where the voxels of a scan lie among them.

    Args:
        forward: the network.
        image: float32 (x, y, z, 2), padded and whitened.
        settings: mode and window.
        margin: voxels at both ends of each axis that need no label.
        shape: of the scan.

    Returns:
        The average of test-time augmentation, then what each side says if that is
        wanted; and the places.
    """
    size = image.shape[:3]
    whole = settings.mode == "whole"
    tiling = (
        whole_volume(size, margin)
        if whole
        else sliding_window(size, settings, even=True)
    )
    logits = stitched_logits(forward, image, tiling)
    places = scan_places(logits, size, margin, shape, settings.tta)
    return logits.apart(forward.volumes), places


def scan_places(
    logits: Logits,
    size: tuple[int, ...],
    margin: Size,
    shape: tuple[int, ...],
    tta: Tta,
) -> tuple[Places, Places, Places]:
    """Where a scan's voxels lie among the logits of a padded volume of ``size``."""
    x, y, z = (
        places_between(n - 2 * m, count, start=m - first, step=step)
        for n, m, count, first, step in zip(
            size, margin, shape, logits.origin, logit_steps(tta), strict=True
        )
    )
    return x, y, z


def decode(logits: Logits, places: tuple[Places, Places, Places]) -> Segmentation:
    """Classes and confidence at places."""
    roomy = tuple(map(with_room, places, logits.values.shape[:3]))
    inputs = logits.values, roomy
    found = program(labels_at, inputs, {})(*inputs)
    own = tuple(slice(len(at.before)) for at in places)
    labels, confidence = (np.asarray(a)[own] for a in found)
    return Segmentation(labels, confidence)


def segment_whole(
    network: DenseVNet, variables: Mapping[str, Any], image: np.ndarray, margin: Size
) -> np.ndarray:
    """Labels uint8 of a padded volume within its margin, the whole of it at once."""
    forward = Forward(network, variables)
    return segment_volume(forward, image, Settings("whole"), margin).labels


def _window_warnings(
    size: tuple[int, ...], weights: Weights, settings: Settings
) -> list[str]:
    window, found = settings.window, []
    if any(n < w for n, w in zip(size, window, strict=True)):
        found.append(
            f"the padded scan {size} is smaller than the window {window} "
            "and was extended (NiftyNet stops here)"
        )
    if weights.card.mode == "whole" and window[2] < size[2]:
        found.append(
            f"windows of {window[2]} slices of {size[2]}: these weights "
            "find a muscle's levels from the whole height; give --window X Y "
            f"{whole_height(size)}"
        )
    return found
