"""Faults injected into whole runs: the short form of `python benchmarks/faults.py`."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import faults  # pyright: ignore[reportMissingImports]


@pytest.mark.slow
def test_after_a_fault_a_rerun_gives_the_same_bytes(capsys):
    """A kill, damaged inputs, a damaged result."""
    status = faults.main(["--kills", "1", "--only", "kills", "inputs", "results"])
    text = capsys.readouterr().out
    assert status == 0, text
    assert "| inputs | 6 | 0 |" in text and "| kills | 1 | 0 |" in text


def test_what_is_lost_is_noticed(tmp_path):
    for name, bytes_ in (("a_qc.png", b"1"), ("b_dseg.json", b'{"Seconds": 3}')):
        (tmp_path / name).write_bytes(bytes_)
    runs = object.__new__(faults.Runs)
    runs.expected = faults.content(tmp_path)
    (tmp_path / "b_dseg.json").write_bytes(b'{"Seconds": 4}')
    assert not runs.wrong(tmp_path, 0, "")
    (tmp_path / "a_qc.png").write_bytes(b"2")
    (tmp_path / "c_qc.png").write_bytes(b"3")
    (told,) = runs.wrong(tmp_path, 2, "Traceback")
    assert "a_qc.png differs" in told and "c_qc.png is new" in told
    assert "status 2" in told
