"""Files that cervjax has written, and no others, are replaced."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from cervjax.io.written import (
    RECORD,
    OthersFileError,
    adopt,
    check_ours,
    remove_ours,
    written_together,
)


def write(folder, **texts):
    with written_together(folder) as new:
        for name, text in texts.items():
            (new / f"{name}.csv").write_text(text)


def test_own_files_are_replaced_and_removed(tmp_path):
    write(tmp_path, a="1", b="1")
    write(tmp_path, a="2")
    check_ours(tmp_path, ["a.csv", "b.csv", "none.csv"])
    assert (tmp_path / "a.csv").read_text() == "2"
    remove_ours(tmp_path / "a.csv")
    assert sorted(os.listdir(tmp_path)) == [RECORD, "b.csv"]


def others(path, kind):
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.with_name("mine").write_text("mine")
        path.symlink_to("mine")
    elif kind == "dangling":
        path.symlink_to("nowhere")
    else:
        path.write_text("mine")


@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling"])
def test_nothing_of_others_is_replaced_or_removed(tmp_path, kind):
    write(tmp_path, a="1")
    others(tmp_path / "b.csv", kind)
    before = os.lstat(tmp_path / "b.csv")
    with pytest.raises(OthersFileError, match="b.csv is there"):
        check_ours(tmp_path, ["a.csv", "b.csv"])
    with pytest.raises(OthersFileError, match="b.csv is there"):
        write(tmp_path, a="2", b="2")
    remove_ours(tmp_path / "b.csv")
    assert os.lstat(tmp_path / "b.csv") == before
    assert (tmp_path / "a.csv").read_text() == "1", "half of the files have come"
    assert not list(tmp_path.glob("*.part"))


def test_what_was_edited_is_its_editors(tmp_path):
    write(tmp_path, a="1")
    (tmp_path / "a.csv").write_text("1, and my notes")
    with pytest.raises(OthersFileError, match="move it away"):
        write(tmp_path, a="2")
    (tmp_path / "a.csv").write_text("2")  # what would be written is there
    write(tmp_path, a="2")
    write(tmp_path, a="3")


def test_the_same_name_in_another_folder_is_not_ours(tmp_path):
    write(tmp_path / "x", a="1")
    (tmp_path / "y").mkdir()
    (tmp_path / "x" / "a.csv").rename(tmp_path / "y" / "a.csv")
    with pytest.raises(OthersFileError, match="y/a.csv"):
        check_ours(tmp_path / "y", ["a.csv"])
    adopt(tmp_path / "y", ["a.csv", "none.csv"])
    check_ours(tmp_path / "y", ["a.csv"])


def test_an_exception_leaves_everything_as_it_was(tmp_path):
    write(tmp_path, a="1")
    with pytest.raises(OSError, match="full"), written_together(tmp_path) as new:
        (new / "a.csv").write_text("2")
        raise OSError("full")
    assert (tmp_path / "a.csv").read_text() == "1"
    assert sorted(os.listdir(tmp_path)) == [RECORD, "a.csv"]


def test_many_writers_know_each_others_files_as_ours(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: write(tmp_path, a=str(i)), range(40)))
    check_ours(tmp_path, ["a.csv"])
