"""Real images of outlined people as maps to train from, beside digital necks.

Such a map looks like a `tissue map <cervjax.phantom.tissue_map>`, but the low byte is
the image's grey: what planes, vessels and coils really look like, whatever the
contrast. Only what was outlined is kept.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates

from cervjax.data.cache import DataError
from cervjax.data.tissue_maps import MapFile
from cervjax.io.files import write_atomically
from cervjax.io.nifti import read_nifti
from cervjax.phantom.atlas import load_anatomy
from cervjax.phantom.body import paint_outlines
from cervjax.phantom.tissue_map import MAP_CENTRE_MM, MAP_SHAPE, MAP_SPACING_MM

_FORMAT = 1  # raise it when `make_image_map` gives another map
_WHITE_PERCENTILE = 99.7
_HALF_SECTION_MM = 2.5


Source = tuple[str, str, tuple[float, float, float]]
"""Name or file of outlines, image, index of the outlines' origin in the image."""


def cache_image_maps(sources: Sequence[Source], folder: Path) -> list[MapFile]:
    """Makes the maps that are not there yet; some three seconds each.

    Args:
        sources: images and their outlines.
        folder: where to; 11 MB a map.

    Raises:
        DataError: an image is not there.
        NiftiError: it cannot be used.
    """
    return [_cached(*source, folder) for source in sources]


def _cached(
    anatomy: str, image: str, origin_voxel: tuple[float, float, float], folder: Path
) -> MapFile:
    path = Path(image)
    if not path.is_file():
        raise DataError(
            f"config.tissue_maps.images: {path}: no such file; give the path of an "
            "image whose outlines are known, or images=()"
        )
    digest = hashlib.sha256(path.read_bytes())
    digest.update(repr((_FORMAT, anatomy, tuple(origin_voxel))).encode())
    key = digest.hexdigest()
    target = folder / f"{key[:24]}.npy"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        codes = make_image_map(path, anatomy, origin_voxel)

        def save(part: Path) -> None:
            with part.open("wb") as file:
                np.save(file, codes)

        write_atomically(target, save)
    name = f"{path.parent.name}/{path.name}"
    return MapFile(name, target, key, (anatomy,), is_image=True)


def make_image_map(
    path: Path, anatomy: str, origin_voxel: tuple[float, float, float]
) -> np.ndarray:
    """The part of an image that was outlined.

    Args:
        path: NIfTI image, one contrast.
        anatomy: the person's outlines, of `load_anatomy`.
        origin_voxel: index of the outlines' origin, the centre of C5, in the image
            turned to RAS.

    Returns:
        uint16 ``(x, y, z)`` as `make_tissue_map`'s codes, the low byte grey.

    Raises:
        NiftiError: the image cannot be used.
    """
    person = load_anatomy(anatomy)
    image = read_nifti(path)
    voxels = image.data - image.data.min()
    white = np.percentile(voxels[voxels > voxels.mean()], _WHITE_PERCENTILE)
    mm = [
        c + s * (np.arange(n) - (n - 1) / 2)
        for c, s, n in zip(MAP_CENTRE_MM, MAP_SPACING_MM, MAP_SHAPE, strict=True)
    ]
    index = [
        o + m / s for m, s, o in zip(mm, image.spacing_mm, origin_voxel, strict=True)
    ]
    at = np.stack(np.meshgrid(*index, indexing="ij"))
    grey = map_coordinates(voxels, at, order=1, mode="constant", prefilter=False)
    grey = np.clip(255 * grey / white, 0, 255).astype(np.uint16)
    body = paint_outlines(person)
    x, y, z = (
        np.clip(np.round((m - first) / step).astype(int), 0, n - 1)
        for m, first, step, n in zip(
            mm,
            body.first_mm[::-1],
            body.step_mm[::-1],
            body.tissue.shape[::-1],
            strict=True,
        )
    )
    tissue = body.tissue[np.ix_(z, y, x)].transpose(2, 1, 0).astype(np.uint16)
    low, high = person.traced_mm
    kept = (mm[2] >= low - _HALF_SECTION_MM) & (mm[2] <= high + _HALF_SECTION_MM)
    return np.where(kept, (tissue << 8) | grey, 0).astype(np.uint16)
