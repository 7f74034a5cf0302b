"""Tissue maps on disk, and their order in training."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tiny_maps import make_tiny_map

from cervjax.data import tissue_maps
from cervjax.data.cache import CacheError
from cervjax.data.tissue_maps import cache_tissue_maps, map_batches, read_codes


@pytest.fixture
def made(monkeypatch):
    """The necks that were made, by seed, number and anatomies."""
    necks = []

    def make(seed, index, anatomies=()):
        necks.append((seed, index, anatomies))
        return make_tiny_map(seed, index, anatomies)

    monkeypatch.setattr(tissue_maps, "make_tissue_map", make)
    return necks


def content(files):
    return [
        (f.path.read_bytes(), f.path.with_suffix(".json").read_text()) for f in files
    ]


def test_what_is_there_is_not_made_again(made, tmp_path):
    told = []
    files = cache_tissue_maps(
        range(3), 5, ("man_41",), tmp_path, on_progress=told.append
    )
    assert made == [(5, i, ("man_41",)) for i in range(3)]
    assert told == [f"neck-000{i} (man_41)" for i in range(3)]
    assert [f.name for f in files] == ["neck-0000", "neck-0001", "neck-0002"]
    for i, file in enumerate(files):
        expected = make_tiny_map(5, i, ("man_41",)).codes
        np.testing.assert_array_equal(read_codes(file), expected)
        assert read_codes(file).dtype == np.uint16
    before = content(files)
    files[1].path.unlink()
    made.clear()
    again = cache_tissue_maps([0, 1, 2, 3], 5, ("man_41",), tmp_path)
    assert made == [(5, 1, ("man_41",)), (5, 3, ("man_41",))]
    assert again[:3] == files and content(files) == before
    assert not [p for p in tmp_path.rglob("*") if "part" in p.name]


def test_several_workers_write_the_same_bytes(made, tmp_path, monkeypatch):
    """Threads stand for the processes, which would not see the tiny necks."""
    one = cache_tissue_maps(range(4), 0, (), tmp_path / "one")
    monkeypatch.setattr(
        tissue_maps, "ProcessPoolExecutor", lambda n, _: ThreadPoolExecutor(n)
    )
    told = []
    several = cache_tissue_maps(
        range(4), 0, (), tmp_path / "several", workers=3, on_progress=told.append
    )
    assert content(one) == content(several) and len(told) == len(made) / 2 == 4
    assert [f.sha256 for f in one] == [f.sha256 for f in several]


def test_other_necks_have_other_files_and_digests(made, tmp_path, monkeypatch):
    found = []
    for seed, anatomies in ((0, ()), (1, ()), (0, ("man_41",))):
        found += cache_tissue_maps(range(2), seed, anatomies, tmp_path)
    monkeypatch.setattr(tissue_maps, "_FORMAT", -1)
    found += cache_tissue_maps(range(2), 0, (), tmp_path)
    assert len({f.path for f in found}) == len({f.sha256 for f in found}) == len(made)
    assert len(made) == 8


def test_a_folder_that_cannot_be_written_is_told(made, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match=r"file.* 11 MB each; make room") as caught:
        cache_tissue_maps(range(2), 0, (), tmp_path / "file")
    assert "\n" not in str(caught.value)


@pytest.fixture
def maps(made, tmp_path):
    return cache_tissue_maps(range(4), 0, (), tmp_path)


def drawn(iterator, maps, count):
    """Numbers of the maps in the next batches."""
    known = {read_codes(f).tobytes(): i for i, f in enumerate(maps)}
    batches = [next(iterator)["codes"] for _ in range(count)]
    return [[known[codes.tobytes()] for codes in batch] for batch in batches]


def test_the_order_of_maps_depends_on_the_seed_alone(maps):
    orders = {
        seed: drawn(iter(map_batches(maps, batch_size=2, seed=seed)), maps, 8)
        for seed in (0, 1)
    }
    again = drawn(iter(map_batches(maps, batch_size=2, seed=0)), maps, 8)
    assert orders[0] == again != orders[1]
    for order in orders.values():
        rounds = np.reshape(order, (4, 4))
        assert np.all(np.sort(rounds, axis=1) == np.arange(4))  # each map once
        assert len({tuple(r) for r in rounds.tolist()}) > 1  # in a new order


def test_hosts_share_the_maps_of_a_batch(maps):
    whole = drawn(iter(map_batches(maps, batch_size=4, seed=3)), maps, 3)
    parts = [
        drawn(iter(map_batches(maps, batch_size=2, seed=3, shard=(k, 2))), maps, 3)
        for k in (0, 1)
    ]
    for batch, one, other in zip(whole, *parts, strict=True):
        assert sorted(one + other) == sorted(batch)


def test_the_order_goes_on_where_it_was(maps):
    iterator = iter(map_batches(maps, batch_size=2, seed=0))
    drawn(iterator, maps, 3)
    state = iterator.get_state()
    rest = drawn(iterator, maps, 6)
    other = iter(map_batches(maps, batch_size=2, seed=0))
    other.set_state(state)
    assert drawn(other, maps, 6) == rest
