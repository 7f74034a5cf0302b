import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from cervjax.phantom.tissues import CODES

pytestmark = pytest.mark.xdist_group("phantom")


def positions(body):
    """z, y, x in mm of the voxels' centres, one array per axis."""
    return [
        first + step * np.arange(n)
        for first, step, n in zip(
            body.first_mm, body.step_mm, body.tissue.shape, strict=True
        )
    ]


def in_space(neck):
    """The relative fat of each voxel of a muscle, NaN elsewhere."""
    out = np.full(neck.body.tissue.shape, np.nan, np.float32)
    out.reshape(-1)[neck.texture.voxels] = neck.texture.relative
    return out


def test_fat_is_drawn_for_every_voxel_of_a_muscle(neck):
    tissue = neck.body.tissue
    assert np.isfinite(in_space(neck)).sum() == ((tissue > 0) & (tissue < 15)).sum()
    label = tissue.reshape(-1)[neck.texture.voxels]
    np.testing.assert_array_equal(label, neck.texture.label)
    assert neck.texture.relative.min() > 0


def test_fat_has_mean_one_in_every_muscle(neck):
    for label in range(1, 15):
        own = neck.texture.relative[neck.texture.label == label]
        assert own.mean(dtype=np.float64) == pytest.approx(1, abs=1e-4)
        assert own.std() > 0.2


@pytest.mark.parametrize("axis, least", [(0, 0.9), (1, 0.6), (2, 0.6)], ids=str)
def test_fat_is_no_white_noise(neck, axis, least):
    fat, tissue = np.moveaxis(in_space(neck), axis, 0), neck.body.tissue
    tissue = np.moveaxis(tissue, axis, 0)
    for label in (1, 8, 10):
        both = (tissue[1:] == label) & (tissue[:-1] == label)
        found = np.corrcoef(fat[1:][both], fat[:-1][both])[0, 1]
        assert found > least


@pytest.mark.parametrize("label", [1, 2, 7, 9, 14])
def test_fat_follows_the_border(neck, label):
    mask = neck.body.tissue == label
    planes = np.flatnonzero(mask.any((1, 2)))[::8]
    mask = mask[planes]
    depth = [distance_transform_edt(plane, 0.5) for plane in mask]
    fat, depth = in_space(neck)[planes][mask], np.stack(depth)[mask]
    assert fat[depth <= 0.5].mean() > 1.1 * fat[(depth > 2) & (depth < 4)].mean()


@pytest.mark.parametrize("label", [1, 2])
def test_fat_gathers_at_the_vertebra(neck, label):
    _, y, x = positions(neck.body)
    mask = neck.body.tissue == label
    fat = in_space(neck)
    more = 0
    planes = np.flatnonzero(mask.any((1, 2)))
    for k in planes:
        rows, cols = np.nonzero(mask[k])
        away = np.hypot(x[cols], y[rows] + 14)
        near, far = away < np.quantile(away, 0.2), away > np.quantile(away, 0.5)
        value = fat[k, rows, cols]
        more += value[near].mean() > value[far].mean()
    assert more > 0.7 * len(planes)  # patches may lie elsewhere in some


def test_mean_fat_of_the_muscles_survives_rounding_to_bytes(neck):
    stored = (neck.codes & 255) / 255
    tissue = neck.codes >> 8
    np.testing.assert_array_equal(tissue, neck.body.tissue)
    for label in (1, 4, 9, 12):
        found = 100 * stored[tissue == label].mean()
        assert found == pytest.approx(neck.pdff_percent[label], abs=0.03)


def test_fat_of_other_tissues(neck):
    codes = neck.codes
    for name, low, high in (
        ("fat", 90, 98),
        ("cord", 0, 1),
        ("csf", 0, 1),
        ("marrow", 30, 55),
        ("tongue", 5, 25),
    ):
        found = 100 * (codes[neck.body.tissue == CODES[name]] & 255).mean() / 255
        assert low <= found <= high, name
