import functools
import itertools

import numpy as np
import pytest

from cervjax.inference.segment import segment_volume
from cervjax.inference.stitching import Forward, stitched_labels
from cervjax.inference.tiling import sliding_window, whole_volume
from cervjax.inference.types import Settings
from cervjax.model.dense_vnet import DenseVNet
from cervjax.preprocessing.pipeline import unpad

NETWORK = DenseVNet()  # stands for itself: what it computes is replaced


def forward(**how):
    return Forward(NETWORK, {}, **how)


def windows(window, border, **how):
    return Settings("sliding_window", window, border, **how)


@pytest.fixture(autouse=True)
def nothing_to_compile(monkeypatch):
    def as_it_is(run, inputs, static, on_compile):
        return functools.partial(run, **static)

    monkeypatch.setattr("cervjax.inference.stitching.program", as_it_is)


@pytest.fixture
def by_position(monkeypatch):
    """A stand-in for the network: what it sees in channel 0 is the label."""

    def labels_of(variables, batch, *, network, margin, flat, tta):
        calls.append(batch.shape)
        inside = batch[..., 0]
        if any(margin):
            inside = unpad(batch[0, ..., 0], margin)[None]
        return inside.astype(np.uint8), np.full(inside.shape, 0.5, np.float32)

    calls = []
    monkeypatch.setattr("cervjax.inference.stitching._labels_of", labels_of)
    return calls


def volume(shape):
    rng = np.random.default_rng(0)
    return rng.integers(1, 15, (*shape, 2)).astype(np.float32)


@pytest.mark.parametrize(("batch_size", "calls"), [(1, 27), (4, 7), (100, 1)])
def test_windows_are_put_back_where_they_came_from(by_position, batch_size, calls):
    image = volume((95, 83, 34))
    tiling = sliding_window(image.shape[:3], windows((64, 48, 16), (4, 4, 2)))
    found = stitched_labels(forward(batch_size=batch_size), image, tiling)
    inside = (slice(4, -4), slice(4, -4), slice(2, -2))
    np.testing.assert_array_equal(found.labels[inside], image[..., 0][inside])
    assert found.labels.sum() == found.labels[inside].sum()  # never predicted: 0
    assert len(by_position) == calls and len(set(by_position)) == 1


def test_the_border_is_predicted_on_request(by_position):
    image = volume((95, 83, 34))
    how = windows((64, 48, 16), (4, 4, 2), predict_border=True)
    found = stitched_labels(forward(), image, sliding_window((95, 83, 34), how))
    np.testing.assert_array_equal(found.labels, image[..., 0])
    assert (found.confidence == 0.5).all()


def test_volumes_smaller_than_a_window_are_extended(by_position):
    image = volume((20, 50, 9))
    how = windows((64, 48, 16), (0, 0, 0), predict_border=True)
    found = stitched_labels(forward(), image, sliding_window((20, 50, 9), how))
    np.testing.assert_array_equal(found.labels, image[..., 0])


def test_whole_volumes_share_buckets(by_position):
    for x, z in itertools.product((33, 40, 64), (17, 24)):
        image = volume((x, 20, z))
        tiling = whole_volume(image.shape[:3], (0, 0, 0))
        found = stitched_labels(forward(), image, tiling)
        assert found.labels.shape == (x, 20, z)
        np.testing.assert_array_equal(found.labels, image[..., 0])
    assert set(by_position) == {(1, 64, 64, 24, 2)}


def test_a_margin_is_input_only(by_position):
    image = volume((41, 25, 14))
    found = segment_volume(forward(), image, Settings("whole"), (7, 0, 3))
    np.testing.assert_array_equal(found.labels, image[7:-7, :, 3:-3, 0])


@pytest.mark.parametrize(("tta", "step"), [(1, 2), (4, 1)])
@pytest.mark.parametrize(
    ("shape", "window", "border"),
    [((95, 83, 34), (64, 48, 16), (4, 4, 2)), ((97, 40, 30), (64, 48, 32), (3, 5, 1))],
)
def test_logits_of_windows_are_put_together(
    monkeypatch, tta, step, shape, window, border
):
    """A stand-in for the network, local to a voxel: windows make no difference."""
    from cervjax.inference.decode import labels_at, places_between

    slope = np.random.default_rng(1).normal(size=(2, 15)).astype(np.float32)

    def logits(variables, batch, **how):
        return batch[:, ::2, ::2, ::step] @ slope

    monkeypatch.setattr("cervjax.inference.stitching.averaged_logits", logits)
    image = np.random.default_rng(2).normal(size=(*shape, 2)).astype(np.float32)
    margin, scan = (8, 6, 4), (41, 29, 13)
    how = windows(window, border, tta=tta)
    found = segment_volume(forward(tta=tta), image, how, margin, scan)
    places = tuple(
        places_between(n - 2 * m, count, start=m, step=s)
        for n, m, count, s in zip(shape, margin, scan, (2, 2, step), strict=True)
    )
    labels, confidence = labels_at(image[::2, ::2, ::step] @ slope, places)
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_allclose(found.confidence, confidence, rtol=1e-5)


def test_logits_that_nothing_predicted_are_background(monkeypatch):
    def logits(variables, batch, **how):
        shape = (len(batch), *(n // 2 for n in batch.shape[1:4]), 15)
        return np.eye(15, dtype="f4")[np.full(shape[:4], 3)] * 9

    monkeypatch.setattr("cervjax.inference.stitching.averaged_logits", logits)
    image = np.zeros((32, 32, 32, 2), np.float32)
    how = windows((32, 32, 32), (4, 4, 4))
    found = segment_volume(forward(), image, how)
    assert (found.labels[4:-4, 4:-4, 4:-4] == 3).all() and not found.labels[:3].any()
    how = windows((32, 32, 32), (4, 4, 4), predict_border=True)
    full = segment_volume(forward(), image, how, (0, 0, 0), (16, 16, 16))
    assert (full.labels == 3).all()
