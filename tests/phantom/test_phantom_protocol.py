import numpy as np
import pytest

from cervjax.phantom.protocol import TIERS, draw_grid, draw_sequence
from cervjax.phantom.signal import Sequence

pytestmark = pytest.mark.xdist_group("phantom")


def test_paper_grid_by_hand():
    grid = draw_grid(TIERS["clean"], np.random.default_rng(0))
    assert grid.shape == (457, 271, 40)  # 320 and 190 by 0.7, 120 by 3 mm
    assert grid.spacing_mm == pytest.approx([0.7, 0.7, 3])
    assert grid.stored_axes == "LAS"
    np.testing.assert_allclose(
        grid.affine[:3] @ [228, 135, 19.5, 1], [0, -12, 0], atol=1e-9
    )


def test_hard_grids_vary_and_stay_right_handed():
    rng = np.random.default_rng(0)
    grids = [draw_grid(TIERS["hard"], rng) for _ in range(300)]
    for grid in grids:
        unit = grid.affine[:3, :3] / grid.spacing_mm
        np.testing.assert_allclose(unit.T @ unit, np.eye(3), atol=1e-9)
        assert np.linalg.det(unit) > 0 and np.diag(unit).min() > 0.7
        in_plane, other, thickness = grid.spacing_mm.round(6)
        assert 0.5 <= in_plane == other <= 1.2 and 2 <= thickness <= 5
    assert len({g.stored_axes for g in grids}) > 40  # of 48


def test_jitter_keeps_the_echoes_apart_as_they_were():
    rng = np.random.default_rng(0)
    assert draw_sequence(TIERS["clean"], rng) == Sequence()
    drawn = [draw_sequence(TIERS["hard"], rng) for _ in range(200)]
    for s in drawn:
        assert s.te_out_ms / s.te_in_ms == pytest.approx(1.5)
    assert np.std([s.te_in_ms for s in drawn]) > 0.05
    assert np.std([s.tr_ms for s in drawn]) > 0.5
