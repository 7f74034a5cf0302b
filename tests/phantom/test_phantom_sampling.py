import numpy as np
import pytest
from digital import CURVED, PLAIN, moved
from scipy.spatial.transform import Rotation

from cervjax.anatomy import MUSCLES
from cervjax.phantom.body import Body
from cervjax.phantom.protocol import Grid
from cervjax.phantom.sampling import at_table_1, sample
from cervjax.phantom.signal import Sequence, voxel_table
from cervjax.phantom.tissues import CODES

pytestmark = pytest.mark.xdist_group("phantom")
TABLE_1 = {
    "MFSS": "C4 C5 C6",
    "LC": "C3 C4 C5 C6",
    "SPCap": "C3 C4 C5",
    "SSCap": "C3 C4 C5",
    "SCM": "C4 C5 C6",
    "TR": "C6",
    "LS": "C5 C6",
}
LEVELS = dict(zip("C2 C3 C4 C5 C6 C7 T1".split(), range(2, 9), strict=True))


def halves():
    """Muscle 9 on the right and 10 on the left of x = 0, nothing else; 0.5 mm."""
    first = np.array([-9.75, -9.75, -9.75])
    tissue = np.full((40, 40, 40), 10, np.uint8)
    tissue[..., 20:] = 9
    return Body(tissue, first, np.full(3, 0.5))


@pytest.mark.parametrize("shift, right", [(0.0, 3), (0.5, 3), (1.0, 4), (-1.0, 1)])
def test_partial_volume_by_hand(shift, right):
    """Voxels of 3 mm: looked at 1.2 and 0.6 mm to both sides, and in the middle."""
    body = halves()
    affine = np.diag([3.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = shift - 3, -4, -4
    grid = Grid((3, 9, 9), affine, "RAS")
    table = voxel_table(Sequence())
    codes = np.where(body.tissue == 9, 256 * 9 + 51, 256 * 10 + 102).astype(np.uint16)
    if shift == 0:  # the middle is on the border; move it off
        affine[0, 3] += 0.1
    found = sample(codes, body, PLAIN, grid, table)
    share, mean = found.share[1, 4, 4], found.mean[1, 4, 4]
    assert share == pytest.approx(max(right, 5 - right) / 5)
    assert found.nearest[1, 4, 4] == (9 if right >= 3 else 10)
    assert found.labels[1, 4, 4] == found.nearest[1, 4, 4]
    fat = 0.8 * (right / 5 * 51 + (1 - right / 5) * 102) / 255
    assert mean[1] == pytest.approx(fat, rel=1e-5)
    assert (found.share[[0, 2], 4, 4] == 1).all()
    assert found.labels[[0, 2], 4, 4].tolist() == [10, 9]


@pytest.mark.parametrize("shift, points", [(1.0, 1), (0.5, 2)])
def test_voxel_that_is_less_than_half_muscle_has_no_label(shift, points):
    body = halves()
    tissue = np.where(body.tissue == 9, CODES["fat"], body.tissue)
    affine = np.diag([3.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = shift - 3, -4, -4  # the rest of 5 points is in fat
    codes = tissue.astype(np.uint16) << 8
    grid = Grid((3, 9, 9), affine, "RAS")
    found = sample(codes, body, PLAIN, grid, voxel_table(Sequence()))
    assert found.share[1, 4, 4] == pytest.approx(points / 5)
    assert found.nearest[1, 4, 4] == 10 and found.labels[1, 4, 4] == 0


def test_patient_moved_by_whole_voxels(neck):
    affine = np.diag([2.0, 2.0, 6.0, 1.0])
    affine[:3, 3] = -80, -80, -33
    grid, table = Grid((80, 75, 11), affine, "RAS"), voxel_table(Sequence())
    shifted = CURVED._replace(shift_mm=np.array([4.0, -6.0, 12.0]))
    here = sample(neck.codes, neck.body, CURVED, grid, table)
    there = sample(neck.codes, neck.body, shifted, grid, table)
    for name in ("labels", "share"):
        a = getattr(here, name)[:-2, 3:, :-2]
        b = getattr(there, name)[2:, :-3, 2:]
        assert np.mean(a != b) < 1e-3, name
    assert here.labels.any()


def test_grid_that_turns_with_the_patient(neck):
    affine = np.diag([2.0, 2.0, 6.0, 1.0])
    affine[:3, 3] = -80, -80, -33
    grid, table = Grid((80, 75, 11), affine, "RAS"), voxel_table(Sequence())
    turn = Rotation.from_euler("xyz", [9, 4, -30], degrees=True)
    pose, turned = moved(CURVED, affine, turn, np.array([5.0, 5.0, -7.0]))
    here = sample(neck.codes, neck.body, CURVED, grid, table)
    there = sample(neck.codes, neck.body, pose, grid._replace(affine=turned), table)
    assert np.mean(here.labels != there.labels) < 1e-3


def test_table_1_by_hand():
    labels, levels = np.meshgrid(np.arange(15), np.arange(9), indexing="ij")
    kept = at_table_1(labels[:, None].astype(np.uint8), levels[0])[:, 0]
    for m in MUSCLES:
        at = {LEVELS[name] for name in TABLE_1[m.abbreviation].split()}
        wanted = [m.label if level in at else 0 for level in range(9)]
        np.testing.assert_array_equal(kept[m.label], wanted)
    assert not kept[0].any()
