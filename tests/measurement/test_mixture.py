import numpy as np
import pytest

from cervjax.anatomy import MUSCLES
from cervjax.measurement.mixture import (
    FAT,
    MIDDLE,
    MUSCLE,
    fit_mixture,
    measure_mixture,
)


def drawn(*parts, seed=0):
    """Intensities of Gaussians: (how many, mean, sd), shuffled."""
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.normal(mean, sd, n) for n, mean, sd in parts])
    return rng.permutation(values).astype(np.float32)


def crossing(one, other):
    """Where two weighted Gaussians are equal, between their means: a quadratic."""
    (n, m, s), (k, t, r) = one, other
    a = 1 / r**2 - 1 / s**2
    b = 2 * (m / s**2 - t / r**2)
    c = t**2 / r**2 - m**2 / s**2 + 2 * np.log(n * r / (k * s))
    roots = np.roots([a, b, c]) if abs(a) > 1e-12 else np.array([-c / b])
    (root,) = [x.real for x in roots if m < x.real < t]
    return root


@pytest.mark.parametrize("scale", [1, 1000])
@pytest.mark.parametrize(
    ("muscle", "fat"),
    [
        ((15000, 1.0, 0.15), (15000, 3.0, 0.15)),  # the middle
        ((18000, 1.0, 0.2), (6000, 3.0, 0.4)),
        ((4000, 1.0, 0.3), (20000, 3.0, 0.25)),
    ],
)
def test_thresholds_of_two_are_those_of_the_quadratic(muscle, fat, scale):
    found = fit_mixture(scale * drawn(muscle, fat), 2)
    assert found is not None
    assert found.muscle_max == found.fat_min
    assert found.muscle_max / scale == pytest.approx(crossing(muscle, fat), abs=0.03)
    (_, m, s), (_, t, r) = muscle, fat
    told = np.sqrt(2) * (t - m) / np.hypot(s, r)
    assert found.separation == pytest.approx(told, rel=0.05)


def test_thresholds_of_three_are_those_of_neighbours():
    parts = (12000, 1.0, 0.12), (6000, 2.0, 0.15), (4000, 3.2, 0.2)
    found = fit_mixture(drawn(*parts), 3)
    assert found is not None
    assert found.muscle_max == pytest.approx(crossing(*parts[:2]), abs=0.03)
    assert found.fat_min == pytest.approx(crossing(*parts[1:]), abs=0.03)


def test_shares_are_those_that_were_drawn():
    labels, image = np.zeros((40, 40, 10), np.uint8), np.zeros((40, 40, 10), np.float32)
    labels[5:35, 5:35, 2:8] = 9
    image[labels == 9] = drawn((4050, 1, 0.1), (1350, 4, 0.1))
    rows, tissues = measure_mixture(labels, image, voxel_volume_ml=0.002, components=2)
    assert [row["label"] for row in rows] == [m.label for m in MUSCLES]
    row = rows[8]
    assert row["fat_percent"] == pytest.approx(25) and row["muscle_percent"] == 75
    assert row["fat_volume_ml"] == pytest.approx(2.7)
    assert row["volume_ml"] == pytest.approx(10.8) and row["slices"] == 6
    assert (row["verdict"], row["reasons"]) == ("use", "")
    assert "undefined_percent" not in row
    assert np.array_equal(tissues == FAT, image > 2.5)
    assert np.array_equal(tissues > 0, labels > 0)
    assert rows[0]["verdict"] == "do_not_use" and np.isnan(rows[0]["fat_percent"])


def test_three_parts_make_the_whole():
    labels, image = np.zeros((40, 40, 10), np.uint8), np.zeros((40, 40, 10), np.float32)
    labels[5:35, 5:35, 2:8] = 2
    image[labels == 2] = drawn((3000, 1, 0.1), (1400, 2.5, 0.1), (1000, 4, 0.1))
    rows, tissues = measure_mixture(labels, image, voxel_volume_ml=0.001, components=3)
    counts = [int(np.sum(tissues == kind)) for kind in (MUSCLE, MIDDLE, FAT)]
    assert counts == [3000, 1400, 1000]
    names = ("muscle", "undefined", "fat")
    assert sum(rows[1][f"{n}_percent"] for n in names) == pytest.approx(100)
    assert sum(rows[1][f"{n}_volume_ml"] for n in names) == pytest.approx(5.4)
    assert rows[1]["undefined_volume_ml"] == pytest.approx(1.4)


def test_one_peak_is_to_be_looked_at():
    """Two Gaussians are found in one, which says nothing of fat."""
    labels, image = np.zeros((40, 40, 10), np.uint8), np.zeros((40, 40, 10), np.float32)
    labels[5:35, 5:35, 2:8] = 1
    image[labels == 1] = drawn((5400, 100, 10))
    (row, *_), _ = measure_mixture(labels, image, voxel_volume_ml=1, components=2)
    assert row["verdict"] == "look" and "not told apart" in row["reasons"]


def test_mostly_fat_is_to_be_looked_at():
    """In a lean muscle the dark kind is tendon, and the bright one muscle."""
    labels, image = np.zeros((40, 40, 10), np.uint8), np.zeros((40, 40, 10), np.float32)
    labels[5:35, 5:35, 2:8] = 1
    image[labels == 1] = drawn((1400, 100, 10), (4000, 300, 10))
    (row, *_), _ = measure_mixture(labels, image, voxel_volume_ml=1, components=2)
    assert row["verdict"] == "look" and row["reasons"].startswith("74 % fat")


@pytest.mark.parametrize("values", [[], [1.0] * 20, [5.0] * 500])
def test_nothing_is_told_of_too_little(values):
    assert fit_mixture(np.array(values, np.float32), 2) is None


def test_brightness_does_not_matter():
    values = drawn((3000, 1, 0.2), (1000, 3, 0.3))
    one, other = fit_mixture(values, 2), fit_mixture(50 * values + 700, 2)
    assert one is not None and other is not None
    assert other.fat_min == pytest.approx(50 * one.fat_min + 700, rel=1e-4)
