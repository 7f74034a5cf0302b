import itertools

import numpy as np
import pytest

from cervjax.inference.tiling import (
    bucket_shape,
    is_constant,
    sliding_window,
    whole_volume,
    window_starts,
)
from cervjax.inference.types import Settings, check_window
from cervjax.model.dense_vnet import SIZE_MULTIPLE


def settings(window, border, **how):
    return Settings("sliding_window", window, border, **how)


def niftynets_starts(size, window, border):
    """The rule as the original's documentation of its grid has it, step by step."""
    starts, at = [], 0
    while at + window <= size:
        starts.append(at)
        at += max(window - 2 * border, 1)
    if size - window not in starts:
        starts.append(size - window)
    starts = sorted(starts)
    if len(starts) == 2:
        low, high = starts
        half = (low + high) // 2  # of a half, the even neighbour
        middle = half + 1 if (low + high) % 2 and half % 2 else half
        if middle not in (low, high):
            starts = [low, high, middle]
    return starts


@pytest.mark.parametrize("window", [8, 16, 24, 64])
@pytest.mark.parametrize("border", [0, 1, 2, 3])
def test_the_grid_is_niftynets_for_every_size(window, border):
    for size in range(window, 3 * window + 1):
        found = window_starts((8, 8, size), (8, 8, window), (0, 0, border))
        assert [z for _, _, z in found] == niftynets_starts(size, window, border), size


def test_a_middle_on_top_of_a_window_is_no_third_one():
    """Size = window + 1: half-way between 0 and 1 is 0 again."""
    assert list(window_starts((9, 8, 8), (8, 8, 8), (0, 0, 0))) == [
        (0, 0, 0),
        (1, 0, 0),
    ]


def test_windows_are_niftynets():
    """The worked example of its grid: 637 voxels, window 360, border 8."""
    starts = list(window_starts((637, 240, 32), (360, 240, 32), (8, 8, 8)))
    assert [s[0] for s in starts] == [0, 277, 138]
    starts = list(window_starts((95, 83, 34), (64, 48, 16), (4, 4, 2)))
    assert len(starts) == 27
    ys = [s[1] for s in starts]
    assert ys == sorted(ys, key=[0, 35, 18].index)  # outermost, the middle one last
    assert starts[:3] == [(0, 0, 0), (0, 0, 12), (0, 0, 18)]


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("predict_border", [False, True])
@pytest.mark.parametrize("size", [64, 65, 100, 128, 200, 637])
def test_windows_cover_all_but_the_border(size, predict_border, even):
    how = settings((64, 8, 8), (7, 0, 0), predict_border=predict_border)
    tiling = sliding_window((size, 8, 8), how, even=even)
    seen = np.zeros(tiling.shape, bool)
    for tile in tiling.tiles:
        assert 0 <= tile.start[0] <= tiling.shape[0] - 64
        assert not even or tile.start[0] % 2 == tile.kept[0].start % 2 == 0
        assert all(i.start >= 0 for i in tile.inside())
        seen[tile.kept] = True
    border = 0 if predict_border else 8 if even else 7
    assert seen[border : tiling.shape[0] - border].all()
    assert not seen[:border].any() and not seen[tiling.shape[0] - border :].any()
    assert tiling.shape[0] == size + (size % 2 if even else 0)


def test_the_whole_volume_is_one_window():
    tiling = whole_volume((41, 25, 14), (7, 0, 3))
    assert tiling.shape == tiling.window == bucket_shape((41, 25, 14)) == (64, 64, 16)
    (tile,) = tiling.tiles
    assert tile.kept == (slice(7, 34), slice(0, 25), slice(3, 11))
    assert tile.inside((7, 0, 3)) == (slice(0, 27), slice(0, 25), slice(0, 8))


def test_scans_of_few_shapes_share_buckets():
    assert bucket_shape((637, 391, 56)) == (640, 400, 56)  # NiftyNet's, of the paper
    assert bucket_shape((336, 206, 48)) == (336, 208, 48)  # 320 x 190 mm, 40 slices
    assert bucket_shape((220, 187, 48)) == (224, 192, 48)
    assert bucket_shape((150, 210, 80)) == (352, 272, 96)
    assert bucket_shape((700, 300, 97)) == (768, 384, 120)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_bucket_holds_its_volume_and_suits_the_network(axis):
    for n in range(1, 900):
        size = [50, 50, 50]
        size[axis] = n
        bucket = np.array(bucket_shape(tuple(size)))
        assert (bucket >= size).all() and not (bucket % SIZE_MULTIPLE).any()


@pytest.mark.parametrize(
    ("window", "border"),
    [
        ((30, 8, 8), (0, 0, 0)),
        ((0, 8, 8), (0, 0, 0)),
        ((8, 8, 8), (4, 0, 0)),
        ((8, 8, 8), (-1, 0, 0)),
    ],
)
def test_impossible_windows_are_refused(window, border):
    with pytest.raises(ValueError, match="window"):
        check_window(window, border)


def test_margins_that_are_not_constant_are_noticed():
    for axis, where in itertools.product(range(3), (0, 4, -5, -1)):
        image = np.zeros((16, 16, 16, 2), np.float32)
        assert is_constant(image, (5, 5, 5))
        np.moveaxis(image, axis, 0)[where, 8, 8, 1] = 1
        assert not is_constant(image, (5, 5, 5))
