"""The loose space in front of the spine."""

import numpy as np
import pytest

from cervjax.phantom.front import fill_front
from cervjax.phantom.noise import TILE, smooth_tile, tiled
from cervjax.phantom.subject import draw_subject
from cervjax.phantom.tissues import CODES

pytestmark = pytest.mark.xdist_group("phantom")
STEP, FIRST = np.array([1.0, 0.5, 0.5]), np.array([0.0, -20.0, -30.0])
FAT, GLAND, MUSCLE = (CODES[n] for n in ("deep fat", "gland", "muscle"))


def filled(share, tissue=None):
    out = np.full((32, 160, 120), FAT, np.uint8) if tissue is None else tissue.copy()
    fill_front(out, FIRST, STEP, draw_subject(0, 0)._replace(front_fat=share))
    return out


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_as_much_fat_is_left_as_drawn(share):
    front = filled(share)[:, 60:]
    assert np.mean(front == FAT) == pytest.approx(share, abs=0.08)
    assert np.mean(front == GLAND) == pytest.approx((1 - share) / 2, abs=0.06)
    assert np.mean(front == MUSCLE) == pytest.approx((1 - share) / 2, abs=0.06)


def test_what_lies_behind_stays_and_so_does_what_is_no_deep_fat():
    tissue = np.random.default_rng(0).integers(0, 50, (4, 160, 120)).astype(np.uint8)
    found = filled(0.2, tissue)
    changed = found != tissue
    assert changed.any() and (tissue[changed] == FAT).all()
    np.testing.assert_array_equal(filled(0.2)[:, :36], FAT)  # y below -2 mm


def test_the_front_begins_by_lobules_and_not_at_a_line():
    soft = np.mean(filled(0.2) != FAT, axis=(0, 2))
    begins = soft[36:72].reshape(6, -1).mean(1)
    assert np.all(np.diff(begins) > 0) and begins[0] < 0.1 < 0.6 < begins[-1]
    assert np.abs(np.diff(soft)).max() < 0.15  # from row to row


def test_lobules_are_no_single_voxels():
    fat = filled(0.5)[:, 60:] == FAT
    for axis in range(3):
        assert np.mean(np.diff(fat, axis=axis)) < 0.2


def test_noise_repeats_without_a_seam():
    tile = smooth_tile(np.random.default_rng(0), (4.0, 3.0, 3.0))
    assert tile.shape == TILE
    assert tile.mean() == pytest.approx(0, abs=1e-4)
    assert tile.std() == pytest.approx(1, abs=1e-4)
    seam = np.abs(tile[0] - tile[-1]).mean() / np.abs(tile[1] - tile[0]).mean()
    assert 0.8 < seam < 1.25
    plane = tiled(tile, TILE[0] + 3, 200, 300)
    np.testing.assert_array_equal(plane[:128, :128], tile[3])
    np.testing.assert_array_equal(plane[128:, 256:], tile[3][:72, :44])
