"""Damaged files: readers read them, or raise their documented error by name.

The long form is `python benchmarks/fuzz.py`.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import fuzz  # pyright: ignore[reportMissingImports]

NAMES = [
    "NIfTI",
    "NIfTI, gzip",
    "labels",
    "level map",
    "level table",
    "measurements",
    "participants",
    "list of scans",
    "table of labels",
    "dataset.json",
    "calibration",
    "metrics",
    "landmarks",
    "side-car",
    "scan's side-car",
    "model card",
    "anatomy",
    "prepared volume",
    "checkpoint",
    "weights",
    "list of reviews",
    "scan's tables",
    "DICOM image",
    "DICOM folder",
    "config overrides",
]


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    return {r.name: r for r in fuzz.readers(tmp_path_factory.mktemp("fuzz"))}


def test_every_reader_is_tried(readers):
    assert list(readers) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_are_read_or_refused_by_name(readers, name):
    fuzz.fuzz(readers[name], 60)


def test_a_reader_that_fails_is_noticed(readers):
    def read(path):
        if b"use" not in path.read_bytes():
            raise KeyError("verdict")

    broken = fuzz.Reader("broken", readers["measurements"].sample, read)
    with pytest.raises(AssertionError, match="broken: KeyError"):
        fuzz.fuzz(broken, 60)
