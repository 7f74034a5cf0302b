import functools

import jax
import numpy as np
import pytest
from conftest import RECIPE, SMALL, network_variables
from scipy.ndimage import map_coordinates

from cervjax.inference.decode import labels_at, places_between, upsampled_labels
from cervjax.inference.muscles import in_signal
from cervjax.inference.segment import segment_prepared, segment_volume
from cervjax.inference.stitching import Forward, stitched_labels
from cervjax.inference.test_time_augmentation import averaged_logits
from cervjax.inference.tiling import bucket_shape, is_constant, sliding_window
from cervjax.inference.types import Settings
from cervjax.model.card import ModelCard
from cervjax.model.dense_vnet import DenseVNet
from cervjax.model.upsampling import upsample
from cervjax.model.weights import Weights
from cervjax.preprocessing.pipeline import Prepared, pad, unpad

NETWORK = DenseVNet(SMALL)


def segment_whole(variables, image, margin=(0, 0, 0), *, tta=1, shape=None):
    how, forward = Settings("whole", tta=tta), Forward(NETWORK, variables, tta)
    return segment_volume(forward, image, how, margin, shape)


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


@pytest.mark.parametrize("tta", [1, 4])
def test_logits_are_interpolated_at_the_voxels_of_another_grid(tta):
    """Every second voxel of a scan is every second label."""
    variables = network_variables(5, SMALL)
    image = np.random.default_rng(4).normal(size=(41, 33, 15, 2)).astype(np.float32)
    margin = (8, 8, 1)
    fine = segment_whole(variables, image, margin, tta=tta)
    shape = (13, 9, 7)
    half = segment_whole(variables, image, margin, tta=tta, shape=shape)
    wrong = fine.labels[::2, ::2, ::2] != half.labels
    assert np.mean(wrong) < 2e-3
    same = segment_whole(variables, image, margin, tta=tta, shape=(25, 17, 13))
    np.testing.assert_array_equal(same.labels, fine.labels)


def test_ties_go_to_the_lowest_label():
    labels, confidence = upsampled_labels(np.zeros((1, 2, 2, 2, 15), np.float32))
    assert not np.any(labels)
    np.testing.assert_allclose(confidence, 1 / 15, rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "margin"), [((64, 48, 24), (22, 17, 8)), ((48, 32, 24), (3, 0, 9))]
)
def test_leaving_out_the_margin_changes_nothing_inside(shape, margin):
    """Layers computed for the inside only give exactly what they give in the whole."""
    rng = np.random.default_rng(0)
    image = rng.normal(size=(*shape, 2)).astype(np.float32)
    variables = network_variables(5, SMALL)
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
    assert is_constant(image, padding)
    variables = network_variables(5, SMALL)
    spared = segment_whole(variables, image, padding)
    whole = segment_whole(variables, image)
    np.testing.assert_array_equal(spared.labels, unpad(whole.labels, padding))
    expected = unpad(whole.confidence, padding)
    np.testing.assert_allclose(spared.confidence, expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("tta", [2, 4])
def test_the_average_is_that_of_what_each_side_says(tta):
    variables = network_variables(5, SMALL)
    batch = np.random.default_rng(4).normal(size=(1, 32, 32, 8, 2)).astype(np.float32)
    run = functools.partial(averaged_logits, variables, batch, network=NETWORK)
    average, there, back = np.split(np.asarray(run(tta=tta, each=True)), 3, axis=-1)
    np.testing.assert_array_equal(average, run(tta=tta))
    np.testing.assert_allclose((there + back) / 2, average, atol=1e-5)
    assert np.abs(there - back).max() > 0.1
    if tta == 2:
        np.testing.assert_allclose(there, run(tta=1), atol=1e-4)


@pytest.mark.parametrize(
    "margin", [(8, 8, 2), pytest.param((0, 0, 0), marks=pytest.mark.slow)]
)
def test_test_time_augmentation_averages_logits(margin):
    """Against the mirror and the move written out on whole, uncut volumes."""
    variables = network_variables(5, SMALL)
    rng = np.random.default_rng(4)
    inner = rng.normal(size=(48, 32, 12, 2)).astype(np.float32)
    image = np.stack([pad(inner[..., c], margin, "minimum") for c in (0, 1)], -1)
    size = bucket_shape(image.shape[:3])
    grow = [(0, b - n) for b, n in zip(size, image.shape[:3], strict=True)]
    whole = np.pad(image, [*grow, (0, 0)], mode="edge")
    half = jax.jit(lambda x: NETWORK.apply(variables, x, method="half_resolution"))
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
    found = {p: segment_whole(variables, image, margin, tta=p) for p in (2, 4)}
    for tta, logits in ((2, two), (4, (two + other) / 2)):
        probability = np.asarray(jax.nn.softmax(logits))[0][cut]
        wrong = probability.argmax(-1) != found[tta].labels
        assert np.mean(wrong) < 1e-3
        np.testing.assert_allclose(
            found[tta].confidence, probability.max(-1), rtol=1e-3
        )
    once = np.asarray(upsample(half(whole[None]), 2))[0][cut].argmax(-1)
    assert np.mean(once != found[2].labels) > 0.1
    assert np.mean(found[2].labels != found[4].labels) > 0.01


@pytest.mark.parametrize("tta", [2, 4])
def test_one_window_at_a_scans_voxels_is_whole_mode(tta):
    variables = network_variables(5, SMALL)
    image = np.random.default_rng(4).normal(size=(64, 64, 16, 2)).astype(np.float32)
    margin, shape = (8, 8, 4), (17, 9, 5)
    whole = segment_whole(variables, image, margin, shape=shape, tta=tta)
    how = Settings("sliding_window", (64, 64, 16), (8, 8, 4), tta=tta)
    found = segment_volume(Forward(NETWORK, variables, tta), image, how, margin, shape)
    np.testing.assert_array_equal(found.labels, whole.labels)
    np.testing.assert_allclose(found.confidence, whole.confidence, rtol=1e-4)
    assert len(np.unique(whole.labels)) >= 2


def test_whole_mode_is_one_window_of_niftynets():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(64, 64, 16, 2)).astype(np.float32)
    forward = Forward(NETWORK, network_variables(5, SMALL))
    whole = segment_volume(forward, image, Settings("whole"))
    how = Settings("sliding_window", (64, 64, 16), (0, 0, 0), predict_border=True)
    window = stitched_labels(forward, image, sliding_window((64, 64, 16), how))
    np.testing.assert_array_equal(whole.labels, window.labels)
    assert len(np.unique(whole.labels)) > 5 and whole.confidence.min() >= 1 / 15


@pytest.mark.parametrize("own", ["whole", "sliding_window"])
def test_a_fall_back_tells_what_was_run(own):
    """Whatever mode the card has: what is executed decides."""
    card = ModelCard("n", "s", "t", "l", own, RECIPE, architecture=SMALL)
    weights = Weights(network_variables(5, SMALL), card, "0")
    image = np.random.default_rng(4).normal(size=(36, 32, 20, 2)).astype(np.float32)
    asked = Settings.of_card(
        card,
        mode="whole",
        window=(32, 24, 16),
        border=(4, 4, 2),
        max_memory_gb=0.004,
    )
    prepared = Prepared(image, (20, 20, 12))
    shape = (18, 17, 11)
    found, executed, (warning, *_) = segment_prepared(
        prepared, shape, weights, RECIPE, asked
    )
    assert found.labels.shape == shape
    assert (executed.mode, executed.stitch) == ("sliding_window", "logits")
    assert executed.window == (32, 24, 24)
    assert "sliding window of (32, 24, 24) used instead" in warning
    assert "window" in executed.effective() and "window" not in asked.effective()


def test_no_muscle_is_left_where_there_is_no_signal():
    labels = np.array([[0, 3, 14, 15, 21]], np.uint8)
    voids = np.array([[True, True, False, True, False]])
    np.testing.assert_array_equal(in_signal(labels, voids), [[0, 0, 14, 15, 21]])
    np.testing.assert_array_equal(in_signal(labels, None), labels)


def test_voids_of_the_scan_are_taken_out_of_the_result():
    """In the part that was taken, at the same voxels."""
    card = ModelCard("n", "s", "t", "l", "whole", RECIPE, architecture=SMALL)
    weights = Weights(network_variables(5, SMALL), card, "0")
    image = np.random.default_rng(4).normal(size=(36, 32, 20, 2)).astype(np.float32)
    shape, box = (20, 22, 13), np.s_[1:19, 3:20, 1:12]
    prepared = Prepared(image, (20, 20, 12), box)
    run = functools.partial(
        segment_prepared,
        weights=weights,
        recipe=RECIPE,
        settings=Settings.of_card(card),
    )
    whole = run(prepared, shape)[0].labels
    voids = np.random.default_rng(5).random((18, 17, 11)) < 0.4
    found = run(prepared._replace(voids=voids), shape)[0].labels
    expected = whole.copy()
    expected[box][voids] = 0
    assert (whole[box] > 0).any()
    np.testing.assert_array_equal(found, expected)
