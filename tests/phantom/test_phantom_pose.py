import numpy as np
import pytest
from digital import CURVED, PLAIN, moved
from scipy.spatial.transform import Rotation

from cervjax.phantom.atlas import load_anatomy
from cervjax.phantom.pose import (
    affine_to_neck,
    draw_pose,
    slice_levels,
    to_neck,
    upright,
)
from cervjax.phantom.subject import (
    draw_subject,
)

pytestmark = pytest.mark.xdist_group("phantom")
LEVELS = dict(zip("C2 C3 C4 C5 C6 C7 T1".split(), range(2, 9), strict=True))


def test_plain_pose_is_the_identity():
    points = np.random.default_rng(0).uniform(-110, 110, (3, 500))
    np.testing.assert_allclose(to_neck(PLAIN, *points), points, atol=1e-9)


def test_lordosis_by_hand():
    # 0.01 per mm: at a height of 20, y falls by 2 and the plane tilts by 0.2
    curved = PLAIN._replace(lordosis_deg=np.rad2deg(0.01 * 81))
    x, y, z = to_neck(curved, 0.0, np.array([2.0, -10.0]), 20.0)
    np.testing.assert_allclose(y, [4, -8])
    np.testing.assert_allclose(z, [20 - 0.2 * 12, 20])
    assert x == 0


def test_lordosis_raises_the_front_of_upper_levels():
    curved = PLAIN._replace(lordosis_deg=15.0)
    for z, sign in ((35.0, -1), (-35.0, 1)):
        front, back = to_neck(curved, 0.0, np.array([30.0, -40.0]), z)[2]
        assert sign * (front - z) > 1 and sign * (back - z) < -1


def test_heights_of_levels_by_hand():
    tall = PLAIN._replace(level_heights=np.array([1, 1, 1, 2, 1, 1, 1.0]))
    bounds = load_anatomy().level_bounds_mm
    low, high = bounds["C5"]
    z = np.array([high, 2 * high, 2 * high + 5, low, 2 * low - 3])
    wanted = [high / 2, high, high + 5, low / 2, low - 3]
    np.testing.assert_allclose(to_neck(tall, 0.0, 0.0, z)[2], wanted)


def test_shoulders_are_lifted_aside_and_below_only():
    lifted = PLAIN._replace(shoulder_mm=8.0)
    x = np.array([-120.0, -60.0, 0.0, 60.0, 120.0])
    z = to_neck(lifted, x, 0.0, -50.0)[2]
    half = 8 * 0.5  # smooth step at its middle
    np.testing.assert_allclose(z, [-58, -50 - half, -50, -50 - half, -58])
    np.testing.assert_allclose(to_neck(lifted, x, 0.0, 10.0)[2], 10)


def axial_grid(first_mm=-69.3, step_mm=3.0, slices=48):
    # no slice on the border of two levels, where the last digit would decide
    affine = np.diag([2.0, 2.0, step_mm, 1.0])
    affine[:3, 3] = -60, -70, first_mm
    return affine, (61, 61, slices)


def test_levels_of_slices_by_hand():
    affine, shape = axial_grid()
    wanted = []
    for k in range(shape[2]):
        z = -69.3 + 3.0 * k
        inside = [
            n
            for n, (low, high) in load_anatomy().level_bounds_mm.items()
            if low <= z < high
        ]
        wanted.append(LEVELS[inside[0]] if inside else 0)
    np.testing.assert_array_equal(slice_levels(PLAIN, affine, shape), wanted)
    assert set(wanted) == {0, *range(2, 9)}
    heights = np.array([100.0, 50, 30, 15, 0, -15, -30, -50, -100])[::-1]
    affine, shape = axial_grid(-150, 5.0, 61)
    found = slice_levels(PLAIN, affine, shape)[((heights + 150) / 5).astype(int)]
    np.testing.assert_array_equal(found[::-1], [0, 2, 3, 4, 5, 6, 7, 8, 0])


def test_levels_grow_with_the_neck():
    affine, shape = axial_grid()
    grown = PLAIN._replace(level_heights=np.full(7, 1.25))
    wider = affine.copy()
    wider[2] *= 1.25
    # Beyond C2 and T1 nothing is stretched, but nothing is a level either.
    np.testing.assert_array_equal(
        slice_levels(grown, wider, shape), slice_levels(PLAIN, affine, shape)
    )


def test_rotation_by_a_known_angle():
    turn = Rotation.from_euler("xyz", [20, -7, 11], degrees=True)
    pose = PLAIN._replace(rotation=turn.as_matrix(), shift_mm=np.array([4.0, -3, 9]))
    affine, _ = axial_grid()
    matrix, offset = affine_to_neck(pose, affine)
    for point in ((0, 0, 0), (10, 44, 31)):
        scanner = affine[:3] @ [*point, 1]
        neck_point = matrix @ point + offset
        # from the neck to the scanner: turned, then shifted
        np.testing.assert_allclose(
            turn.apply(neck_point) + (4, -3, 9), scanner, atol=1e-9
        )


def test_nodding_forwards_is_a_negative_turn_about_x():
    nod = Rotation.from_euler("x", -10, degrees=True).as_matrix()
    pose = PLAIN._replace(rotation=nod)
    # what is forehead-high in the scanner's midline was further back in the neck
    matrix, offset = affine_to_neck(pose, np.eye(4))
    assert (matrix @ [0, 0, 50] + offset)[1] == pytest.approx(
        -50 * np.sin(np.deg2rad(10))
    )


def test_patient_and_grid_moved_together():
    affine, shape = axial_grid()
    turn = Rotation.from_euler("xyz", [12, 5, -8], degrees=True)
    pose, grid = moved(CURVED, affine, turn, np.array([6.0, 2.0, -9.0]))
    found = slice_levels(pose, grid, shape)
    np.testing.assert_array_equal(found, slice_levels(CURVED, affine, shape))


def test_levels_do_not_depend_on_where_the_grid_starts_in_the_plane():
    nod = Rotation.from_euler("x", 8, degrees=True).as_matrix()
    pose = CURVED._replace(rotation=nod, shift_mm=np.array([3.0, 5.0, 2.0]))
    affine, shape = axial_grid()
    other = affine.copy()
    other[:2, 3] += 31.0, -17.0
    np.testing.assert_array_equal(
        slice_levels(pose, affine, shape), slice_levels(pose, other, shape)
    )


def test_lying_down():
    who, anatomy = draw_subject(0, 0), load_anatomy()
    still = draw_pose(who, anatomy, np.random.default_rng(0), tilt_deg=0, shift_mm=0)
    for a, b in zip(still, upright(who, anatomy), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
    rng = np.random.default_rng(0)
    poses = [draw_pose(who, anatomy, rng, tilt_deg=6, shift_mm=8) for _ in range(500)]
    shifts = np.array([p.shift_mm for p in poses])
    np.testing.assert_allclose(shifts.std(0), 8, rtol=0.15)
    angle = [np.rad2deg(Rotation.from_matrix(p.rotation).as_rotvec()) for p in poses]
    np.testing.assert_allclose(np.std(angle, 0), [6, 3, 3.6], rtol=0.15)
