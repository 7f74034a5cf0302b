import numpy as np
import pytest
from skimage.measure import euler_number

from cervjax.figures.meshes import muscle_meshes, outlines_mm


def ellipsoid(radii_mm, spacing_mm, middle_mm, margin=3, value=1):
    """A mask and its affine; the middle is in scanner millimetres."""
    spacing = np.array(spacing_mm, float)
    shape = np.ceil(2 * np.array(radii_mm) / spacing).astype(int) + 2 * margin
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = middle_mm - spacing * (shape - 1) / 2
    at = np.moveaxis(np.indices(shape), 0, -1) * spacing + affine[:3, 3] - middle_mm
    inside = ((at / radii_mm) ** 2).sum(-1) < 1
    return (inside * value).astype(np.uint8), affine


def rotation(degrees, axis):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.eye(3)
    i, j = [k for k in range(3) if k != axis]
    turn[[i, i, j, j], [i, j, i, j]] = c, -s, s, c
    return turn


@pytest.mark.parametrize(
    "spacing", [(0.7, 0.7, 3.0), (1, 1, 1), (0.5, 1.2, 2)], ids=str
)
@pytest.mark.parametrize("resolution_mm", [1.0, 1.75])
def test_volume_and_surface_of_an_ellipsoid(spacing, resolution_mm):
    radii, middle = np.array((20.0, 12.0, 25.0)), np.array((-31.0, 12.5, 7.0))
    labels, affine = ellipsoid(radii, spacing, middle)
    (mesh,) = muscle_meshes(labels, affine, resolution_mm=resolution_mm)
    assert mesh.volume_ml == pytest.approx(4 / 3 * np.pi * radii.prod() / 1e3, rel=0.02)
    distance = np.linalg.norm((mesh.vertices - middle) / radii, axis=1)
    assert np.abs(distance - 1).max() < 0.06 and np.abs(distance - 1).mean() < 0.01
    outward = (mesh.normals * (mesh.vertices - middle)).sum(1)
    assert outward.min() > 0
    np.testing.assert_allclose(np.linalg.norm(mesh.normals, axis=1), 1, atol=1e-9)


@pytest.mark.parametrize("thick_mm", [2.0, 4.0])
def test_thin_sheets_keep_their_volume(thick_mm):
    labels = np.zeros((80, 40, 20), np.uint8)
    for x in range(10, 70):  # a slanting sheet
        y = 10 + x // 6
        labels[x, y : y + round(thick_mm / 0.7), 4:14] = 11
    (mesh,) = muscle_meshes(labels, np.diag([0.7, 0.7, 3, 1]))
    voxels_ml = (labels > 0).sum() * 0.7 * 0.7 * 3 / 1000
    assert mesh.mask_volume_ml == pytest.approx(voxels_ml)
    assert mesh.volume_ml == pytest.approx(voxels_ml, rel=0.005)


def test_a_single_voxel_has_its_place_and_volume():
    labels = np.zeros((5, 6, 7), np.int16)
    labels[0, 5, 3] = 4
    affine = np.array([[0, -1.5, 0, 10], [2, 0, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1.0]])
    (mesh,) = muscle_meshes(labels, affine)
    assert mesh.muscle.key == "LC_L"
    middle = (mesh.vertices.min(0) + mesh.vertices.max(0)) / 2
    np.testing.assert_allclose(middle, (10 - 7.5, -20, 5 + 9), atol=0.3)
    assert mesh.volume_ml == pytest.approx(0.009, rel=0.005)


def test_an_oblique_affine_turns_the_surface():
    labels, affine = ellipsoid((15, 8, 20), (0.7, 0.7, 3), (30, 5, -4))
    turn = np.eye(4)
    turn[:3, :3] = rotation(14, 2) @ rotation(9, 0)
    turn[:3, 3] = 3, -60, 11
    (straight,) = muscle_meshes(labels, affine)
    (turned,) = muscle_meshes(labels, turn @ affine)
    expected = straight.vertices @ turn[:3, :3].T + turn[:3, 3]
    np.testing.assert_allclose(turned.vertices, expected, atol=1e-3)
    np.testing.assert_array_equal(turned.faces, straight.faces)


@pytest.mark.parametrize("axis", range(3))
def test_a_mirrored_grid_is_not_turned_inside_out(axis):
    labels, affine = ellipsoid((15, 8, 20), (1, 1, 2), (30, 5, -4))
    flip = np.eye(4)
    flip[axis, axis], flip[axis, 3] = -1, labels.shape[axis] - 1
    (straight,) = muscle_meshes(labels, affine)
    (stored,) = muscle_meshes(np.flip(labels, axis), affine @ flip)
    assert stored.volume_ml == pytest.approx(straight.volume_ml, rel=1e-3)
    outward = stored.normals * (stored.vertices - (30, 5, -4))
    assert stored.volume_ml > 0 and outward.sum(1).min() > 0
    for end in (np.min, np.max):
        np.testing.assert_allclose(
            end(stored.vertices, 0), end(straight.vertices, 0), atol=0.15
        )


def test_muscles_at_the_end_of_the_volume_are_closed():
    labels = np.full((12, 12, 8), 9, np.uint8)
    (mesh,) = muscle_meshes(labels, np.diag([2, 2, 3, 1.0]))
    edges = np.sort(mesh.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), 1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
    assert mesh.volume_ml == pytest.approx(24 * 24 * 24 / 1000, rel=0.005)


def test_one_mesh_for_each_muscle_there_is():
    labels = np.zeros((30, 12, 12), np.uint8)
    labels[2:8, 3:9, 3:9], labels[20:26, 3:9, 3:9] = 14, 3
    meshes = muscle_meshes(labels, np.eye(4))
    assert [m.muscle.label for m in meshes] == [3, 14]
    assert meshes[0].vertices[:, 0].min() > 15 > meshes[1].vertices[:, 0].max()


@pytest.mark.parametrize(
    "labels, affine, options, message",
    [
        (np.zeros((4, 4, 4), int), np.eye(4), {}, "no muscle"),
        (np.full((4, 4, 4), 15), np.eye(4), {}, "0-14 .* got 15 to 15"),
        (np.ones((4, 4, 4)), np.eye(4), {}, "integers"),
        (np.ones((4, 4), int), np.eye(4), {}, "integers .x, y, z."),
        (np.ones((4, 4, 4), int), np.zeros((4, 4)), {}, "invertible"),
        (np.ones((4, 4, 4), int), np.eye(4), {"resolution_mm": 0}, "positive"),
    ],
    ids=["empty", "foreign", "floats", "flat", "singular", "resolution"],
)
def test_refuses(labels, affine, options, message):
    with pytest.raises(ValueError, match=message):
        muscle_meshes(labels, affine, **options)


def area(line):
    x, y = line.T
    return 0.5 * float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))


@pytest.mark.parametrize("seed", range(6))
def test_outlines_hold_their_voxels_less_half_a_voxel(seed):
    mask = np.random.default_rng(seed).random((30, 24)) < 0.6
    mask[0], mask[:, -1] = True, True  # at the edge of the image too
    total = abs(sum(area(line) for line in outlines_mm(mask, (0.7, 1.1))))
    voxels = mask.sum() - euler_number(mask, 1) / 2
    assert total == pytest.approx(voxels * 0.7 * 1.1)


def test_outlines_touch_the_faces_of_their_voxels():
    mask = np.zeros((9, 9), bool)
    mask[3:5, 5] = True
    (line,) = outlines_mm(mask, (2, 3))
    np.testing.assert_allclose(line.min(0), (6, 15))
    np.testing.assert_allclose(line.max(0), (10, 18))
    np.testing.assert_array_equal(line[0], line[-1])
    assert outlines_mm(np.zeros((3, 3), bool), (1, 1)) == []
