import numpy as np
import pytest
from conftest import network_variables

from cervjax.inference.decode import labels_at, places_between
from cervjax.inference.sliding_window import (
    segment_windows,
    segment_windows_at,
    window_starts,
)
from cervjax.inference.types import Segmentation, check_window
from cervjax.inference.whole_volume import segment_whole


def test_windows_are_niftynets():
    """The worked example of its grid: 637 voxels, window 360, border 8."""
    starts = list(window_starts((637, 240, 32), (360, 240, 32), (8, 8, 8)))
    assert [s[0] for s in starts] == [0, 277, 138]
    starts = list(window_starts((95, 83, 34), (64, 48, 16), (4, 4, 2)))
    assert len(starts) == 27
    ys = [s[1] for s in starts]
    assert ys == sorted(ys, key=[0, 35, 18].index)  # outermost, the middle one last
    assert starts[:3] == [(0, 0, 0), (0, 0, 12), (0, 0, 18)]


@pytest.mark.parametrize("size", [64, 65, 100, 128, 200, 637])
def test_windows_cover_all_but_the_border(size):
    window, border = 64, 8
    seen = np.zeros(size, bool)
    for start, *_ in window_starts((size, 8, 8), (window, 8, 8), (border, 0, 0)):
        assert 0 <= start <= size - window
        seen[start + border : start + window - border] = True
    assert seen[border : size - border].all()
    assert not seen[:border].any() and not seen[size - border :].any()


@pytest.fixture
def by_position(monkeypatch):
    """A stand-in for the network: what it sees in channel 0 is the label."""

    def predict(variables, batch, passes):
        calls.append(batch.shape)
        inside = batch[..., 0]
        return inside.astype(np.uint8), np.full(inside.shape, 0.5, np.float32)

    calls = []
    monkeypatch.setattr("cervjax.inference.sliding_window.predict", predict)
    return calls


def volume(shape):
    rng = np.random.default_rng(0)
    return rng.integers(1, 15, (*shape, 2)).astype(np.float32)


@pytest.mark.parametrize(("batch_size", "calls"), [(1, 27), (4, 7), (100, 1)])
def test_windows_are_put_back_where_they_came_from(by_position, batch_size, calls):
    image = volume((95, 83, 34))
    found = segment_windows(
        {}, image, window=(64, 48, 16), border=(4, 4, 2), batch_size=batch_size
    )
    inside = (slice(4, -4), slice(4, -4), slice(2, -2))
    np.testing.assert_array_equal(found.labels[inside], image[..., 0][inside])
    assert found.labels.sum() == found.labels[inside].sum()  # never predicted: 0
    assert len(by_position) == calls and len(set(by_position)) == 1


def test_the_border_is_predicted_on_request(by_position):
    image = volume((95, 83, 34))
    found = segment_windows(
        {}, image, window=(64, 48, 16), border=(4, 4, 2), predict_border=True
    )
    np.testing.assert_array_equal(found.labels, image[..., 0])
    assert (found.confidence == 0.5).all()


def test_volumes_smaller_than_a_window_are_extended(by_position):
    image = volume((20, 50, 9))
    found = segment_windows(
        {}, image, window=(64, 48, 16), border=(0, 0, 0), predict_border=True
    )
    np.testing.assert_array_equal(found.labels, image[..., 0])


def test_whole_mode_is_one_window_over_everything():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(48, 32, 16, 2)).astype(np.float32)
    variables = network_variables()
    whole = segment_whole(variables, image)
    window = segment_windows(
        variables, image, window=(48, 32, 16), border=(0, 0, 0), predict_border=True
    )
    np.testing.assert_array_equal(whole.labels, window.labels)
    assert len(np.unique(whole.labels)) > 5
    assert isinstance(whole, Segmentation) and whole.confidence.min() >= 1 / 15


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


@pytest.mark.parametrize(("passes", "step"), [(1, 2), (4, 1)])
@pytest.mark.parametrize(
    ("shape", "window", "border"),
    [((95, 83, 34), (64, 48, 16), (4, 4, 2)), ((97, 40, 30), (64, 48, 32), (3, 5, 1))],
)
def test_logits_of_windows_are_put_together(
    monkeypatch, passes, step, shape, window, border
):
    """A stand-in for the network, local to a voxel: windows make no difference."""
    slope = np.random.default_rng(1).normal(size=(2, 15)).astype(np.float32)

    def logits(variables, batch, *, margin, flat, passes):
        return batch[:, ::2, ::2, ::step] @ slope

    monkeypatch.setattr("cervjax.inference.sliding_window.margin_logits", logits)
    image = np.random.default_rng(2).normal(size=(*shape, 2)).astype(np.float32)
    margin, scan = (8, 6, 4), (41, 29, 13)
    found = segment_windows_at(
        {}, image, margin, scan, window=window, border=border, passes=passes
    )
    places = tuple(
        places_between(n - 2 * m, count, start=m, step=s)
        for n, m, count, s in zip(shape, margin, scan, (2, 2, step), strict=True)
    )
    labels, confidence = labels_at(image[::2, ::2, ::step] @ slope, places)
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_allclose(found.confidence, confidence, rtol=1e-5)


def test_logits_that_nothing_predicted_are_background(monkeypatch):
    def logits(variables, batch, *, margin, flat, passes):
        shape = (len(batch), *(n // 2 for n in batch.shape[1:4]), 15)
        return np.eye(15, dtype="f4")[np.full(shape[:4], 3)] * 9

    monkeypatch.setattr("cervjax.inference.sliding_window.margin_logits", logits)
    image = np.zeros((32, 32, 32, 2), np.float32)
    how = {"window": (32, 32, 32), "border": (4, 4, 4)}
    found = segment_windows_at({}, image, (0, 0, 0), (32, 32, 32), **how)
    assert (found.labels[4:-4, 4:-4, 4:-4] == 3).all() and not found.labels[:3].any()
    full = segment_windows_at(
        {}, image, (0, 0, 0), (16, 16, 16), predict_border=True, **how
    )
    assert (full.labels == 3).all()


@pytest.mark.parametrize(("passes", "slices_whole"), [(2, True), (4, False)])
def test_one_window_at_a_scans_voxels_is_whole_mode(passes, slices_whole):
    variables = network_variables(3)
    image = np.random.default_rng(4).normal(size=(48, 32, 16, 2)).astype(np.float32)
    margin, shape = (8, 8, 4), (17, 9, 5)
    how = {"passes": passes, "slices_whole": slices_whole}
    whole = segment_whole(variables, image, margin, shape=shape, **how)
    found = segment_windows_at(
        variables,
        image,
        margin,
        shape,
        window=(48, 32, 16),
        border=(8, 8, 4),
        **how,
    )
    np.testing.assert_array_equal(found.labels, whole.labels)
    np.testing.assert_allclose(found.confidence, whole.confidence, rtol=1e-4)
    assert len(np.unique(whole.labels)) > 2
