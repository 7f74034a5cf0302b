"""Several networks over one scan: their probabilities averaged at the scan's voxels.

Each prepares the scan by its own recipe and is run as its own card says; what it finds
returns to the scan's own grid, where all agree on what a voxel is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from cervjax.anatomy import NUM_CLASSES
from cervjax.inference.decode import Member, Places, labels_of_mean, widened
from cervjax.inference.levels import SliceLevels
from cervjax.inference.method import Method
from cervjax.inference.muscles import in_signal, pasted, with_levels
from cervjax.inference.programs import program
from cervjax.inference.segment import (
    decode,
    part_shape,
    part_spacing_mm,
    prepare_images,
    runnable,
    segment_prepared,
    volume_logits,
)
from cervjax.inference.stitching import Forward, Logits
from cervjax.inference.types import Segmentation, Settings, Size
from cervjax.io.dixon import DixonImages
from cervjax.measurement.calibration import Calibration
from cervjax.model.weights import Weights
from cervjax.preprocessing.pipeline import Prepared

_STEP = 16  # places are a multiple of this, so that scans share programs


def ensemble(
    weights: Mapping[str, Weights],
    calibration: Calibration | None = None,
    **changes: Any,
) -> Method:
    """The method of one network, or of several whose probabilities are averaged.

    In order of their digests, so that the order in which they are given is nothing.

    Args:
        weights: by the name of their file, for messages.
        calibration: see `Method`; of an ensemble that of all its weights.
        changes: as for `Method.of_weights`, for every member.

    Raises:
        ValueError: as `Method.of_weights`; or the weights cannot be averaged.
    """
    if len(weights) == 1:
        (alone,) = weights.values()
        return Method.of_weights(alone, calibration, **changes)
    ordered = sorted(weights.items(), key=lambda pair: pair[1].sha256)
    methods = {file: Method.of_weights(w, None, **changes) for file, w in ordered}
    (first_file, first), *others = methods.items()
    for file, method in others:
        _check_alike(first_file, first.weights, file, method.weights)
    for file, method in methods.items():
        if method.settings.stitch == "labels":
            raise ValueError(
                f"{file}: its windows are put together from labels (NiftyNet's way), "
                "so it has no probabilities on the scan's grid to be averaged with "
                f"{', '.join(f for f in methods if f != file)}; give --mode whole"
            )
        if method.settings.levels_rule != first.settings.levels_rule:
            raise ValueError(
                f"--weights {first_file} {file}: cannot be averaged, their rules of "
                f"levels are {first.settings.levels_rule} and "
                f"{method.settings.levels_rule}; give --levels-rule"
            )
    found = replace(first, others=tuple(method for _, method in others))
    if calibration is not None:
        calibration.check_weights(found.weights_sha256)
    return replace(found, calibration=calibration)


def _check_alike(file: str, ours: Weights, other: str, theirs: Weights) -> None:
    """Raises ValueError for weights whose classes are not the same."""
    both = f"--weights {file} {other}"
    if ours.sha256 == theirs.sha256:
        raise ValueError(f"{both}: these are the same weights; give each once")
    classes = [w.card.architecture.classes for w in (ours, theirs)]
    if classes[0] != classes[1]:
        raise ValueError(
            f"{both}: cannot be averaged, they have {classes[0]} and {classes[1]} "
            "classes; give weights of one kind"
        )
    a, b = dict(ours.card.labels), dict(theirs.card.labels)
    for label in sorted(a.keys() | b.keys()):
        if a.get(label) != b.get(label):
            raise ValueError(
                f"{both}: cannot be averaged, label {label} is "
                f"{a.get(label, 'nothing')} in the one and {b.get(label, 'nothing')} "
                "in the other; give weights with the same labels"
            )


def prepare_members(images: DixonImages, method: Method) -> list[Prepared]:
    """Each member's input; members of one recipe share it.

    Raises:
        ValueError: as `prepare_images`.
    """
    found: list[Prepared] = []
    for member in method.members:
        earlier = zip(method.members, found, strict=False)
        same = (p for other, p in earlier if other.recipe == member.recipe)
        known = next(same, None)
        if known is None:
            known = prepare_images(images, member.recipe, member.settings)
        found.append(known)
    return found


def segment_members(
    prepared: Sequence[Prepared],
    shape: tuple[int, ...],
    method: Method,
    on_compile: Callable[[Size], object] = lambda window: None,
    on_compiled: Callable[[], object] = lambda: None,
    levels: SliceLevels | None = None,
) -> tuple[Segmentation, list[Settings], list[str]]:
    """Labels and confidence of a prepared scan, by one network or several.

    Args:
        prepared: of `prepare_members`.
        shape: of the scan.
        method: how.
        on_compile: see `segment_prepared`.
        on_compiled: likewise.
        levels: likewise.

    Returns:
        The segmentation, of ``shape``, with what each member and side says; the
        settings that were run, of each member; warnings.

    Raises:
        ValueError: not enough memory for any mode.
    """
    tell = on_compile, on_compiled
    if not method.others:
        found, executed, warnings = segment_prepared(
            prepared[0],
            shape,
            method.weights,
            method.recipe,
            method.settings,
            *tell,
            levels,
        )
        return found, [executed], warnings
    pairs = list(zip(method.members, prepared, strict=True))
    said = [_said(member, scan, shape, tell) for member, scan in pairs]
    opinions = [pasted(v, one.box, shape).labels for one in said for v in one.sides]
    found = _mean(said, shape)._replace(opinions=tuple(opinions))
    for scan in prepared:
        if scan.voids is not None and scan.box is not None:
            voids = np.zeros(shape, bool)
            voids[scan.box] = scan.voids
            found = found.each(lambda labels, voids=voids: in_signal(labels, voids))
    warnings = list(dict.fromkeys(line for one in said for line in one.warnings))
    if method.weights.card.architecture.classes > NUM_CLASSES:
        part = part_shape(prepared[0], shape)
        spacing_mm = part_spacing_mm(prepared[0], part, method.recipe)
        rule = method.settings.levels_rule
        found, more = with_levels(found, spacing_mm, rule, levels)
        warnings += more
    else:
        found = found._replace(levels=levels)
    return found, [one.settings for one in said], warnings


class _Said(NamedTuple):
    """What a member says of a scan.

    Attributes:
        logits: averaged over test-time augmentation.
        places: where the voxels of a part of the scan lie among them.
        box: that part.
        sides: what each side says there, or the member itself if that is all it says.
        settings: those that were run.
        warnings: of the run.
    """

    logits: Logits
    places: tuple[Places, Places, Places]
    box: tuple[slice, ...]
    sides: list[Segmentation]
    settings: Settings
    warnings: list[str]


def _said(
    member: Method, scan: Prepared, shape: tuple[int, ...], tell: Sequence[Callable]
) -> _Said:
    """Runs one member."""
    image = scan.image
    settings, warnings = runnable(image.shape[:3], member.weights, member.settings)
    forward = Forward(
        member.weights.network,
        member.weights.variables,
        settings.tta,
        True,
        settings.batch_size,
        *tell,
    )
    margin, part = member.recipe.padding, part_shape(scan, shape)
    volumes, places = volume_logits(forward, image, settings, margin, part)
    sides = [decode(side, places) for side in volumes[1:] or volumes]
    box = scan.box or tuple(slice(0, n) for n in shape)
    return _Said(volumes[0], places, box, sides, settings, warnings)


def _mean(said: Sequence[_Said], shape: tuple[int, ...]) -> Segmentation:
    """Labels and confidence of the mean probability, of the scan's shape."""
    boxes = [one.box for one in said]
    hull = tuple(
        slice(min(b.start for b in axis), max(b.stop for b in axis))
        for axis in zip(*boxes, strict=True)
    )
    roomy = tuple(-(-(h.stop - h.start) // _STEP) * _STEP for h in hull)
    inputs = []
    for one in said:
        spans = list(zip(hull, one.box, roomy, strict=True))
        before = [b.start - h.start for h, b, _ in spans]
        after = [n - (b.stop - h.start) for h, b, n in spans]
        wide = [widened(*at) for at in zip(one.places, before, after, strict=True)]
        inside = [
            (np.arange(n) >= low) & (np.arange(n) < n - high)
            for n, low, high in zip(roomy, before, after, strict=True)
        ]
        inputs.append(Member(one.logits.values, tuple(wide), tuple(inside)))
    labels, confidence = program(labels_of_mean, (tuple(inputs),), {})(tuple(inputs))
    own = tuple(slice(0, h.stop - h.start) for h in hull)
    found = Segmentation(np.asarray(labels)[own], np.asarray(confidence)[own])
    return pasted(found, hull, shape)
