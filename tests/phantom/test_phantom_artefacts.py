from types import SimpleNamespace

import numpy as np
import pytest

from cervjax.phantom.artefacts import (
    FIELD_STEP_MM,
    add_metal,
    at_voxels,
    coil_shading,
    dephasing,
    field_map_hz,
    fold,
    move,
    pulsate,
    swallow,
)
from cervjax.phantom.body import Body
from cervjax.phantom.tissues import CODES

pytestmark = pytest.mark.xdist_group("phantom")


def complex_image(seed=0, shape=(5, 24, 3)):
    rng = np.random.default_rng(seed)
    image = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    return image.astype(np.complex64)


def test_fold_by_hand():
    line = np.array([1, 2, 10, 20, 30, 40, 3, 4])[None, :, None]
    found = fold(line, 2)[0, :, 0]
    # 1 2 lie in front of the first row: they appear at the end; 3 4 at the start
    np.testing.assert_array_equal(found, [10 + 3, 20 + 4, 30 + 1, 40 + 2])
    np.testing.assert_array_equal(fold(line, 0), line)


def from_the_first_line():
    """In place of a generator: the motion begins long before the scan."""
    return SimpleNamespace(uniform=lambda low, high: -10.0)


def test_no_motion_is_the_identity():
    image = complex_image()
    found = move(image, np.random.default_rng(0), 0.0, 0.7)
    np.testing.assert_allclose(found, image, atol=1e-5)


@pytest.mark.parametrize("rows", [3, -5])
def test_motion_of_the_whole_scan_is_a_shift(rows):
    image = complex_image()
    found = move(image, from_the_first_line(), rows * 0.7, 0.7)
    np.testing.assert_allclose(found, np.roll(image, rows, 1), atol=1e-5)


def test_motion_keeps_the_energy_and_blurs():
    image = complex_image()
    found = move(image, np.random.default_rng(1), 2.0, 0.7)
    energy = [np.sum(np.abs(v) ** 2, (1,)) for v in (found, image)]
    np.testing.assert_allclose(*energy, rtol=1e-4)
    assert np.abs(found - image).max() > 0.1


def test_swallowing_stays_in_its_columns():
    image = complex_image(shape=(9, 64, 4))
    where = np.zeros(image.shape, np.float32)
    where[3:6, 20:30] = 1
    still = swallow(image, where, np.random.default_rng(0), 0.0)
    np.testing.assert_allclose(still, image, atol=1e-5)
    np.testing.assert_array_equal(swallow(image, 0 * where, None, 0.5), image)
    ghosts = swallow(image, where, np.random.default_rng(0), 0.5) - image
    assert (ghosts[:3] == 0).all() and (ghosts[6:] == 0).all()
    assert np.abs(ghosts[3:6]).max() > 0.05
    assert np.abs(ghosts[3:6, 40:]).max() > 0.01  # along the whole column


def test_pulsation_by_hand():
    image = np.zeros((3, 300, 2), np.complex64)
    image[1, 150, 0] = image[0, 50, 1] = 4
    arteries = np.zeros(image.shape, np.float32)
    arteries[1] = 1
    still = pulsate(image, arteries, np.random.default_rng(0), 0.0)
    np.testing.assert_array_equal(still, image)
    found = pulsate(image, arteries, np.random.default_rng(0), 0.1)
    ghosts = np.abs(found - image)
    assert not ghosts[[0, 2]].any() and not ghosts[1, :, 1].any()
    rows = np.flatnonzero(ghosts[1, :, 0])
    period = rows[-2] - 150
    assert 24 <= period < 60
    assert list(rows - 150) == [-2 * period, -period, period, 2 * period]
    assert ghosts[1, rows, 0] == pytest.approx([0.16, 0.4, 0.4, 0.16], rel=1e-4)


def sphere(radius_mm, centre_mm=(2.0, -10.0, 0.0)):
    """Fat in air, on the usual grid; centre z, y, x."""
    first, step = np.array([-78.0, -122.0, -156.0]), np.array([1.0, 0.5, 0.5])
    axes = [
        f + s * np.arange(n)
        for f, s, n in zip(first, step, (157, 445, 625), strict=True)
    ]
    square = [(a - c) ** 2 for a, c in zip(axes, centre_mm, strict=True)]
    inside = square[0][:, None, None] + square[1][:, None] + square[2] < radius_mm**2
    return Body(np.where(inside, CODES["fat"], 0).astype(np.uint8), first, step)


@pytest.mark.parametrize("field_t", [3.0, 1.5], ids=str)
@pytest.mark.parametrize("radius_mm", [32.0, 40.0], ids=str)
def test_field_of_a_sphere_is_a_dipole(radius_mm, field_t):
    """But for a shim of second order, which is taken out of both."""
    hz = field_map_hz(sphere(radius_mm), field_t)
    axes = [
        f + FIELD_STEP_MM * np.arange(n) - c
        for f, n, c in zip((-78, -122, -156), hz.shape, (2, -10, 0), strict=True)
    ]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    r = np.sqrt(x**2 + y**2 + z**2)
    outside = (r > 1.2 * radius_mm) & (r < 1.9 * radius_mm)
    x, y, z, r = (v[outside] for v in (x, y, z, r))
    ppm = (-9.05 - 0.36) / 3 * (radius_mm / r) ** 3 * (3 * (z / r) ** 2 - 1)
    shim = np.stack(
        [
            np.ones_like(x),
            x,
            y,
            z,
            x * y,
            x * z,
            y * z,
            x * x - y * y,
            2 * z * z - x * x - y * y,
        ],
        1,
    )
    left = [
        v - shim @ np.linalg.lstsq(shim, v, rcond=None)[0]
        for v in (hz[outside], 42.577 * field_t * ppm)
    ]
    slope = (left[0] @ left[1]) / (left[1] @ left[1])
    assert slope == pytest.approx(1, abs=0.12)
    assert np.corrcoef(*left)[0, 1] > 0.97


def test_field_within_a_sphere_is_shimmed_away():
    body = sphere(40.0)
    hz = field_map_hz(body, 3.0)
    middle = hz[16:25, 24:33, 35:44]  # 16 mm to all sides
    assert np.abs(middle).max() < 20
    assert np.abs(hz).max() > 200


def test_shim_leaves_no_slope_in_the_neck(neck):
    hz = field_map_hz(neck.body, 3.0)
    inside = neck.body.tissue[::4, ::8, ::8] > 0
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in hz.shape), indexing="ij")
    inside &= np.abs(z) < 0.75  # what is shimmed
    left = hz[inside]
    assert 20 < left.std() < 300
    for term in (np.ones_like(x), x, y, z, x * y, x * z, y * z):
        share = (left @ term[inside]) / np.linalg.norm(left)
        assert abs(share) < 1e-6 * np.linalg.norm(term[inside])


def test_metal_by_hand():
    body = SimpleNamespace(first_mm=np.array([-40.0, -40.0, -40.0]))
    hz = np.full((21, 21, 21), 7.0)
    found = add_metal(hz, body, np.array([[0.0, 0.0, 0.0]]), 4.0) - 7
    # at one radius 2 and -1 times the strength, at two an eighth of it
    assert found[[9, 11], 10, 10] == pytest.approx([24_000] * 2)
    assert found[10, [9, 11], 10] == pytest.approx([-12_000] * 2)
    assert found[12, 10, 10] == pytest.approx(3000)
    assert found[10, 10, 12] == pytest.approx(-1500)
    assert (hz == 7).all()


def test_flat_field_does_not_dephase():
    np.testing.assert_array_equal(dephasing(np.full((4, 5, 6), 80.0), 3.69, 3.0), 1)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_dephasing_of_a_slope(axis):
    slope, te, voxel = 25.0, 3.69, 3.0  # Hz/mm, ms, mm
    ramp = slope * FIELD_STEP_MM * np.arange(8.0)
    shape = [-1 if i == axis else 1 for i in range(3)]
    hz = np.broadcast_to(ramp.reshape(shape), (8, 8, 8))
    u = (np.arange(10_000) + 0.5) / 10_000 * voxel - voxel / 2
    wanted = abs(np.exp(2j * np.pi * slope * u * te / 1000).mean())
    assert 0.8 < wanted < 0.9
    np.testing.assert_allclose(dephasing(hz, te, voxel), wanted, rtol=1e-6)


def test_field_between_its_points():
    body = SimpleNamespace(first_mm=np.array([-10.0, 0.0, 5.0]))
    field = np.add.outer(
        np.add.outer(100.0 * np.arange(4), 10 * np.arange(4)), np.arange(4)
    )
    at = np.array([[-10.0, -4.0], [4.0, 6.0], [5.0, 16.0]])  # z, y, x
    found = at_voxels(field, at[..., None, None], body)
    np.testing.assert_allclose(found.ravel(), [10, 150 + 15 + 2.75])


def test_coils():
    points = np.random.default_rng(0).uniform(-60, 60, (3, 12, 10, 8))
    flat = coil_shading(points, 0.0, np.random.default_rng(1))
    np.testing.assert_allclose(flat, 1)
    shade = coil_shading(points, 1.0, np.random.default_rng(1))
    assert shade.mean() == pytest.approx(1)
    centre, rim = np.zeros((3, 1)), np.array([[0.0], [-80.0], [0.0]])
    both = np.concatenate([centre, rim], 1)
    low, high = coil_shading(both, 1.0, np.random.default_rng(1))
    assert high > 1.2 * low
