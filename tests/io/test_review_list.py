"""Lists of scans to keep or to leave out."""

from pathlib import Path

import pytest

from cervjax.io.review_list import KEPT, LEFT_OUT, chosen, names_in
from cervjax.io.scans import Problem, Scan

SCANS = [Scan("a"), Scan("b"), Scan("c")]
PROBLEMS = [Problem("d", (), "broken", "mend")]
REVIEW = "scan,review,note\na,pass,\nb,fail,moved\nc,artifact,\nd,,\n"


def names(found) -> str:
    scans, problems = found
    return "".join([s.name for s in scans] + [p.scan for p in problems])


@pytest.fixture
def review(tmp_path) -> Path:
    path = tmp_path / "review.csv"
    path.write_text(REVIEW, "utf-8")
    return path


def test_reviews_choose_scans(review):
    assert names(chosen(SCANS, PROBLEMS, None, None)) == "abcd"
    assert names(chosen(SCANS, PROBLEMS, review, None)) == "a"
    assert names(chosen(SCANS, PROBLEMS, None, review)) == "ad"


def test_a_list_without_reviews_is_meant_as_a_whole(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("scan\nb\nd\n")
    assert names_in(path, KEPT) == names_in(path, LEFT_OUT) == {"b", "d"}
    assert names(chosen(SCANS, PROBLEMS, path, None)) == "bd"
    assert names(chosen(SCANS, PROBLEMS, None, path)) == "ac"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name\na\n", "scan"),
        ("scan,review\na,maybe\n", "line 2: review must be pass, fail"),
        ("scan\nzz\n", "names none of the 4 scan"),
    ],
)
def test_lists_that_cannot_be_meant(tmp_path, text, reason):
    path = tmp_path / "list.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=reason):
        chosen(SCANS, PROBLEMS, path, None)
