"""The tables of scans, packed and joined."""

import json

import pytest

from cervjax.inference import scan_tables as st
from cervjax.inference.sidecar import DamagedError
from cervjax.io.files import sha256_of_file
from cervjax.io.tables import write_rows


def packed(folder, name, rows):
    path = folder / f"{name}_tables.json.gz"
    path.write_bytes(st.pack(rows))
    return st.Packed(path, sha256_of_file(path))


def rows_of(scan):
    """Texts that CSV must quote, a formula, gaps, numbers of many digits."""
    return [
        {"scan": scan, "label": k, "x": 1 / (k + 3), "reasons": 'a, "b"', "y": None}
        for k in range(3)
    ] + [{"scan": scan, "label": 9, "x": float("nan"), "reasons": "=1+1", "y": True}]


def test_joined_tables_are_those_of_all_rows(tmp_path):
    scans = [packed(tmp_path, n, {st.MEASUREMENTS: rows_of(n)}) for n in ("a", "é")]
    assert st.write_joined(tmp_path, scans) == {st.MEASUREMENTS}
    write_rows(tmp_path / "all.csv", [*rows_of("a"), *rows_of("é")])
    expected = (tmp_path / "all.csv").read_bytes()
    assert (tmp_path / st.MEASUREMENTS).read_bytes() == expected


def test_a_column_that_some_scans_have_is_empty_elsewhere(tmp_path):
    more = [{"scan": "b", "z": "'='", "x": -0.25}]
    scans = [
        packed(tmp_path, "a", {st.MEASUREMENTS: rows_of("a"), st.LEVELS: []}),
        packed(tmp_path, "b", {st.MEASUREMENTS: more, st.LEVELS: more}),
    ]
    assert st.write_joined(tmp_path, scans) == {st.MEASUREMENTS, st.LEVELS}
    write_rows(tmp_path / "all.csv", [*rows_of("a"), *more])
    expected = (tmp_path / "all.csv").read_bytes()
    assert (tmp_path / st.MEASUREMENTS).read_bytes() == expected


def test_rows_come_back_and_damage_is_known(tmp_path):
    found = packed(tmp_path, "001", {st.MEASUREMENTS: rows_of("001")})
    rows = st.read_table(st.read_texts(found), st.MEASUREMENTS)
    assert [r["label"] for r in rows] == [0, 1, 2, 9]
    assert rows[0]["x"] == 0.333333 and rows[0]["y"] is None and rows[3]["y"] is True
    assert rows[0]["scan"] == "001" and rows[0]["reasons"] == 'a, "b"'
    assert not st.read_table(st.read_texts(found), st.SLICES)
    for content in (b"", st.pack({}), json.dumps({}).encode()):
        found.path.write_bytes(content)
        with pytest.raises(DamagedError, match="001_tables.json.gz is not what"):
            st.read_texts(found)
    assert not st.write_joined(tmp_path, [found])
