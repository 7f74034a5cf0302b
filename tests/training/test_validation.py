import numpy as np
import pytest
from conftest import SMALL, network_variables

from cervjax.anatomy import IGNORED
from cervjax.inference.segment import segment_whole
from cervjax.model.dense_vnet import DenseVNet
from cervjax.training import validation


def test_dice_of_whole_scans_is_counted_by_hand(monkeypatch):
    """Within the padding only, muscle by muscle; NaN where neither has it."""
    network, variables = DenseVNet(SMALL), network_variables(5, SMALL)
    rng = np.random.default_rng(0)
    image = rng.normal(size=(32, 32, 16, 2)).astype(np.float32)
    labels = rng.integers(0, 14, (32, 32, 16)).astype(np.uint8)  # no 14
    padding, inner = (4, 8, 0), (slice(4, -4), slice(8, -8), slice(None))
    found = segment_whole(network, variables, image, padding)
    labels[inner][:, :, :8] = found[:, :, :8]
    monkeypatch.setattr(
        validation, "whole_volumes", lambda _: [(None, image, labels)] * 2
    )
    way = validation.Way(padding)
    dice, first = validation.dice_of_scans(network, variables, [], way)
    np.testing.assert_array_equal(first, found)
    assert dice.shape == (2, 14)
    np.testing.assert_array_equal(dice[0], dice[1])
    for k in range(1, 15):
        a, b = found == k, labels[inner] == k
        if a.any() or b.any():
            expected = 2 * np.sum(a & b) / (a.sum() + b.sum())
            assert dice[0, k - 1] == pytest.approx(expected)
        else:
            assert np.isnan(dice[0, k - 1])
    assert np.nanmax(dice) > 0.3
    labels[inner][labels[inner] != found] = IGNORED  # only what agrees is known
    dice, _ = validation.dice_of_scans(network, variables, [], way)
    assert np.nanmin(dice) == np.nanmax(dice) == 1


def test_muscles_are_cut_to_their_levels_where_masks_are(monkeypatch):
    """By the bodies that the network finds, as in inference."""
    classes = np.zeros((32, 32, 24), np.uint8)
    for i, body in enumerate((21, 20, 19, 18, 17, 16)):  # T1 up to C3
        classes[10:18, 10:18, 4 * i : 4 * i + 4] = body
    classes[2:6, 2:6] = 11  # trapezius, right: at C6 only
    reference = np.where(classes == 11, 11, 0)
    reference[..., :8] = reference[..., 12:] = 0
    monkeypatch.setattr(validation, "segment_whole", lambda *args: classes)
    monkeypatch.setattr(
        validation, "whole_volumes", lambda _: [(None, None, reference)]
    )
    whole = validation.Way((0, 0, 0), (1.0, 1.0, 3.0))
    dice, _ = validation.dice_of_scans(None, {}, [], whole)
    assert dice[0, 10] == pytest.approx(2 * 4 / (24 + 4))
    at_levels = whole._replace(at_levels=True)
    dice, first = validation.dice_of_scans(None, {}, [], at_levels)
    assert dice[0, 10] == 1 and (first == reference).all()
