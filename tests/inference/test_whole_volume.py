import itertools

import jax
import numpy as np
import pytest
from conftest import network_variables
from scipy.ndimage import map_coordinates

from cervjax.inference.decode import labels_at, places_between, upsampled_labels
from cervjax.inference.whole_volume import (
    _is_flat,
    bucket_shape,
    predict,
    segment_whole,
    whole_memory_bytes,
)
from cervjax.model.dense_vnet import DenseVNet
from cervjax.model.upsampling import upsample
from cervjax.preprocessing.pipeline import pad, unpad


def test_labels_of_upsampled_logits_without_upsampling_them():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 5, 4, 3, 15)).astype(np.float32)
    labels, confidence = jax.jit(upsampled_labels)(logits)
    fine = np.asarray(upsample(logits, 2))
    np.testing.assert_array_equal(labels, fine.argmax(-1))
    probability = np.asarray(jax.nn.softmax(fine))
    np.testing.assert_allclose(confidence, probability.max(-1), rtol=1e-5)
    assert labels.dtype == np.uint8


def test_labels_of_logits_that_have_every_slice():
    logits = np.random.default_rng(0).normal(size=(2, 4, 3, 5, 15)).astype(np.float32)
    labels, _ = upsampled_labels(logits, 1)
    fine = [
        np.asarray(upsample(np.repeat(logits[:, :, :, k : k + 1], 2, 3), 2))
        for k in range(5)
    ]
    one = np.concatenate([v[:, :, :, :1] for v in fine], axis=3)
    np.testing.assert_array_equal(labels, one.argmax(-1))


@pytest.mark.parametrize("step", [1, 2])
def test_labels_at_places_between_logits(step):
    """Against SciPy's interpolation of every class."""
    logits = np.random.default_rng(1).normal(size=(9, 8, 7, 15)).astype(np.float32)
    sizes, counts, starts = (12, 11, 5), (17, 6, 5), (3, 2, 1)
    places, at = [], []
    for size, count, start in zip(sizes, counts, starts, strict=True):
        places.append(places_between(size, count, start=start, step=step))
        at.append((start + np.arange(count) * (size - 1) / (count - 1)) / step)
    labels, confidence = labels_at(logits, tuple(places))
    at = np.stack(np.meshgrid(*at, indexing="ij"))
    fine = np.stack(
        [
            map_coordinates(logits[..., k], at, order=1, mode="nearest")
            for k in range(15)
        ],
        -1,
    )
    np.testing.assert_array_equal(labels, fine.argmax(-1))
    probability = np.asarray(jax.nn.softmax(fine)).max(-1)
    np.testing.assert_allclose(confidence, probability, rtol=1e-4)


@pytest.mark.parametrize("passes", [1, 4])
def test_logits_are_interpolated_at_the_voxels_of_another_grid(passes):
    """Every second voxel of a scan is every second label."""
    variables = network_variables(3)
    image = np.random.default_rng(4).normal(size=(41, 33, 15, 2)).astype(np.float32)
    margin = (8, 8, 1)
    fine = segment_whole(variables, image, margin, passes=passes)
    shape = (13, 9, 7)
    half = segment_whole(variables, image, margin, passes=passes, shape=shape)
    wrong = fine.labels[::2, ::2, ::2] != half.labels
    assert np.mean(wrong) < 2e-3
    same = segment_whole(variables, image, margin, passes=passes, shape=(25, 17, 13))
    np.testing.assert_array_equal(same.labels, fine.labels)


@pytest.mark.parametrize("shape", [None, (13, 9, 7)])
def test_ends_of_muscles_are_made_whole_if_asked_for(shape, monkeypatch):
    variables = network_variables(3)
    image = np.random.default_rng(4).normal(size=(41, 33, 15, 2)).astype(np.float32)
    how = {"margin": (8, 8, 1), "shape": shape}
    plain = segment_whole(variables, image, **how)
    seen = []

    def whole_ends(labels, logits, places):
        seen.append((labels, logits.shape[-1], [len(p.before) for p in places]))
        return 14 - labels

    monkeypatch.setattr("cervjax.inference.whole_volume.whole_ends", whole_ends)
    unasked = segment_whole(variables, image, **how)
    assert not seen
    found = segment_whole(variables, image, slices_whole=True, **how)
    ((labels, classes, lengths),) = seen
    np.testing.assert_array_equal(labels, unasked.labels)
    np.testing.assert_array_equal(labels, plain.labels)
    assert classes == 15 and tuple(lengths) == plain.labels.shape
    np.testing.assert_array_equal(found.labels, 14 - plain.labels)
    np.testing.assert_allclose(found.confidence, plain.confidence, rtol=1e-5)


def test_ties_go_to_the_lowest_label():
    labels, confidence = upsampled_labels(np.zeros((1, 2, 2, 2, 15), np.float32))
    assert not np.any(labels)
    np.testing.assert_allclose(confidence, 1 / 15, rtol=1e-6)


@pytest.fixture
def by_position(monkeypatch):
    """A stand-in for the network: what it sees in channel 0 is the label."""

    def predict(variables, batch, margin=(0, 0, 0), flat=(0, 0, 0), passes=1):
        calls.append(batch.shape)
        inside = unpad(batch[0, ..., 0], margin)[None] if any(margin) else batch[..., 0]
        return inside.astype(np.uint8), np.full(inside.shape, 0.5, np.float32)

    calls = []
    monkeypatch.setattr("cervjax.inference.whole_volume.predict", predict)
    return calls


def volume(shape):
    rng = np.random.default_rng(0)
    return rng.integers(1, 15, (*shape, 2)).astype(np.float32)


def test_whole_volumes_share_buckets(by_position):
    for x, z in itertools.product((33, 40, 48), (17, 24)):
        image = volume((x, 20, z))
        found = segment_whole({}, image)
        assert found.labels.shape == (x, 20, z)
        np.testing.assert_array_equal(found.labels, image[..., 0])
    assert set(by_position) == {(1, 48, 32, 24, 2)}
    assert bucket_shape((637, 391, 56)) == (640, 400, 56)


def test_a_margin_is_input_only(by_position):
    image = volume((41, 25, 14))
    found = segment_whole({}, image, (7, 0, 3))
    np.testing.assert_array_equal(found.labels, image[7:-7, :, 3:-3, 0])


@pytest.mark.parametrize(
    ("shape", "margin"), [((64, 48, 24), (22, 17, 8)), ((48, 32, 24), (3, 0, 9))]
)
def test_leaving_out_the_margin_changes_nothing_inside(shape, margin):
    """Layers computed for the inside only give exactly what they give in the whole."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=(*shape, 2)).astype(np.float32)
    variables = network_variables()
    whole = segment_whole(variables, image)
    inside = segment_whole(variables, image, margin)
    assert inside.labels.shape == unpad(whole.labels, margin).shape
    np.testing.assert_array_equal(inside.labels, unpad(whole.labels, margin))
    np.testing.assert_allclose(
        inside.confidence, unpad(whole.confidence, margin), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("shape", "padding", "mode"),
    [((9, 7, 8), (36, 40, 0), "minimum"), ((16, 8, 3), (43, 2, 37), "zero")],
)
def test_padding_is_not_computed_plane_by_plane(shape, padding, mode):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(*shape, 2)).astype(np.float32)
    image = np.stack([pad(image[..., c], padding, mode) for c in (0, 1)], -1)
    assert _is_flat(image, padding)
    variables = network_variables()
    spared = segment_whole(variables, image, padding)
    whole = segment_whole(variables, image)
    np.testing.assert_array_equal(spared.labels, unpad(whole.labels, padding))
    expected = unpad(whole.confidence, padding)
    np.testing.assert_allclose(spared.confidence, expected, rtol=1e-5)


def test_margins_that_are_not_flat_are_noticed():
    for axis, where in itertools.product(range(3), (0, 4, -5, -1)):
        image = np.zeros((16, 16, 16, 2), np.float32)
        assert _is_flat(image, (5, 5, 5))
        np.moveaxis(image, axis, 0)[where, 8, 8, 1] = 1
        assert not _is_flat(image, (5, 5, 5))


@pytest.mark.parametrize("passes", [1, 4])
def test_memory_estimate_is_the_compilers(passes):
    shape = (96, 64, 32)
    example = jax.ShapeDtypeStruct((1, *shape, 2), np.float32)
    lowered = predict.lower(network_variables(), example, passes=passes)
    analysis = lowered.compile().memory_analysis()
    if analysis is None or not analysis.temp_size_in_bytes:
        pytest.skip("this backend gives no memory analysis")
    need = analysis.temp_size_in_bytes + analysis.output_size_in_bytes
    estimate = whole_memory_bytes(shape, passes)
    assert 0.5 * estimate < need < estimate


@pytest.mark.parametrize("margin", [(8, 8, 2), (0, 0, 0)])
def test_passes_average_logits(margin):
    """Against the mirror and the move written out on whole, uncut volumes."""
    variables = network_variables(3)
    rng = np.random.default_rng(4)
    inner = rng.normal(size=(48, 32, 12, 2)).astype(np.float32)
    image = np.stack([pad(inner[..., c], margin, "minimum") for c in (0, 1)], -1)
    size = bucket_shape(image.shape[:3])
    grow = [(0, b - n) for b, n in zip(size, image.shape[:3], strict=True)]
    whole = np.pad(image, [*grow, (0, 0)], mode="edge")
    half = jax.jit(lambda x: DenseVNet().apply(variables, x, method="half_resolution"))
    partner = [0, *[k + 1 if k % 2 else k - 1 for k in range(1, 15)]]

    def both_sides(volume):
        turned = np.roll(volume[::-1], 1, axis=0)  # voxel x goes to n - x
        turned[0] = volume[-1]
        straight, mirrored = (np.asarray(half(x[None]))[0] for x in (volume, turned))
        n = len(straight)
        back = np.stack([mirrored[min(n - i, n - 1)] for i in range(n)])
        return (straight + back[..., partner]) / 2

    moved = np.roll(whole, 1, axis=2)
    moved[:, :, 0] = whole[:, :, 0]
    two, other = (np.asarray(upsample(both_sides(x)[None], 2)) for x in (whole, moved))
    other = np.concatenate([other[:, :, :, 1:], other[:, :, :, -1:]], axis=3)
    cut = tuple(slice(m, m + n) for m, n in zip(margin, inner.shape[:3], strict=True))
    found = {p: segment_whole(variables, image, margin, passes=p) for p in (2, 4)}
    for passes, logits in ((2, two), (4, (two + other) / 2)):
        probability = np.asarray(jax.nn.softmax(logits))[0][cut]
        wrong = probability.argmax(-1) != found[passes].labels
        assert np.mean(wrong) < 1e-3
        np.testing.assert_allclose(
            found[passes].confidence, probability.max(-1), rtol=1e-3
        )
    once = np.asarray(upsample(half(whole[None]), 2))[0][cut].argmax(-1)
    assert np.mean(once != found[2].labels) > 0.1
    assert np.mean(found[2].labels != found[4].labels) > 0.01
