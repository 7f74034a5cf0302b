"""Atomic writes, and JSON of any origin."""

import json
import os
import time

import pytest

from cervjax.io.files import (
    read_json,
    remove_old_parts,
    user_cache,
    write_atomically,
)


def test_two_writers_of_one_name_never_share_a_part(tmp_path):
    """In two containers both may be process 1, so the name is not that of a process."""
    parts = []

    def write(part):
        parts.append(part)
        part.write_text("a")
        if len(parts) < 2:
            write_atomically(tmp_path / "x.nii.gz", write)

    write_atomically(tmp_path / "x.nii.gz", write)
    assert parts[0] != parts[1] and all(p.name.endswith(".nii.gz") for p in parts)
    assert os.listdir(tmp_path) == ["x.nii.gz"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")

    def fail(part):
        part.write_text("half")
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        write_atomically(path, fail)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.json"]


def test_the_longest_names_can_be_written(tmp_path):
    path = tmp_path / ("x" * 247 + ".nii.gz")
    write_atomically(path, lambda part: part.write_bytes(b"1"))
    assert path.read_bytes() == b"1"


def test_parts_of_killed_runs_are_deleted_and_those_at_work_are_not(tmp_path):
    old, new = ".0123456789abcdef.part.nii.gz", ".0123456789abcdee.part.csv"
    others = [".film.part", ".ab.part.csv", "a.part.nii"]
    for name in (old, new, *others):
        (tmp_path / name).write_text("x")
    folder = tmp_path / ".1123456789abcdef.part"
    folder.mkdir()
    (folder / "a.csv").write_text("x")
    long_ago = time.time() - 7200
    for name in (old, folder.name, *others):
        os.utime(tmp_path / name, (long_ago, long_ago))
    remove_old_parts(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([new, *others])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "no JSON"),
        (b"[" * 100_000, "nested too deep"),
        (b"", "no JSON"),
        (b"\x00\xff", "no JSON"),
    ],
)
def test_what_is_no_json_is_one_kind_of_error(tmp_path, content, words):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        read_json(path)
    assert str(path) in str(caught.value)


def test_latin_1_byte_order_marks_and_endless_numbers_are_read(tmp_path):
    path = tmp_path / "a.json"
    text = json.dumps({"name": "M\u00fcller"}, ensure_ascii=False)
    path.write_bytes(text.encode("latin-1"))
    assert read_json(path) == {"name": "M\u00fcller"}
    path.write_bytes(b"\xef\xbb\xbf[1" + b"0" * 400 + b", 7]")
    assert read_json(path) == [float("inf"), 7]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_refused_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(ValueError, match="regular file"):
        read_json(tmp_path / "a.json")


def test_a_user_without_a_home_has_a_cache(tmp_path, monkeypatch):
    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pathlib.Path.home", nobody)
    assert user_cache().is_dir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache() == tmp_path
