"""Surfaces of the view in space of ``report.html``, made outside the browser."""

import json
import shutil
import subprocess
from importlib.resources import files

import numpy as np
import pytest

node = shutil.which("node")
pytestmark = pytest.mark.skipif(node is None, reason="node is not installed")

SCRIPT = """
const [n, m] = [24, 12], r = 9, mid = [(n - 1) / 2, (n - 1) / 2, (m - 1) / 2];
const ball = (x, y, k) => Math.hypot(x - mid[0], y - mid[1], 3 * (k - mid[2])) < r;
const data = { width: n, height: n, dx: 1, aspect: 1, dz: 3,
               slices: Array.from({ length: m }, (_, k) => k + 5) };
const label = (k, x, y) => x < 0 || y < 0 || x >= n || y >= n ? 0
  : ball(x, y, k) ? 9 : x === 2 && y < 4 && k > 8 ? 10 : 0;
const muscles = [9, 10, 11].map(l => ({ label: l, color: [l, 0, 0] }));
const { found, radius } = meshes(data, label, muscles);
console.log(JSON.stringify({ radius, found }));
"""


@pytest.fixture(scope="module")
def scene():
    """A ball of 9 mm as label 9; as label 10, a sheet a voxel thin: left out of it."""
    page = files("cervjax.inference").joinpath("review_space.js").read_text("utf-8")
    done = subprocess.run(
        [str(node), "-"], input=page + SCRIPT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def mesh(scene, label):
    (found,) = (f for f in scene["found"] if f["muscle"]["label"] == label)
    points = np.array(found["points"])
    return points, np.array(found["triangles"]).reshape(-1, 3), found["normals"]


def test_labels_that_are_there_have_a_surface(scene):
    assert [f["muscle"]["label"] for f in scene["found"]] == [9, 10]


@pytest.mark.parametrize("label", [9, 10])
def test_surfaces_are_closed_and_face_outwards(scene, label):
    points, triangles, normals = mesh(scene, label)
    edges = np.concatenate([triangles[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0))])
    there, back = ({tuple(e) for e in edges[:, order]} for order in ([0, 1], [1, 0]))
    assert len(there) == len(edges) and there == back  # each edge once in each way
    if label == 9:
        outwards = points - points.mean(0)
        assert np.mean(np.sum(outwards * normals, 1) > 0) > 0.99


def test_a_ball_has_its_volume_and_place(scene):
    """By the divergence theorem; smoothing takes a little."""
    points, triangles, _ = mesh(scene, 9)
    a, b, c = points[triangles].swapaxes(0, 1)
    volume = np.sum(a * np.cross(b, c)) / 6
    assert abs(volume) == pytest.approx(4 / 3 * np.pi * 9**3, rel=0.08)
    assert np.ptp(points, 0) == pytest.approx(18, abs=2.5)


def test_the_patients_right_is_negative_x_front_positive_y_and_up_positive_z(scene):
    """The sheet lies at the left of the picture, on top of it, in high slices."""
    sheet, ball = (mesh(scene, label)[0].mean(0) for label in (10, 9))
    assert sheet[0] < ball[0] and sheet[1] > ball[1] and sheet[2] > ball[2]


def test_a_sheet_of_one_voxel_stays(scene):
    points, *_ = mesh(scene, 10)
    assert np.ptp(points[:, 0]) > 0.2 and np.ptp(points[:, 1]) > 2
