"""Real images as maps: the outlines lie on the image, and nothing else is kept."""

import nibabel as nib
import numpy as np
import pytest

from cervjax.data.cache import DataError
from cervjax.data.image_maps import cache_image_maps, make_image_map
from cervjax.io.nifti import NiftiError
from cervjax.phantom.atlas import load_anatomy
from cervjax.phantom.body import paint_outlines
from cervjax.phantom.tissue_map import MAP_SHAPE

PERSON = "man_41"
STEP_MM = (1.1, 0.9, 3.0)
SHAPE = (150, 190, 34)
ORIGIN = (70.5, 120.0, 9.3)
BRIGHT = {"9": 200.0, "10": 100.0}  # right and left SCM


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """Both SCM of the person, drawn by their polygons alone, on a grid of its own."""
    from matplotlib.path import Path as Polygon

    voxels = np.full(SHAPE, 20.0, np.float32)
    x, y, z = (
        s * (np.arange(n) - o) for n, s, o in zip(SHAPE, STEP_MM, ORIGIN, strict=True)
    )
    points = np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2)
    for s in load_anatomy(PERSON).structures:
        if s.tissue in BRIGHT:
            for k, contour in zip(*s.at(z), strict=True):
                inside = Polygon(contour).contains_points(points).reshape(SHAPE[:2])
                voxels[..., k][inside] = BRIGHT[s.tissue]
    path = tmp_path_factory.mktemp("real") / "image.nii.gz"
    nib.save(nib.Nifti1Image(voxels, np.diag([*STEP_MM, 1])), path)
    return path


def test_outlines_lie_on_the_image(image):
    codes = make_image_map(image, PERSON, ORIGIN)
    assert codes.shape == MAP_SHAPE and codes.dtype == np.uint16
    grey, tissue = (codes & 255).astype(float), codes >> 8
    right, left = (grey[tissue == label] for label in (9, 10))
    assert np.median(right) > 1.8 * np.median(left) > 1.8 * np.median(grey[codes > 0])
    seen, painted = grey > 0.8 * np.median(right), tissue == 9
    assert 2 * (seen & painted).sum() / (seen.sum() + painted.sum()) > 0.9


def test_only_what_was_outlined_is_kept(image):
    codes = make_image_map(image, PERSON, ORIGIN)
    low, high = load_anatomy(PERSON).traced_mm
    z = 1.25 * (np.arange(MAP_SHAPE[2]) - (MAP_SHAPE[2] - 1) / 2)
    outside = (z < low - 2.5) | (z > high + 2.5)
    assert outside.any() and not codes[..., outside].any()
    assert codes[..., ~outside].any((0, 1)).all()


def test_painted_outlines_are_the_persons_own():
    body = paint_outlines(load_anatomy(PERSON))
    scm = next(s for s in load_anatomy(PERSON).structures if s.tissue == "9")
    k = int(round(0 - body.first_mm[0]))
    _, contour = scm.at(np.array([0.0]))
    x, y = contour[0].T
    area = 0.5 * abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))
    painted = (body.tissue[k] == 9).sum() * body.step_mm[1] * body.step_mm[2]
    assert painted == pytest.approx(area, rel=0.05)


def test_an_image_stored_another_way_round_is_the_same(image, tmp_path):
    turned = nib.load(image).as_reoriented([[2, -1], [0, -1], [1, 1]])
    nib.save(turned, tmp_path / "turned.nii.gz")
    one = make_image_map(image, PERSON, ORIGIN)
    other = make_image_map(tmp_path / "turned.nii.gz", PERSON, ORIGIN)
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", ["missing", "text"])
def test_an_image_that_cannot_be_used_is_named(tmp_path, kind):
    path = tmp_path / "other.nii.gz"
    if kind == "text":
        path.write_text("not an image")
    with pytest.raises((DataError, NiftiError), match=r"other\.nii\.gz"):
        cache_image_maps([(PERSON, str(path), ORIGIN)], tmp_path / "cache")


def test_maps_are_kept_and_made_anew_for_another_origin(image, tmp_path):
    (one,), (other,) = (
        cache_image_maps([(PERSON, str(image), origin)], tmp_path)
        for origin in (ORIGIN, (71.0, 120.0, 9.3))
    )
    assert one.is_image and one.people == (PERSON,)
    assert one.path != other.path and len(list(tmp_path.glob("*.npy"))) == 2
    before = one.path.stat().st_mtime_ns
    cache_image_maps([(PERSON, str(image), ORIGIN)], tmp_path)
    assert one.path.stat().st_mtime_ns == before
