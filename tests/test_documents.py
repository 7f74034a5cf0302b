"""Documents and metadata agree with each other and with the files."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))
from check_links import anchors, broken_links  # noqa: E402

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    assert not list(broken_links(document))


def test_broken_links_are_found(tmp_path):
    page = tmp_path / "a.md"
    page.write_text("# Two words\n[x](#two-words) [y](#three) [z](gone.md)\n")
    assert anchors(page) == {"two-words"}
    assert [line.split(": ")[1] for line in broken_links(page)] == ["#three", "gone.md"]


def test_one_version_everywhere():
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"\nversion: {PROJECT['version']}\n" in citation
    assert f"\n## {PROJECT['version']} (" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_lock_has_every_dependency_and_no_address():
    lock = (ROOT / "requirements.lock").read_text("utf-8").lower()
    extras = PROJECT["optional-dependencies"]
    wanted = PROJECT["dependencies"] + extras["dev"] + extras["train"]
    names = {re.split(r"[\[><= ]", text)[0].lower() for text in wanted} - {"cervjax"}
    locked = {line.split("==")[0] for line in lock.splitlines()}
    assert names <= locked
    assert "://" not in lock


def test_inference_is_installed_without_the_extras():
    core = {re.split(r"[\[><= ]", text)[0] for text in PROJECT["dependencies"]}
    extras = PROJECT["optional-dependencies"]
    rest = {re.split(r"[\[><= ]", t)[0] for t in extras["train"] + extras["figures"]}
    assert rest and not core & rest
