"""An exported network on one scan, by JAX alone: cervjax is not imported.

cervjax export -o model/
python examples/run_exported.py model/ ip.nii.gz op.nii.gz labels.nii.gz

Needs jax, flatbuffers, numpy, scipy and nibabel. Writes muscles in their full length,
as ``cervjax infer --levels-rule none`` does; not for clinical use.
"""

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from jax import export
from scipy import ndimage

MUSCLES = 14  # higher classes are vertebral bodies


def main(model: Path, in_phase: Path, out_phase: Path, target: Path) -> None:
    """Reads a pair of images, and writes labels on their grid, stored as RAS."""
    recipe = json.loads((model / "recipe.json").read_text())
    program = bytearray((model / "network.jax_export").read_bytes())
    network = export.deserialize(program)
    images = [nib.as_closest_canonical(nib.load(p)) for p in (in_phase, out_phase)]
    pair = [np.asarray(image.dataobj, np.float32) for image in images]
    spacing_mm = [float(step) for step in images[0].header.get_zooms()[:3]]
    labels = segment(network, recipe, pair, spacing_mm)
    nib.save(nib.Nifti1Image(labels, images[0].affine), target)
    names = recipe["output"]["classes"]
    for label in range(1, MUSCLES + 1):
        millilitres = (labels == label).sum() * np.prod(spacing_mm) / 1000
        print(f"{names[str(label)]:8} {millilitres:6.1f} ml")


def segment(network, recipe, pair, spacing_mm):
    """Labels uint8 (x, y, z) of two float32 volumes in RAS."""
    given, wanted = recipe["input"], recipe["output"]
    if given["normalisation"] != "foreground":
        raise SystemExit("this example knows the normalisation 'foreground' only")
    constants = given["foreground"]
    box = body_box(pair[0], spacing_mm, constants)
    voids = signal_voids(pair[0], spacing_mm, constants)[box]
    steps = zip(voids.shape, spacing_mm, given["spacing_mm"], strict=True)
    grid = [round(n * (own / new)) for n, own, new in steps]
    image = np.stack([prepared(volume[box], grid, given) for volume in pair], -1)
    size, margin = given["shape"][1:4], given["padding"]
    room = [n - m for n, m in zip(size, image.shape[:3], strict=True)]
    if min(room) < 0:
        need = " ".join(map(str, image.shape[:3]))
        raise SystemExit(f"the model takes {size}; export it again with --size {need}")
    image = np.pad(image, [*((0, n) for n in room), (0, 0)], mode="edge")
    logits = np.asarray(network.call(image[None]))
    places = [
        (m + np.linspace(0, n - 1, count)) / step
        for m, n, count, step in zip(
            margin, grid, voids.shape, wanted["voxels_per_logit"], strict=True
        )
    ]
    classes = decoded(logits, places)
    classes[voids | (classes > MUSCLES)] = 0
    labels = np.zeros(pair[0].shape, np.uint8)
    labels[box] = classes
    return labels


def foreground(height, constants):
    """What is not air, and its mean, of intensities above the lowest."""
    level = height.mean(dtype=np.float64)
    for _ in range(2):
        mask = height > constants["foreground_share"] * level
        level = height[mask].mean(dtype=np.float64)
    return mask, level


def body_box(volume, spacing_mm, constants):
    """The part of the scan with the body in it; all slices."""
    mask, _ = foreground(volume - volume.min(), constants)
    box = []
    for axis in (0, 1):
        profile = mask.sum((1 - axis, 2))
        inside = np.flatnonzero(profile > constants["column_share"] * profile.max())
        margin = round(constants["margin_mm"] / spacing_mm[axis])
        box.append(slice(max(inside[0] - margin, 0), inside[-1] + 1 + margin))
    return *box, slice(None)


def signal_voids(volume, spacing_mm, constants):
    """Where there is too little signal to see a muscle by."""
    height = volume - volume.min()
    mask, level = foreground(height, constants)
    air = np.median(height[~mask]) if not mask.all() else 0.0
    share = np.clip(constants["over_air"] * air / level, *constants["void_share"])
    sigma = [constants["smooth_mm"] / step for step in spacing_mm[:2]]
    return ndimage.gaussian_filter(height, (*sigma, 0)) < share * level


def prepared(volume, grid, given):
    """A channel on the network's grid, whitened, padded with air."""
    for axis in sorted(range(3), key=lambda a: grid[a] / volume.shape[a]):
        if volume.shape[axis] != grid[axis]:
            matrix = axis_matrix(volume.shape[axis], grid[axis])
            moved = np.tensordot(matrix, volume, (1, axis))
            volume = np.moveaxis(moved, 0, axis)
    height = volume - volume.min()
    mask, level = foreground(height, given["foreground"])
    height = np.minimum(height, np.float32(given["foreground"]["brightest"] * level))
    away = height - height[mask].mean()
    deviation = np.sqrt(np.square(away[mask], dtype=np.float64).mean())
    white = away / np.float32(max(deviation, 1e-5))
    return np.pad(
        white, [(n, n) for n in given["padding"]], constant_values=white.min()
    )


def axis_matrix(size, count):
    """Cubic spline from corner to corner; an axis that loses voxels is smoothed."""
    unit = np.eye(size)
    if size > count:
        sigma = np.sqrt(((size / count) ** 2 - 1) / (8 * np.log(2)))
        unit = ndimage.gaussian_filter1d(unit, sigma, axis=0, mode="mirror")
    zoomed = ndimage.zoom(unit, (count / size, 1), order=3, mode="mirror")
    return zoomed.astype(np.float32)


def decoded(logits, places):
    """The class of the largest logit at places along x, y and z, between logits."""

    def between(values, at, axis):
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, values.shape[axis] - 1)
        share = (at - low).astype(np.float32).reshape(-1, *[1] * (values.ndim - 1))
        moved = np.moveaxis(values, axis, 0)
        mixed = moved[low] + (moved[high] - moved[low]) * share
        return np.moveaxis(mixed, 0, axis)

    rows = [  # one x at a time: all classes of a whole scan are gigabytes
        between(between(between(logits, at, 0), places[1], 1), places[2], 2)
        .argmax(-1)
        .astype(np.uint8)
        for at in np.split(places[0], len(places[0]))
    ]
    return np.concatenate(rows)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:5]))
