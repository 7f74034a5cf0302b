"""Surface distances: google-deepmind's values, closed forms, all pairs of elements."""

from itertools import permutations, product

import numpy as np
import pytest

from cervjax.evaluation.surface_distance import (
    element_areas_mm2,
    neighbour_codes,
    surface_distances,
)

SPACING = (0.7, 0.7, 3.0)


def cylinder(radius_mm=10.0, slices=11, *, first=3, sideways_mm=0.0) -> np.ndarray:
    x = (np.arange(60) - 29.5) * 0.7
    disc = np.hypot(x[:, None] - sideways_mm, x) <= radius_mm
    labels = np.zeros((60, 60, 18), np.uint8)
    labels[..., first : first + slices] = disc[..., None]
    return labels


def ball(radius_mm: float, spacing: tuple[float, float, float]) -> np.ndarray:
    axes = [np.arange(-14, 14.1, s) for s in spacing]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    return (x**2 + y**2 + z**2 <= radius_mm**2).astype(np.uint8)


@pytest.mark.parametrize(
    "predicted, mean_mm, far_mm",
    [
        (cylinder(slices=12), 0.3202, 3.0),
        (cylinder(radius_mm=11.4), 0.8796, 1.5652),
        (cylinder(sideways_mm=2.1), 0.8904, 2.1),
        (cylinder(first=4), 0.6635, 3.0),
    ],
    ids=["one slice too long", "too wide", "sideways", "one slice up"],
)
def test_values_of_surface_distance(predicted, mean_mm, far_mm):
    """Of the package surface-distance 0.1; a mean over surface voxels gives up to
    2.4 times as much where an end is wrong, and less where a side is.

    Polygons that are not flat are parted into other triangles there, hence 0.5 %.
    """
    found = surface_distances(predicted, cylinder(), SPACING)
    assert found["surface_distance_mm"][0] == pytest.approx(mean_mm, rel=5e-3)
    assert found["hausdorff95_mm"][0] == pytest.approx(far_mm, rel=1e-4)


def test_parallel_planes():
    """A plate of 40 mm moved by 6 mm along each axis: both faces, and little rim."""
    spacing = 0.5, 1.0, 3.0
    for axis in range(3):
        shape = [int(60 / s) for s in spacing]
        box = [slice(int(10 / s), int(10 / s) + int(40 / s)) for s in spacing]
        step = int(6 / spacing[axis])
        box[axis] = slice(step, 2 * step)
        one = np.zeros(shape, np.uint8)
        one[tuple(box)] = 1
        two = np.roll(one, step, axis)
        found = surface_distances(two, one, spacing)["surface_distance_mm"][0]
        # one face of each lies on the other's, one is 6 mm off; the rim is 3 mm off
        assert found == pytest.approx(3, abs=0.15)


@pytest.mark.parametrize(
    "spacing, short_mm", [((0.5, 0.5, 0.5), 0.3), ((0.7, 0.7, 2.0), 0.55)]
)
def test_ball_in_a_ball(spacing, short_mm):
    """3 mm, less half a voxel: an oblique surface is a layer of elements."""
    found = surface_distances(ball(12, spacing), ball(9, spacing), spacing)
    assert 3 - short_mm < found["surface_distance_mm"][0] < 3
    assert found["hausdorff95_mm"][0] == pytest.approx(3, rel=0.2)


def test_each_direction_counts_by_its_area():
    """The same for exchanged masks; nothing of a label that is in one map only."""
    one, two = cylinder(), cylinder(slices=12, sideways_mm=1.4)
    there = surface_distances(one, two, SPACING)
    back = surface_distances(two, one, SPACING)
    for name in there:
        assert there[name][0] == pytest.approx(back[name][0])
        assert np.isnan(there[name][1:]).all()
    other = np.where(one == 1, np.uint8(2), one)
    assert np.isnan(surface_distances(one, other, SPACING)["surface_distance_mm"]).all()


def test_distances_against_all_pairs():
    """The nearest of all elements, found without a distance transform."""
    rng = np.random.default_rng(0)
    spacing = (0.7, 0.9, 3.0)
    maps = [np.where(rng.random((9, 8, 7)) < 0.5, 3, 0).astype(np.uint8) for _ in "ab"]
    codes = [neighbour_codes(m == 3) for m in maps]
    points = [np.argwhere((c > 0) & (c < 255)) * spacing for c in codes]
    areas = [element_areas_mm2(spacing)[c[(c > 0) & (c < 255)]] for c in codes]
    gaps = np.linalg.norm(points[0][:, None] - points[1][None], axis=-1)
    there, back = gaps.min(1), gaps.min(0)
    found = surface_distances(*maps, spacing)
    assert found["surface_distance_mm"][2] == pytest.approx(
        np.average(np.concatenate([there, back]), weights=np.concatenate(areas))
    )

    def far(distances, weights):
        """The least distance that 95 % of the area does not exceed."""
        wanted = 0.95 * weights.sum()
        return min(d for d in distances if weights[distances <= d].sum() >= wanted)

    assert found["hausdorff95_mm"][2] == pytest.approx(
        max(far(there, areas[0]), far(back, areas[1]))
    )


def test_areas_of_elements():
    """Flat ones as large as a voxel's face; none prefers a direction."""
    x, y, z = spacing = 0.7, 0.9, 3.0
    areas = element_areas_mm2(spacing)
    assert areas[0] == areas[255] == 0 and (areas[1:255] > 0).all()
    flat = {0: y * z, 1: x * z, 2: x * y}
    for axis, area in flat.items():
        cube = np.zeros((2, 2, 2), bool)
        cube[(slice(None),) * axis + (0,)] = True
        assert areas[neighbour_codes(cube)[1, 1, 1]] == pytest.approx(area)
    corner = np.linalg.norm([x * y, y * z, x * z]) / 8  # a triangle at three middles
    assert areas[1] == pytest.approx(corner)
    even = element_areas_mm2((1.0, 1.0, 1.0))
    for code in range(256):
        cube = np.array([code >> k & 1 for k in range(8)], bool).reshape(2, 2, 2)
        for order, turn in product(permutations(range(3)), product((1, -1), repeat=3)):
            turned = cube.transpose(order)[tuple(slice(None, None, t) for t in turn)]
            same = int(neighbour_codes(turned)[1, 1, 1])
            assert even[same] == pytest.approx(even[code])


def test_area_of_a_ball():
    """Steps make a surface no more than a tenth too large."""
    spacing = 0.5, 0.5, 1.0
    codes = neighbour_codes(ball(10, spacing) == 1)
    area = element_areas_mm2(spacing)[codes].sum()
    assert 1 < area / (4 * np.pi * 100) < 1.1
