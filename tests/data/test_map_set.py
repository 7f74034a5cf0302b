"""A training set of tissue maps: some to train on, some scanned once to validate on."""

import numpy as np
import pytest
from ml_collections import ConfigDict
from tiny_maps import make_tiny_map

from cervjax.data import map_set, tissue_maps
from cervjax.data.augment_intensity import Intensity
from cervjax.data.augment_spatial import Warp
from cervjax.data.cache import DataError
from cervjax.data.contrast import Contrast
from cervjax.data.scanner import Scanner

STILL = Warp(
    mirror=False,
    scale_percent=(0.0, 0.0, 0.0),
    rotation_deg=(0.0, 0.0, 0.0),
    elastic_probability=0.0,
)
SCANNER = Scanner(
    (16, 16, 8), (1.0, 1.0, 2.0), STILL, Contrast(shift_mm=(1, 1, 1)), Intensity()
)
OTHER = Scanner(
    (16, 16, 8), (1.0, 1.0, 2.0), STILL, Contrast(shift_mm=(0, 0, 0)), Intensity()
)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    maps = {"count": 2, "validation": 1, "seed": 0, "without": ()}
    maps["anatomies"] = ("man_41", "woman_59")
    data = {"spacing_mm": (1.0, 1.0, 2.0), "padding": (2, 2, 1)}
    data["cache"] = str(tmp_path_factory.mktemp("cache"))
    return ConfigDict({"tissue_maps": maps, "data": data})


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(tissue_maps, "make_tissue_map", make_tiny_map)
    monkeypatch.setattr(map_set.os, "cpu_count", lambda: 1)


@pytest.fixture
def scanned(monkeypatch):
    """The maps that are read to be scanned."""
    seen, read = [], map_set.read_codes
    monkeypatch.setattr(map_set, "read_codes", lambda f: seen.append(f.name) or read(f))
    return seen


@pytest.fixture(scope="module")
def found(config):
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tissue_maps, "make_tissue_map", make_tiny_map)
        patch.setattr(map_set.os, "cpu_count", lambda: 1)
        return map_set.load_map_set(config, SCANNER, lines.append), lines


def test_maps_and_scans_are_of_different_necks(found):
    data, lines = found
    assert [f.name for f in data.maps] == ["neck-0000", "neck-0001"]
    assert [v.name for v in data.validation] == ["neck-0002"] and not data.train
    assert "2 to train on, 1 to validate" in lines[0] and "neck-0000" in lines[1]
    assert data.recipe.normalisation == "foreground" and not data.recipe.landmarks
    assert data.recipe.spacing_mm == (1.0, 1.0, 2.0)
    assert data.recipe.padding == (2, 2, 1)
    assert "outlines of man_41, woman_59, seed 0); no image" in data.description


def test_scans_to_validate_on_hold_muscles_and_bodies(found):
    (volume,) = found[0].validation
    image, labels = np.load(volume.image), np.load(volume.labels)
    assert image.shape == (*volume.shape, 2) == (16, 16, 8, 2)
    assert labels.dtype == np.uint8 and 14 < labels.max() < 22
    counts = np.bincount(labels.ravel(), minlength=22)[:15]
    assert volume.counts == tuple(counts) and (counts > 0).sum() > 8


def test_a_scan_is_made_once_and_always_the_same(found, config, scanned):
    (volume,) = found[0].validation
    assert map_set.load_map_set(config, SCANNER, print) == found[0] and not scanned
    image = np.load(volume.image)
    volume.image.unlink()
    map_set.load_map_set(config, SCANNER, print)
    np.testing.assert_array_equal(np.load(volume.image), image)
    assert scanned == ["neck-0002"]


def test_another_contrast_is_another_scan_of_the_same_maps(found, config, scanned):
    other = map_set.load_map_set(config, OTHER, print)
    assert scanned == ["neck-0002"] and other.maps == found[0].maps
    assert other.validation[0].sha256 != found[0].validation[0].sha256
    first, second = (np.load(d.validation[0].image) for d in (other, found[0]))
    assert np.abs(first - second).mean() > 0.1


def test_a_person_and_mixes_with_it_may_be_left_out(config, monkeypatch):
    who = ["man_41", "woman_59", "man_41*0.30+woman_59*0.70", "woman_59"]

    def make(seed, index, anatomies):
        return make_tiny_map(seed, index, (who[index],))

    monkeypatch.setattr(tissue_maps, "make_tissue_map", make)
    changed = ConfigDict(config.to_dict())
    changed.tissue_maps.update(count=3, seed=1, without=("man_41",))
    data = map_set.load_map_set(changed, SCANNER, print)
    assert [f.name for f in data.maps] == ["neck-0001"]
    assert [v.name for v in data.validation] == ["neck-0003"]
    assert "1 digital necks" in data.description
    assert "outlines of woman_59, seed" in data.description
    changed.tissue_maps.without = ("man_41", "woman_59")
    with pytest.raises(DataError, match="no tissue map is left without man_41, woman"):
        map_set.load_map_set(changed, SCANNER, print)
