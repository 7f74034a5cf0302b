"""The network over a tiling: windows in, one volume of labels or of logits out.

Full resolution class probabilities are never held: either each window's labels leave
the device (NiftyNet's way, and whole mode on the network's own grid), or logits at half
the resolution, to be decoded at the voxels of a scan.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cervjax.inference.decode import upsampled_labels
from cervjax.inference.programs import program
from cervjax.inference.test_time_augmentation import (
    averaged_logits,
    half_region,
    logit_steps,
)
from cervjax.inference.tiling import Box, Tile, Tiling, extend, is_constant
from cervjax.inference.types import Segmentation, Size
from cervjax.model.card import Tta
from cervjax.model.dense_vnet import DenseVNet


@dataclass(frozen=True, eq=False)
class Forward:
    """A network ready to run.

    Attributes:
        network: its structure.
        variables: parameters and statistics.
        tta: test-time augmentation, see `averaged_logits`.
        each: whether what each side says is wanted beside the average, see there.
        batch_size: windows in one call.
        on_compile: called before its program is compiled, unless it is at hand, with
            the voxels of a window.
        on_compiled: called when its program is there, before it runs.
    """

    network: DenseVNet
    variables: Mapping[str, Any]
    tta: Tta = 1
    each: bool = False
    batch_size: int = 1
    on_compile: Callable[[Size], object] = lambda window: None
    on_compiled: Callable[[], object] = lambda: None

    @property
    def volumes(self) -> int:
        """How many volumes of logits come out: the average, and each side's."""
        return 3 if self.each and self.tta > 1 else 1


class Logits(NamedTuple):
    """Logits of a volume at half its resolution, or of a part of it.

    Attributes:
        values: float32 (x, y, z, classes).
        origin: voxel of the volume on which the first logit lies.
    """

    values: np.ndarray
    origin: Size

    def apart(self, volumes: int) -> list["Logits"]:
        """The average and each side's, where `Forward.volumes` lie side by side."""
        parts = (
            np.split(self.values, volumes, axis=-1) if volumes > 1 else [self.values]
        )
        return [Logits(np.ascontiguousarray(part), self.origin) for part in parts]


def stitched_labels(
    forward: Forward, image: np.ndarray, tiling: Tiling
) -> Segmentation:
    """Labels of the volume's own voxels: windows decoded, then put together.

    Args:
        forward: the network.
        image: float32 (x, y, z, 2), padded and whitened.
        tiling: of that image.

    Returns:
        Labels and confidence of the image's shape, with what each side says; 0 where
        no window decides.
    """
    sides = np.zeros((forward.volumes - 1, *tiling.shape), np.uint8)
    labels = np.zeros(tiling.shape, np.uint8)
    confidence = np.zeros(tiling.shape, np.float32)
    volumes = labels, confidence, *sides
    for tile, found in _windows(_labels_of, forward, image, tiling):
        first = tuple(s + m for s, m in zip(tile.start, tiling.margin, strict=True))
        inside = tile.inside(first)
        for volume, values in zip(volumes, found, strict=True):
            volume[tile.kept] = values[inside]
    own = tuple(slice(0, n) for n in image.shape[:3])
    opinions = tuple(side[own] for side in sides)
    return Segmentation(labels[own], confidence[own], opinions=opinions)


def stitched_logits(forward: Forward, image: np.ndarray, tiling: Tiling) -> Logits:
    """Logits of the volume, to be decoded at any places between them.

    Args:
        forward: the network.
        image: float32 (x, y, z, 2), padded and whitened.
        tiling: of that image, on even voxels.

    Returns:
        Of a single window, what its labels depend on; of several, the whole volume, 0
        where no window decides. Several volumes (`Forward.volumes`) lie side by side
        along the classes.
    """
    found = _windows(averaged_logits, forward, image, tiling)
    if len(tiling.tiles) == 1 and any(tiling.margin):
        ((_, (values,)),) = found
        region = half_region(tiling.window, tiling.margin)
        x, y, z = (2 * low for low, _ in region)
        return Logits(values, (x, y, z))
    steps = logit_steps(forward.tta)
    shape = tuple(n // step for n, step in zip(tiling.shape, steps, strict=True))
    classes = forward.network.architecture.classes * forward.volumes
    logits = np.zeros((*shape, classes), np.float32)
    for tile, (values,) in found:
        inside = _logits_in(tile.inside(), steps, values.shape)
        outside = tuple(
            slice(s // step + i.start, s // step + i.stop)
            for s, i, step in zip(tile.start, inside, steps, strict=True)
        )
        logits[outside] = values[inside]
    return Logits(logits, (0, 0, 0))


def _logits_in(kept: Box, steps: Size, shape: tuple[int, ...]) -> Box:
    """The logits that voxels depend on: theirs, and the next beyond the last."""
    return tuple(
        slice(k.start // step, min(k.stop // step + 1, n))
        for k, step, n in zip(kept, steps, shape[:3], strict=True)
    )


def _windows(
    run: Any,
    forward: Forward,
    image: np.ndarray,
    tiling: Tiling,
) -> Iterator[tuple[Tile, list[np.ndarray]]]:
    """Each tile and what the network gives for it, a batch of windows at a time.

    Args:
        run: `averaged_logits`, or of its form.
        forward: the network.
        image: float32 (x, y, z, 2).
        tiling: of that image.
    """
    flat = tiling.margin if is_constant(image, tiling.margin) else (0, 0, 0)
    extended = extend(image, tiling.shape)
    size = min(forward.batch_size, len(tiling.tiles))
    how = {"network": forward.network, "tta": forward.tta}
    how |= {"margin": tiling.margin, "flat": flat}
    if forward.volumes > 1:
        how["each"] = True
    for at in range(0, len(tiling.tiles), size):
        group = tiling.tiles[at : at + size]
        # A last, smaller group repeats a window instead of compiling a new program.
        filled = group + group[-1:] * (size - len(group))
        windows = []
        for tile in filled:
            spans = zip(tile.start, tiling.window, strict=True)
            windows.append(extended[tuple(slice(s, s + w) for s, w in spans)])
        inputs = forward.variables, np.stack(windows)
        compiled = program(run, inputs, how, lambda: forward.on_compile(tiling.window))
        if at == 0:
            forward.on_compiled()
        found = compiled(*inputs)
        arrays = [np.asarray(a) for a in jax.tree.leaves(found)]
        for i, tile in enumerate(group):
            yield tile, [a[i] for a in arrays]


def _labels_of(
    variables: Mapping[str, Any],
    batch: Array,
    *,
    network: DenseVNet,
    margin: Size = (0, 0, 0),
    flat: Size = (0, 0, 0),
    tta: Tta = 1,
    each: bool = False,
) -> tuple[Array, ...]:
    """Labels and confidence of a batch of windows, without their margins.

    With ``each`` also the labels of each side, see `averaged_logits`.
    """
    logits = averaged_logits(
        variables, batch, network=network, margin=margin, flat=flat, tta=tta, each=each
    )
    sizes = batch.shape[1:4]
    cut = tuple(
        slice(m - 2 * low, n - m - 2 * low)
        for m, n, (low, _) in zip(
            margin, sizes, half_region(sizes, margin), strict=True
        )
    )
    volumes = jnp.split(logits, 3, axis=-1) if each else [logits]
    found = [upsampled_labels(v, 1 if tta == 4 else 2) for v in volumes]
    labels, confidence = found[0]
    sides = [side for side, _ in found[1:]]
    return tuple(v[:, *cut] for v in (labels, confidence, *sides))
