"""The page of promises names tests that are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "promises.md").read_text()
ROWS = re.findall(r"^\| (.+?) \| (.*`.+`.*) \|$", TEXT, re.MULTILINE)


@pytest.mark.parametrize(("promise", "kept"), ROWS, ids=[r[0][:40] for r in ROWS])
def test_every_promise_has_its_tests(promise, kept):
    for name, words in re.findall(r"`([\w/]+\.py)`(?: \(([^)]*)\))?", kept):
        text = (ROOT / "tests" / name).read_text()
        tests = re.findall(r"^def (test_\w+)", text, re.MULTILINE)
        assert tests, name
        for word in re.findall(r"`(\w+)`", words):
            assert any(word in test for test in tests), f"{promise}: {name}, {word}"


def test_there_are_promises():
    assert len(ROWS) > 20
