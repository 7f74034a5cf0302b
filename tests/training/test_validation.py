import numpy as np
import pytest
from conftest import SMALL, network_variables

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
    dice, first = validation.dice_of_scans(network, variables, [], padding)
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
