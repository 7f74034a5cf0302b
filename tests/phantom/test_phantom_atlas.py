import numpy as np
import pytest
from matplotlib.path import Path as Outline

from cervjax.phantom.atlas import load_anatomy
from cervjax.phantom.body import paint
from cervjax.phantom.structure import Structure

pytestmark = pytest.mark.xdist_group("phantom")
LEVELS = dict(zip("C2 C3 C4 C5 C6 C7 T1".split(), range(2, 9), strict=True))


def test_levels_lie_on_each_other():
    bounds = load_anatomy().level_bounds_mm
    assert list(bounds) == list(LEVELS)
    for upper, lower in zip(list(LEVELS)[:-1], list(LEVELS)[1:], strict=True):
        assert bounds[upper][0] == bounds[lower][1]
        assert bounds[upper][0] < bounds[upper][1]
    assert bounds["C5"][0] < 0 < bounds["C5"][1]


def test_sections_between_sections_by_hand():
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]])
    one = Structure(
        "s", "fat", 0, 1, np.array([0.0, 10.0]), np.stack([square, 3 * square])
    )
    index, xy = one.at(np.array([-1.0, 0.0, 2.5, 10.0, 10.5]))
    np.testing.assert_array_equal(index, [1, 2, 3])
    np.testing.assert_allclose(xy, [square, 1.5 * square, 3 * square])


def test_what_reaches_the_end_of_the_atlas_goes_on():
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]])
    one = Structure(
        "s",
        "fat",
        0,
        1,
        np.array([-60.0, 0.0, 60.0]),
        np.stack([square, 2 * square, 3 * square]),
        goes_on=(True, True),
    )
    index, xy = one.at(np.array([-75.0, 30.0, 70.0]))
    np.testing.assert_array_equal(index, [0, 1, 2])
    np.testing.assert_allclose(xy, [square, 2.5 * square, 3 * square])


def polygon(rng, lobes=19, reach=60.0):
    """Not convex, does not cross itself."""
    angle = np.sort(rng.uniform(0, 2 * np.pi, lobes))
    radius = rng.uniform(0.2, 1, lobes) * reach
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


@pytest.mark.parametrize("centre", [(0, 0), (150, 95), (-150, -118), (0, 400)], ids=str)
def test_painting_against_matplotlib(centre):
    rng = np.random.default_rng(3)
    xy = np.stack([polygon(rng) + centre for _ in range(2)])
    xy[1] += 7.3
    volume = np.zeros((4, 445, 625), np.uint8)
    paint(volume, np.array([1, 2]), xy, 9)
    x, y = np.meshgrid(-156 + 0.5 * np.arange(625), -122 + 0.5 * np.arange(445))
    points = np.stack([x.ravel(), y.ravel()], 1)
    for plane, outline in zip(volume[1:3], xy, strict=True):
        inside = Outline(outline).contains_points(points).reshape(x.shape)
        np.testing.assert_array_equal(plane, 9 * inside)
    assert not volume[[0, 3]].any()
    assert volume.any() == (centre != (0, 400))


def test_painting_over_some_codes_only():
    volume = np.random.default_rng(0).integers(0, 5, (1, 445, 625)).astype(np.uint8)
    before = volume.copy()
    square = np.array([[-20.1, -20.1], [20.1, -20.1], [20.1, 20.1], [-20.1, 20.1]])
    paint(volume, np.array([0]), square[None], 200, np.isin(np.arange(256), [1, 3]))
    inside = np.zeros(before.shape, bool)
    inside[0, 204:285, 272:353] = True  # -20 to 20 mm
    free = inside & np.isin(before, [1, 3])
    assert (volume[free] == 200).all() and free.any()
    np.testing.assert_array_equal(volume[~free], before[~free])
