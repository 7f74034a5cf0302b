import math

import numpy as np
import pytest

from cervjax.anatomy import LEFT_RIGHT_PERMUTATION, MUSCLES
from cervjax.measurement.composition import measure, measure_slices

MUSCLE_KEYS = (
    "label muscle side volume_ml mfi_percent fat_fraction_mean_percent "
    "fat_fraction_median_percent water_mean fat_mean voxels voxels_undefined "
    "voxels_negative_fat slice_first slice_last slices touches_fov_edge "
    "confidence_mean asymmetry_volume_percent asymmetry_mfi_points"
).split()
SLICE_KEYS = (
    "label muscle side slice z_mm area_mm2 voxels volume_ml mfi_percent "
    "fat_fraction_mean_percent fat_fraction_median_percent water_mean fat_mean "
    "voxels_undefined voxels_negative_fat confidence_mean"
).split()
COUNTS = {"voxels", "voxels_undefined", "voxels_negative_fat", "slices"}


def line(label, fat, water):
    """One muscle of the given voxels, in a row along z, off the faces."""
    labels, f, w = (np.zeros((3, 3, len(fat) + 2)) for _ in range(3))
    labels[1, 1, 1:-1], f[1, 1, 1:-1], w[1, 1, 1:-1] = label, fat, water
    return labels.astype(np.uint8), f, w


def random_neck(seed=0, shape=(9, 8, 7)):
    """Random labels without muscle 4; noisy fat, some negative or undefined."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 15, shape).astype(np.uint8)
    labels[labels == 4] = 0
    fat, water = rng.normal(20, 30, shape), rng.normal(40, 30, shape)
    return labels, fat, water, rng.uniform(0, 1, shape)


def oracle(mask, fat, water, confidence):
    """Everything about the voxels in ``mask``, one voxel at a time."""
    f, w, c, fractions = [], [], [], []
    for index in zip(*np.nonzero(mask), strict=True):
        f.append(float(fat[index]))
        w.append(float(water[index]))
        c.append(float(confidence[index]))
        if f[-1] + w[-1] > 0:
            fractions.append(100 * f[-1] / (f[-1] + w[-1]))
    n = len(f)
    mean_f, mean_w = math.fsum(f) / n, math.fsum(w) / n
    fractions.sort()
    k = len(fractions)
    median = math.nan
    if k:
        median = (fractions[(k - 1) // 2] + fractions[k // 2]) / 2
    positive = mean_f + mean_w > 0
    return {
        "mfi_percent": 100 * mean_f / (mean_f + mean_w) if positive else math.nan,
        "fat_fraction_mean_percent": math.fsum(fractions) / k if k else math.nan,
        "fat_fraction_median_percent": median,
        "water_mean": mean_w,
        "fat_mean": mean_f,
        "voxels": n,
        "voxels_undefined": n - k,
        "voxels_negative_fat": sum(x < 0 for x in f),
        "confidence_mean": math.fsum(c) / n,
    }


def test_ratio_of_means_mean_of_ratios_and_median_by_hand():
    # Fractions 50 %, 10 %, 20 %; sums F = 1 + 9 + 2 = 12, F + W = 2 + 90 + 10 = 102.
    rows = measure(*line(2, [1, 9, 2], [1, 81, 8]), voxel_volume_ml=0.5)
    row = rows[1]
    assert row["mfi_percent"] == pytest.approx(1200 / 102)
    assert row["fat_fraction_mean_percent"] == pytest.approx(80 / 3)
    assert row["fat_fraction_median_percent"] == pytest.approx(20)
    assert (row["water_mean"], row["fat_mean"]) == (30, 4)
    assert (row["volume_ml"], row["voxels"]) == (1.5, 3)
    assert (row["slice_first"], row["slice_last"], row["slices"]) == (1, 3, 3)
    assert row["touches_fov_edge"] is False


def test_median_of_an_even_number_is_the_middle():
    row = measure(*line(1, [1, 2, 4, 9], [9, 8, 6, 1]), voxel_volume_ml=1)[0]
    assert row["fat_fraction_median_percent"] == pytest.approx(30)


def test_undefined_voxels_are_counted_and_left_out_of_the_fractions():
    # Voxels (0, 0) and (-3, 1) have no fraction; (-1, 11) has -10 %, kept.
    arrays = line(7, [4, 0, -3, -1], [6, 0, 1, 11])
    row = measure(*arrays, voxel_volume_ml=1)[6]
    assert (row["voxels"], row["voxels_undefined"]) == (4, 2)
    assert row["voxels_negative_fat"] == 2
    assert row["fat_fraction_mean_percent"] == pytest.approx((40 - 10) / 2)
    assert row["fat_fraction_median_percent"] == pytest.approx((40 - 10) / 2)
    assert row["mfi_percent"] == pytest.approx(100 * 0 / 18)  # all four voxels


@pytest.mark.parametrize("fat, water", [(0, 0), (-2, 1), (-2, 2)])
def test_no_signal_is_nan_and_not_zero_percent(fat, water):
    row = measure(*line(3, [fat] * 3, [water] * 3), voxel_volume_ml=1)[2]
    for name in ("mfi_percent", "fat_fraction_mean_percent"):
        assert math.isnan(row[name])
    assert math.isnan(row["fat_fraction_median_percent"])
    assert row["voxels_undefined"] == row["voxels"] == 3
    assert row["fat_mean"] == fat


def test_asymmetry_by_hand():
    labels, fat, water = line(9, [1, 1, 3], [9, 9, 7])
    labels[1, 1, 3] = 10  # right SCM: 2 voxels of 10 %; left: 1 voxel of 30 %
    rows = measure(labels, fat, water, voxel_volume_ml=2)
    for row in rows[8:10]:
        assert row["asymmetry_volume_percent"] == pytest.approx(100 * (2 - 4) / 3)
        assert row["asymmetry_mfi_points"] == pytest.approx(20)


def test_asymmetry_against_an_empty_side_is_nan():
    rows = measure(*line(9, [1], [9]), voxel_volume_ml=2)
    for row in rows[8:10]:
        assert math.isnan(row["asymmetry_volume_percent"])
        assert math.isnan(row["asymmetry_mfi_points"])


def test_muscles_against_the_loop():
    labels, fat, water, confidence = random_neck()
    rows = measure(labels, fat, water, voxel_volume_ml=0.25, confidence=confidence)
    assert [row["label"] for row in rows] == list(range(1, 15))
    for row, muscle in zip(rows, MUSCLES, strict=True):
        assert (row["muscle"], row["side"]) == (muscle.abbreviation, muscle.side)
        mask = labels == muscle.label
        if muscle.label == 4:
            continue
        expected = oracle(mask, fat, water, confidence)
        assert {k: row[k] for k in expected} == pytest.approx(expected, rel=1e-9)
        slices = np.flatnonzero(mask.any((0, 1)))
        assert row["volume_ml"] == pytest.approx(0.25 * mask.sum())
        assert (row["slice_first"], row["slice_last"]) == (slices[0], slices[-1])
        assert row["slices"] == slices.size


@pytest.mark.parametrize("order", ["C", "F"])
def test_slices_against_the_loop(order):
    labels, fat, water, confidence = random_neck(1, (5, 4, 7))
    z_mm = np.linspace(-30, 12, 7)
    rows = measure_slices(
        *(np.asarray(a, order=order) for a in (labels, fat, water)),
        voxel_volume_ml=0.25,
        voxel_area_mm2=0.5,
        slice_positions_mm=z_mm,
        confidence=confidence,
    )
    wanted = [
        (m.label, z)
        for m in MUSCLES
        for z in range(7)
        if (labels == m.label)[..., z].any()
    ]
    assert [(row["label"], row["slice"]) for row in rows] == wanted
    assert len(wanted) < 13 * 7  # some slices are empty, or the test is idle
    for row in rows:
        muscle, z = MUSCLES[row["label"] - 1], row["slice"]
        assert (row["muscle"], row["side"]) == (muscle.abbreviation, muscle.side)
        images = (a[..., z] for a in (fat, water, confidence))
        expected = oracle(labels[..., z] == row["label"], *images)
        expected["z_mm"] = z_mm[z]
        expected["area_mm2"] = 0.5 * expected["voxels"]
        expected["volume_ml"] = 0.25 * expected["voxels"]
        subset = {k: row[k] for k in expected}
        assert subset == pytest.approx(expected, rel=1e-9, nan_ok=True)


def test_slices_add_up_to_the_muscle():
    labels, fat, water, _ = random_neck(2)
    muscles = measure(labels, fat, water, voxel_volume_ml=0.3)
    slices = measure_slices(labels, fat, water, voxel_volume_ml=0.3)
    for muscle in muscles:
        parts = [row for row in slices if row["label"] == muscle["label"]]
        assert len(parts) == muscle["slices"]
        for name in ("voxels", "volume_ml", "voxels_undefined", "voxels_negative_fat"):
            assert sum(row[name] for row in parts) == pytest.approx(muscle[name])
        if not parts:
            continue
        for name in ("fat_mean", "water_mean"):
            mean = np.average(
                [r[name] for r in parts], weights=[r["voxels"] for r in parts]
            )
            assert mean == pytest.approx(muscle[name])


def test_mirrored_neck_exchanges_the_sides():
    labels, fat, water, confidence = random_neck(3)
    rows = measure(labels, fat, water, voxel_volume_ml=1, confidence=confidence)
    mirrored = measure(
        LEFT_RIGHT_PERMUTATION[labels[::-1]],
        fat[::-1],
        water[::-1],
        voxel_volume_ml=1,
        confidence=confidence[::-1],
    )
    for row in rows:
        other = mirrored[LEFT_RIGHT_PERMUTATION[row["label"]] - 1]
        for name in set(MUSCLE_KEYS) - {"label", "side"}:
            sign = -1 if name.startswith("asymmetry") else 1
            if isinstance(row[name], float):
                assert other[name] == pytest.approx(sign * row[name], nan_ok=True)
            else:
                assert other[name] == row[name]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(
    "index, touches", [(0, True), (1, False), (3, False), (4, True)]
)
def test_every_face_is_an_edge(axis, index, touches):
    labels = np.zeros((5, 5, 5), np.uint8)
    position = [2, 2, 2]
    labels[tuple(position)] = 12
    position[axis] = index
    labels[tuple(position)] = 12
    rows = measure(labels, labels, labels, voxel_volume_ml=1)
    assert [row["touches_fov_edge"] for row in rows] == [
        touches and m.label == 12 for m in MUSCLES
    ]


def test_empty_labels():
    empty = np.zeros((4, 4, 4), np.uint8)
    rows = measure(empty, empty, empty, voxel_volume_ml=1)
    assert len(rows) == 14
    for row in rows:
        assert row["slice_first"] is None and row["slice_last"] is None
        assert row["touches_fov_edge"] is False
        assert row["volume_ml"] == 0 and all(row[name] == 0 for name in COUNTS)
        rest = set(MUSCLE_KEYS[4:]) - COUNTS
        for name in rest - {"slice_first", "slice_last", "touches_fov_edge"}:
            assert math.isnan(row[name])
    assert measure_slices(empty, empty, empty, voxel_volume_ml=1) == []


def test_rows_are_plain_scalars_in_the_order_of_the_table():
    labels, fat, water, _ = random_neck()
    muscles = measure(labels, fat, water, voxel_volume_ml=1)
    slices = measure_slices(labels, fat, water, voxel_volume_ml=1)
    for rows, keys in ((muscles, MUSCLE_KEYS), (slices, SLICE_KEYS)):
        for row in rows:
            assert list(row) == keys
            for name, value in row.items():
                if name in COUNTS | {"label", "slice"}:
                    assert type(value) is int
                elif name in ("slice_first", "slice_last"):
                    assert type(value) is (int if row["voxels"] else type(None))
                elif name in ("muscle", "side"):
                    assert type(value) is str
                else:
                    wanted = bool if name == "touches_fov_edge" else float
                    assert type(value) is wanted, name
    assert all(math.isnan(row["confidence_mean"]) for row in muscles + slices)
    assert all(math.isnan(row["z_mm"] + row["area_mm2"]) for row in slices)


def test_slices_between_two_parts_are_not_counted():
    labels, fat, water = line(5, [1, 1, 1], [1, 1, 1])
    labels[1, 1, 2] = 0
    row = measure(labels, fat, water, voxel_volume_ml=1)[4]
    assert (row["slice_first"], row["slice_last"], row["slices"]) == (1, 3, 2)


def test_sums_are_double_precision():
    # 2**24 + 1 + ... in float32 would lose every 1.
    fat = [2.0**24] + [1.0] * 64
    arrays = line(1, fat, [0.0] * 65)
    row = measure(
        arrays[0], *(a.astype(np.float32) for a in arrays[1:]), voxel_volume_ml=1
    )
    assert row[0]["fat_mean"] == (2**24 + 64) / 65


@pytest.mark.parametrize("name", ["fat", "water", "confidence"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_matters_only_inside_the_muscles(name, value):
    labels, fat, water = line(5, [1, 1, 1], [1, 1, 1])
    images = {"fat": fat, "water": water, "confidence": np.ones(fat.shape)}
    images[name][0, 0, 0] = value
    assert measure(labels, **images, voxel_volume_ml=1)[4]["mfi_percent"] == 50
    images[name][1, 1, 2] = value
    for function in (measure, measure_slices):
        with pytest.raises(ValueError, match=f"{name} must be finite.* 1 of 3"):
            function(labels, voxel_volume_ml=1, **images)  # pyright: ignore


@pytest.mark.parametrize("function", [measure, measure_slices])
@pytest.mark.parametrize(
    "changed, message",
    [
        ({"labels": np.ones((2, 2, 2), np.float32)}, "3-D integers.*float32"),
        ({"labels": np.ones((2, 2, 2), bool)}, "3-D integers.*bool"),
        ({"labels": np.ones((2, 2), np.uint8)}, "3-D integers.*2-D"),
        ({"labels": np.full((2, 2, 2), 15, np.uint8)}, r"0-14, got \[15\] in 8"),
        ({"labels": np.full((2, 2, 2), -1, np.int16)}, r"0-14, got \[-1\] in 8"),
        ({"fat": np.ones((2, 2, 1))}, "fat and labels must have one shape"),
        ({"water": np.ones((2, 2, 1))}, "water and labels must have one shape"),
        ({"confidence": np.ones((2, 2, 1))}, "confidence and labels"),
        ({"voxel_volume_ml": 0}, "voxel_volume_ml must be positive"),
        ({"voxel_volume_ml": math.nan}, "voxel_volume_ml must be positive"),
    ],
)
def test_bad_input(function, changed, message):
    ones = np.ones((2, 2, 2))
    good = {"labels": ones.astype(np.uint8), "fat": ones, "water": ones}
    good["voxel_volume_ml"] = 1
    with pytest.raises(ValueError, match=message):
        function(**(good | changed))


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"slice_positions_mm": [0.0]}, "2 positions"),
        ({"voxel_area_mm2": -1}, "voxel_area_mm2 must be positive"),
    ],
)
def test_bad_slice_input(changed, message):
    ones = np.ones((2, 2, 2), np.uint8)
    with pytest.raises(ValueError, match=message):
        measure_slices(ones, ones, ones, voxel_volume_ml=1, **changed)
