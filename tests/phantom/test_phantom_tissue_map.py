import numpy as np
import pytest

from cervjax.anatomy import MUSCLES
from cervjax.phantom.tissue_map import MAP_SPACING_MM, make_tissue_map
from cervjax.phantom.tissues import BODIES, CODES

pytestmark = pytest.mark.xdist_group("phantom")


@pytest.fixture(scope="module")
def one():
    return make_tissue_map(3, 1, ("standard", "man_41"))


@pytest.mark.slow
def test_same_numbers_same_map(one):
    again = make_tissue_map(3, 1, ("standard", "man_41"))
    np.testing.assert_array_equal(again.codes, one.codes)
    assert again.anatomy == one.anatomy
    for a, b in zip(again.subject, one.subject, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_other_numbers_other_map(one):
    other = make_tissue_map(3, 2, ("standard",))
    assert other.anatomy == "standard"
    assert other.subject.height_m != one.subject.height_m
    assert np.mean(other.codes != one.codes) > 0.1


def test_muscles_and_bodies_are_where_they_belong(one):
    tissue = one.codes >> 8
    assert one.codes.dtype == np.uint16
    x = np.arange(tissue.shape[0]) * MAP_SPACING_MM[0]
    middle = x.mean()
    for m in MUSCLES:
        at = x[np.nonzero(tissue == m.label)[0]]
        assert len(at) > 1000, m.key
        assert (at.mean() > middle) == (m.side == "right"), m.key
    heights = [np.nonzero(tissue == CODES[f"marrow {b}"])[2].mean() for b in BODIES]
    assert heights == sorted(heights, reverse=True)


def test_fat_fraction_is_the_tissues(one):
    tissue, fat = one.codes >> 8, (one.codes & 255) / 255
    assert fat[tissue == CODES["fat"]].mean() > 0.85
    assert fat[tissue == CODES["cord"]].max() < 0.05
    assert 0.02 < fat[(tissue > 0) & (tissue < 15)].mean() < 0.35
