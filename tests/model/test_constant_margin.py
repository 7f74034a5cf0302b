import jax
import numpy as np
import pytest

from cervjax.model.constant_margin import ConstantMargin, Layer

PUBLISHED_FIRST_BLOCK = [Layer(5, 2), *[Layer(3)] * 5, Layer(3, 2)]


def way(layers, x):
    """Random convolutions along x, in NumPy's correlate: (n,) to (n / stride,)."""
    rng = np.random.default_rng(0)
    for kernel, stride in layers:
        taps = rng.uniform(0.5, 1, kernel)
        before = (kernel - stride) // 2
        padded = np.pad(x, (before, kernel - stride - before))
        x = np.correlate(padded, taps, "valid")[::stride] / taps.sum()
    return x


def test_the_published_first_block():
    margin = ConstantMargin.of(PUBLISHED_FIRST_BLOCK)
    assert margin == (4, 11, 17)
    assert margin.outside == (3, 4) and margin.least == 32
    assert margin.spared((90, 60, 8)) == (56, 28, 0)


@pytest.mark.parametrize(
    "layers",
    [PUBLISHED_FIRST_BLOCK, [Layer(5, 2), Layer(3), Layer(3, 2)], [Layer(5, 2)]],
)
def test_the_reach_is_what_impulses_and_the_edge_show(layers):
    margin, n = ConstantMargin.of(layers), 128
    ones = way(layers, np.ones(n))
    felt = ~np.isclose(ones, ones[len(ones) // 2])
    assert felt[: len(felt) // 2].sum() == margin.outside[0]
    assert felt[len(felt) // 2 :].sum() == margin.outside[1]
    middle = len(ones) // 2
    for at in range(n):
        impulse = np.zeros(n)
        impulse[at] = 1
        reached = way(layers, impulse)[middle] != 0
        start = margin.stride * middle
        assert reached == (start - margin.before <= at <= start + margin.after)


@pytest.mark.parametrize(
    "layers", [PUBLISHED_FIRST_BLOCK, [Layer(5, 2), Layer(3), Layer(3, 2)]]
)
def test_nothing_is_lost_by_what_is_spared(layers):
    margin = ConstantMargin.of(layers)
    rng = np.random.default_rng(1)
    for flat in range(margin.least - 1, margin.least + 10):
        x = rng.normal(size=16)
        x = np.pad(x, (flat, flat), mode="edge")
        x = x[: len(x) // margin.stride * margin.stride]  # both ends at least flat - 3
        (spared,) = margin.spared((flat - 3,))
        cut = x[spared : len(x) - spared]
        got = margin.restored(way(layers, cut).reshape(1, -1, 1, 1, 1), (spared, 0, 0))
        np.testing.assert_allclose(np.ravel(got), way(layers, x), atol=1e-6)
    assert isinstance(got, jax.Array) and spared > 0
