"""Warps, against SciPy, NiftyNet's own layers, and geometry.

The corner affine is tested with the network, in `test_model`.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import BSpline
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from cervjax.anatomy import IGNORED, LEFT_RIGHT_PERMUTATION
from cervjax.data.augment_spatial import (
    Warp,
    affine_matrix,
    bspline_displacement,
    nearest,
    random_index,
    resample,
    sample_coordinates,
    warp,
)

SPACING_MM = (0.7, 0.7, 3.0)
WINDOW = (24, 20, 10)
OFF = Warp(
    mirror=False,
    scale_percent=(0, 0, 0),
    rotation_deg=(0, 0, 0),
    elastic_sigma_voxels=(0, 0, 0),
)
STRONG = Warp(
    scale_percent=(10, 10, 10),
    rotation_deg=(10, 10, 20),
    elastic_sigma_voxels=(4, 4, 2),
    elastic_probability=0.7,
)
warped = jax.jit(
    partial(warp, spacing_mm=SPACING_MM), static_argnames=("window", "settings")
)


def draw(batch=4, source=(30, 25, 13), seed=0):
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(batch, *source, 2)).astype(np.float32)
    return image, rng.integers(0, 15, (batch, *source)).astype(np.uint8)


def crop(volume, window=WINDOW):
    start = [(n - w) // 2 for n, w in zip(volume.shape[1:4], window, strict=True)]
    return volume[:, *(slice(s, s + w) for s, w in zip(start, window, strict=True))]


def middle(shape):
    return tuple((n - 1) / 2 for n in shape)


def grid(shape):
    return np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")).astype(float)


def indices(key, count, window, settings):
    """``count`` draws: indices (count, 3, x, y, z) and whether mirrored (count,)."""
    one = partial(random_index, window=window, spacing_mm=SPACING_MM, settings=settings)
    index, mirrored = jax.jit(jax.vmap(one))(jax.random.split(key, count))
    return np.asarray(index), np.asarray(mirrored)


def matrices(index):
    """The matrices of indices (n, 3, x, y, z) without a displacement."""
    origin = index[:, :, 0, 0, 0]
    steps = (index[:, :, 1, 0, 0], index[:, :, 0, 1, 0], index[:, :, 0, 0, 1])
    return np.stack(steps, -1) - origin[..., None]


@pytest.mark.parametrize("source", [(30, 25, 13), WINDOW])
def test_off_is_the_centre_crop(source):
    image, labels = draw(source=source)
    got = warped(jax.random.key(0), image, labels, window=WINDOW, settings=OFF)
    np.testing.assert_array_equal(got[0], crop(image))
    np.testing.assert_array_equal(got[1], crop(labels))
    assert got[0].dtype == np.float32 and got[1].dtype == np.uint8


def test_sampling_equals_scipys():
    image, labels = draw(source=(9, 7, 5))
    rng = np.random.default_rng(1)
    index = rng.uniform(-3, 12, (3, 6, 5, 4)).astype(np.float32)
    index[:, 0, 0] = np.array([8, 6, 4])[:, None]
    got, got_labels = jax.jit(resample)(image[0], index), nearest(labels[0], index)
    for channel in range(2):
        expected = map_coordinates(
            image[0, ..., channel], index, order=1, mode="nearest"
        )
        np.testing.assert_allclose(got[..., channel], expected, atol=1e-5)
    np.testing.assert_array_equal(
        got_labels, map_coordinates(labels[0], index, order=0, mode="nearest")
    )
    np.testing.assert_array_equal(got[0, 0, 0], image[0, 8, 6, 4])


def test_sampling_a_single_plane():
    image, labels = draw(source=(9, 7, 1))
    index = grid((9, 7, 1)) + np.array([0, 0, 0.4]).reshape(3, 1, 1, 1)
    np.testing.assert_array_equal(resample(jnp.asarray(image[0]), index), image[0])
    np.testing.assert_array_equal(nearest(jnp.asarray(labels[0]), index), labels[0])


def test_each_sample_is_moved_by_its_own_index():
    image, labels = draw()
    key = jax.random.key(3)
    got, got_labels = warped(key, image, labels, window=WINDOW, settings=STRONG)
    index, mirrored = indices(key, 4, WINDOW, STRONG)
    assert set(mirrored) == {False, True}
    index = index + np.array([3, 2, 1]).reshape(1, 3, 1, 1, 1)
    for k in range(4):
        for channel in range(2):
            expected = map_coordinates(
                image[k, ..., channel], index[k], order=1, mode="nearest"
            )
            np.testing.assert_allclose(got[k, ..., channel], expected, atol=2e-4)
        expected = map_coordinates(labels[k], index[k], order=0, mode="nearest")
        if mirrored[k]:
            expected = LEFT_RIGHT_PERMUTATION[expected]
        assert np.mean(np.asarray(got_labels[k]) != expected) < 1e-3


def test_mirror_alone_is_a_flip_with_sides_exchanged():
    image, labels = draw(batch=8)
    labels = np.asarray(labels).copy()
    labels[:, :, ::3] = IGNORED
    settings = OFF._replace(mirror=True)
    key = jax.random.key(0)
    got, got_labels = warped(key, image, labels, window=WINDOW, settings=settings)
    kept = warped(
        key,
        image,
        labels,
        window=WINDOW,
        settings=settings._replace(exchange_labels=False),
    )[1]
    mirrored = indices(key, 8, WINDOW, settings)[1]
    assert set(mirrored) == {False, True}
    for k, flip in enumerate(mirrored):
        step = -1 if flip else 1
        np.testing.assert_array_equal(got[k], crop(image)[k, ::step])
        expected = crop(labels)[k, ::step]
        np.testing.assert_array_equal(kept[k], expected)
        sides = np.arange(256)
        if flip:
            sides[:15] = LEFT_RIGHT_PERMUTATION
        np.testing.assert_array_equal(got_labels[k], sides[expected])
    again = warped(key, got, got_labels, window=WINDOW, settings=settings)
    np.testing.assert_array_equal(again[0], crop(image))
    np.testing.assert_array_equal(again[1], crop(labels))


def test_mirror_comes_before_the_rest():
    """Moving a mirrored volume is the same as mirroring within the move."""
    image, _ = draw(source=WINDOW)
    rng = np.random.default_rng(0)
    place = partial(
        sample_coordinates,
        affine_matrix(
            jnp.array([0.1, 0.2, -0.3]), jnp.array([1.1, 0.9, 1]), SPACING_MM
        ),
        displacement=jnp.asarray(rng.normal(size=(3, *WINDOW)), jnp.float32),
        shape=WINDOW,
        centre=middle(WINDOW),
    )
    np.testing.assert_allclose(
        resample(image[0], place(True)),
        resample(image[0, ::-1], place(False)),
        atol=1e-4,
    )


def test_landmark_turns_in_millimetres():
    """A blob, off the axes, goes where SciPy turns it; positive is right-handed.

    Scaling comes first, along the axes of the source.
    """
    shape, sizes = (64, 60, 24), np.array(SPACING_MM)
    sd = np.array([2.5, 2.5, 1.2]).reshape(3, 1, 1, 1)
    for degrees, zoom in (((0, 0, 5), (1, 1, 1)), ((6, -4, 15), (1.2, 0.8, 0.95))):
        angle, zoom = np.deg2rad(degrees), np.array(zoom)
        offset_mm = np.array([9.0, -7.0, 12.0])
        centre = np.array(middle(shape)).reshape(3, 1, 1, 1)
        at = centre + (offset_mm / sizes).reshape(3, 1, 1, 1)
        blob = np.exp(-((((grid(shape) - at) / sd) ** 2).sum(0)) / 2)
        index = sample_coordinates(
            affine_matrix(jnp.asarray(angle), jnp.asarray(zoom), SPACING_MM),
            False,
            None,
            shape,
            middle(shape),
        )
        moved = np.asarray(resample(blob[..., None].astype("f4"), index))[..., 0]
        centroid = (grid(shape) * moved).sum((1, 2, 3)) / moved.sum()
        x, y, z = angle
        turned_mm = Rotation.from_euler("XZY", [x, z, y]).apply(offset_mm * zoom)
        got_mm = (centroid - centre.ravel()) * sizes
        np.testing.assert_allclose(got_mm, turned_mm, atol=0.1)


def test_scaling_enlarges_a_ball():
    """Of an image: labels move by whole voxels, most of them not at all."""
    shape = (56, 56, 56)
    away = grid(shape) - np.array([27.0, 28.2, 26.5]).reshape(3, 1, 1, 1)
    ball = np.clip(20.5 - np.sqrt((away**2).sum(0)), 0, 1).astype("f4")[..., None]
    for percent in (2.5, -2.5):
        zoom = jnp.full(3, 1 + percent / 100)
        matrix = affine_matrix(jnp.zeros(3), zoom, SPACING_MM)
        index = sample_coordinates(matrix, False, None, shape, middle(shape))
        ratio = np.asarray(resample(ball, index)).sum() / ball.sum()
        assert ratio == pytest.approx((1 + percent / 100) ** 3, rel=0.001)


def test_displacement_equals_scipys_spline():
    shape, cells = (26, 22, 14), 3
    coefficients = np.random.default_rng(0).normal(size=(3, 6, 6, 6)).astype("f4")
    got = np.asarray(bspline_displacement(jnp.asarray(coefficients), shape))
    for point in [(0, 0, 0), (25, 21, 13), (7, 11, 5), (12, 3, 9)]:
        weights = []
        for at, n in zip(point, shape, strict=True):
            spacing = (n + 0.25) / cells
            knots = -0.625 + spacing * np.arange(-3, cells + 4)
            weights.append(BSpline(knots, np.eye(cells + 3), 3)(at))
        expected = np.einsum("cijk,i,j,k->c", coefficients, *weights)
        np.testing.assert_allclose(got[:, *point], expected, atol=1e-5)


@pytest.fixture
def layers(golden):
    return np.load(golden / "augmentation" / "layers.npz")


def sampled(layers, name, index, mode):
    """Golden volumes at an index, as NiftyNet's layers interpolate; and theirs."""
    image = [
        map_coordinates(layers["image"][..., 0, c], index, order=3, mode=mode)
        for c in range(2)
    ]
    labels = map_coordinates(layers["label"][..., 0, 0], index, order=0, mode=mode)
    theirs = layers[f"{name}_image"][..., 0, :], layers[f"{name}_label"][..., 0, 0]
    return np.stack(image, -1), labels, *theirs


@pytest.mark.parametrize("name", ["rotation", "rotation_x_only"])
def test_rotation_equals_niftynets(layers, name):
    shape, matrix = layers["image"].shape[:3], layers[f"{name}_matrix"]
    x, z, y = Rotation.from_matrix(matrix).as_euler("XZY")
    ours = affine_matrix(jnp.array([x, y, z]), jnp.ones(3), (1.0, 1.0, 1.0))
    np.testing.assert_allclose(ours, matrix.T, atol=1e-6)
    centre = tuple(n / 2 for n in shape)
    index = sample_coordinates(ours, False, None, shape, centre)
    image, labels, *theirs = sampled(layers, name, np.asarray(index), "constant")
    beyond = np.maximum(-index, index - np.reshape(shape, (3, 1, 1, 1)) + 1)
    clear = np.all(np.abs(beyond) > 1e-4, 0)  # not on the border but for rounding
    np.testing.assert_allclose(image[clear], theirs[0][clear], atol=2e-3)
    np.testing.assert_array_equal(labels[clear], theirs[1][clear])


def test_deformation_equals_niftynets(layers):
    shape = layers["image"].shape[:3]
    coefficients = layers["elastic_parameters"].reshape(3, 6, 6, 6)[::-1]
    moved = bspline_displacement(jnp.asarray(coefficients, jnp.float32), shape)
    index = sample_coordinates(jnp.eye(3), False, moved, shape, middle(shape))
    index = np.asarray(index)
    image, labels, *theirs = sampled(layers, "elastic", index, "mirror")
    last = np.array(shape).reshape(3, 1, 1, 1) - 1
    inside = np.all((index >= 0) & (index <= last), 0)
    assert inside.mean() > 0.4
    np.testing.assert_allclose(image[inside], theirs[0][inside], atol=1e-3)
    np.testing.assert_array_equal(labels[inside], theirs[1][inside])


def test_scaling_equals_niftynets(layers):
    """SciPy's zoom keeps both ends: a scaling about the middle to a new size."""
    before, after = layers["image"].shape[:3], layers["scaling_image"].shape[:3]
    zoom = jnp.array([(b - 1) / (a - 1) for a, b in zip(before, after, strict=True)])
    matrix = affine_matrix(jnp.zeros(3), zoom, SPACING_MM)
    index = sample_coordinates(matrix, False, None, after, middle(after))
    grown = np.subtract(before, after).reshape(3, 1, 1, 1) / 2
    image, labels, *theirs = sampled(layers, "scaling", index + grown, "mirror")
    inner = (slice(1, -1), slice(1, -1), slice(1, -1))
    np.testing.assert_allclose(image[inner], theirs[0][inner], atol=1e-3)
    np.testing.assert_array_equal(labels[inner], theirs[1][inner])


def test_mirror_equals_niftynets_flip(layers):
    """It drew x alone."""
    shape = layers["image"].shape[:3]
    index = sample_coordinates(jnp.eye(3), True, None, shape, middle(shape))
    got = resample(jnp.asarray(layers["image"][..., 0, :]), index)
    np.testing.assert_array_equal(got, layers["flip_image"][..., 0, :])


def test_niftynets_angles_are_named_otherwise():
    """Its x turns the x-y plane about ``shape / 2``, ours is about the x axis."""
    settings = OFF._replace(rotation_deg=(30, 0, 0))
    for in_voxels, axis, fixed in ((True, 2, (12, 10, 5)), (False, 0, None)):
        index, _ = indices(
            jax.random.key(0), 3, WINDOW, settings._replace(in_voxels=in_voxels)
        )
        away = index - grid(WINDOW)[None]
        np.testing.assert_allclose(away[:, axis], 0, atol=1e-5)
        assert np.abs(away).max() > 1
        if fixed:
            np.testing.assert_allclose(away[:, :, *fixed], 0, atol=1e-5)
        else:
            np.testing.assert_allclose(away.mean((2, 3, 4)), 0, atol=1e-4)


@pytest.mark.parametrize("in_voxels", [False, True])
def test_rotations_fill_their_ranges(in_voxels):
    settings = OFF._replace(rotation_deg=(2.5, 7, 5), in_voxels=in_voxels)
    index, mirrored = indices(jax.random.key(1), 500, (2, 2, 2), settings)
    sizes = np.ones(3) if in_voxels else np.array(SPACING_MM)
    turns = (matrices(index) * sizes[:, None] / sizes[None]).swapaxes(1, 2)
    x, z, y = np.rad2deg(Rotation.from_matrix(turns).as_euler("XZY")).T
    assert not mirrored.any()
    named = (z, y, x) if in_voxels else (x, y, z)
    for angle, most in zip(named, (2.5, 7, 5), strict=True):
        assert 0.97 * most < np.abs(angle).max() < 1.001 * most
        assert angle.std() == pytest.approx(most / np.sqrt(3), rel=0.1)
        assert abs(angle.mean()) < 0.1 * most


def test_scales_fill_their_ranges_axis_by_axis():
    settings = OFF._replace(scale_percent=(2.5, 5, 10), mirror=True)
    index, mirrored = indices(jax.random.key(2), 500, (2, 2, 2), settings)
    assert 0.42 < mirrored.mean() < 0.58
    percent = 100 / np.diagonal(matrices(index), axis1=1, axis2=2)
    percent[:, 0] *= np.where(mirrored, -1, 1)
    percent -= 100
    for axis, most in enumerate((2.5, 5, 10)):
        assert 0.97 * most < np.abs(percent[:, axis]).max() < 1.001 * most
        assert percent[:, axis].std() == pytest.approx(most / np.sqrt(3), rel=0.1)
    assert np.abs(np.corrcoef(percent.T) - np.eye(3)).max() < 0.15


def test_deformations_are_a_third_of_their_sigma():
    settings = OFF._replace(elastic_sigma_voxels=(10, 10, 2.33))
    index, _ = indices(jax.random.key(4), 300, (12, 12, 12), settings)
    moved = index - grid((12, 12, 12))[None]
    still = np.all(moved == 0, (1, 2, 3, 4))
    assert 0.4 < still.mean() < 0.6
    sd = moved[~still].std((0, 2, 3, 4))
    np.testing.assert_allclose(sd, [3.3, 3.3, 0.77], rtol=0.06)


def test_inverse_brings_a_smooth_image_back():
    rng = np.random.default_rng(0)
    shape = (40, 36, 24)
    image = gaussian_filter(rng.normal(size=shape), 4)
    image = (image / image.std()).astype("f4")[..., None]
    coefficients = jnp.asarray(rng.normal(size=(3, 6, 6, 6)), jnp.float32)
    matrix = affine_matrix(
        jnp.array([0.04, -0.04, 0.09]), jnp.array([1.02, 0.98, 1.02]), SPACING_MM
    )
    index = sample_coordinates(
        matrix, True, bspline_displacement(coefficients, shape), shape, middle(shape)
    )
    moved, forward = resample(image, index), np.asarray(index)
    linear = np.diag([-1, 1, 1]) @ np.asarray(matrix)
    where, target = grid(shape), grid(shape)
    for _ in range(20):  # newton's steps with the affine part of the slope
        reached = [map_coordinates(f, where, order=1, mode="nearest") for f in forward]
        miss = target - np.stack(reached)
        where = where + np.einsum("ij,jxyz->ixyz", np.linalg.inv(linear), miss)
        where = np.clip(where, 0, np.array(shape).reshape(3, 1, 1, 1) - 1)
    back = resample(moved, jnp.asarray(where, jnp.float32))
    inner = (slice(8, -8), slice(8, -8), slice(6, -6), 0)
    error = np.asarray(back)[inner] - image[inner]
    assert np.abs(np.asarray(moved)[inner] - image[inner]).max() > 1
    assert np.abs(error).max() < 0.15 and error.std() < 0.04


def test_labels_are_never_invented():
    image, labels = draw()
    labels = np.where(labels < 8, 2, 9).astype(np.uint8)
    got = warped(jax.random.key(5), image, labels, window=WINDOW, settings=STRONG)[1]
    assert got.dtype == labels.dtype
    assert set(np.unique(got)) <= {1, 2, 9, 10}
    for sample in np.asarray(got):
        assert set(np.unique(sample)) in ({2, 9}, {1, 10})


def test_same_key_same_result_other_key_another():
    image, labels = draw()
    run = partial(warped, window=WINDOW, settings=STRONG)
    first, again, other = (run(jax.random.key(k), image, labels) for k in (6, 6, 7))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert np.abs(np.asarray(first[0]) - np.asarray(other[0])).mean() > 0.1


def test_not_compiled():
    key = jax.random.key(8)
    got, mirrored = indices(key, 2, WINDOW, STRONG)
    for k, one in enumerate(jax.random.split(key, 2)):
        eager = random_index(one, WINDOW, SPACING_MM, STRONG)
        np.testing.assert_allclose(got[k], eager[0], atol=1e-4)
        assert mirrored[k] == eager[1]


def test_under_vmap():
    image, labels = (np.stack([v, v[::-1]]) for v in draw())
    run = partial(warped, window=WINDOW, settings=STRONG)
    keys = jax.random.split(jax.random.key(8), 2)
    both = jax.vmap(run)(keys, image, labels)
    for k in range(2):
        one = run(keys[k], image[k], labels[k])
        np.testing.assert_allclose(both[0][k], one[0], atol=2e-4)
        assert np.mean(both[1][k] != one[1]) < 1e-3


def test_shapes_that_do_not_fit_are_refused():
    image, labels = draw()
    with pytest.raises(ValueError, match="exceeds the source"):
        warped(jax.random.key(0), image, labels, window=(31, 9, 9), settings=OFF)
    with pytest.raises(ValueError, match="are not the image's"):
        warped(jax.random.key(0), image, labels[:1], window=WINDOW, settings=OFF)
