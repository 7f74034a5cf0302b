"""Measurements of one scan: where its slices lie, and what is odd about its labels."""

import numpy as np
import pytest
from conftest import save_nifti

from cervjax.anatomy import MUSCLES
from cervjax.io.dixon import read_scan
from cervjax.io.scans import Scan
from cervjax.measurement.scan import label_warnings, measure_scan

SHAPE = (6, 4, 5)


def images(tmp_path, affine):
    """A scan whose grid is given."""
    rng = np.random.default_rng(0)
    in_phase = rng.uniform(50, 60, SHAPE).astype(np.float32)
    files = {
        role: save_nifti(tmp_path / f"{role}.nii", data, affine)
        for role, data in (("in_phase", in_phase), ("out_phase", 0.5 * in_phase))
    }
    return read_scan(Scan("a", **files))


def turned(degrees: float, axis: int) -> np.ndarray:
    """A voxel grid of 2 x 2 x 3 mm, far from the origin, tilted."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.eye(4)
    turn[np.ix_([axis, 2], [axis, 2])] = (c, -s), (s, c)
    affine = turn @ np.diag([2.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = (-30, 12, 250)
    return affine


@pytest.mark.parametrize(("degrees", "axis"), [(0, 0), (20, 0), (-25, 1)])
def test_slices_lie_where_the_affine_puts_their_middle(tmp_path, degrees, axis):
    affine = turned(degrees, axis)
    labels = np.full(SHAPE, 9, np.uint8)
    _, slices = measure_scan(labels, images(tmp_path, affine))
    middles = [
        (affine @ ((SHAPE[0] - 1) / 2, (SHAPE[1] - 1) / 2, z, 1))[2] for z in range(5)
    ]
    np.testing.assert_allclose([row["z_mm"] for row in slices], middles, rtol=1e-5)
    np.testing.assert_allclose([row["area_mm2"] for row in slices], 24 * 4, rtol=1e-5)


def test_mfi_and_volume_are_the_scans(tmp_path):
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:4, 1:3, 1:3] = 10
    rows, _ = measure_scan(labels, images(tmp_path, turned(10, 0)))
    assert rows[9]["mfi_percent"] == pytest.approx(25)  # (IP - OP) / 2 of IP
    assert rows[9]["volume_ml"] == pytest.approx(8 * 0.012, rel=1e-5)


def test_odd_labels_are_warned_of(tmp_path):
    labels = np.zeros(SHAPE, np.uint8)
    for label in range(1, 13):  # right muscles on the right, along y and z
        at = divmod(label - 1, 2)
        labels[4 - 3 * at[1], 1 + at[0] % 2, 1 + at[0] // 2] = label
    scan = images(tmp_path, turned(0, 0))

    def warnings(labels):
        return label_warnings(labels, measure_scan(labels, scan)[0])

    missing = ", ".join(m.key for m in MUSCLES[12:])
    assert warnings(labels) == [f"not found: {missing}"]
    one = labels.copy()
    one[[1, 4], 1, 1] = one[[4, 1], 1, 1]
    first = MUSCLES[0].abbreviation
    assert f"left lies right of right: {first};" in warnings(one)[-1]
    assert "exchanged in 6 of 6 pairs" in warnings(labels[::-1])[-1]
    cut = labels.copy()
    cut[0, 0, 0] = 3
    assert any("edge of the field of view" in w for w in warnings(cut))
