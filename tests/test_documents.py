"""Documents and metadata agree with each other and with the files."""

import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from cervjax.anatomy import MUSCLES
from cervjax.cli.main import COMMANDS, make_parser
from cervjax.phantom.subject import MEAN_MFI_PERCENT

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


def commands_in(text: str) -> Iterator[list[str]]:
    """The arguments of ``cervjax``, ``infer.py`` and ``train.py`` in code blocks."""
    text = text.replace("$SLURM_ARRAY_TASK_ID", "1")
    for block in re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True) if "cervjax" in line else []
            words = words or (line.split("#")[0].split() if ".py" in line else [])
            cut = next((i for i, w in enumerate(words) if w in (">", "|")), len(words))
            if words[:1] == ["cervjax"]:
                yield words[1:cut]
            elif words[:1] == ["python"] and words[1] in ("infer.py", "train.py"):
                yield [words[1].removesuffix(".py"), *words[2:cut]]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_are_understood(document):
    parser = make_parser()
    for words in commands_in(document.read_text("utf-8")):
        if words[0] in COMMANDS and "--list-anatomies" not in words:
            args, rest = parser.parse_known_args(words)
            assert not rest or args.takes_rest, f"{words}: {rest}"


def test_commands_are_found():
    text = "```\ncervjax infer a \\\n  -o b  # c\npython train.py --config d\n```\n"
    found = [["infer", "a", "-o", "b"], ["train", "--config", "d"]]
    assert list(commands_in(text)) == found


def test_the_papers_people_stand_on_the_page_of_results():
    text = (ROOT / "docs" / "results.md").read_text("utf-8")
    for muscle in MUSCLES:
        row = re.search(rf"^\| {muscle.abbreviation} \|(.*)\|$", text, re.MULTILINE)
        assert row is not None
        cell = row[1].split("|")[muscle.side == "left"]
        assert float(cell.split()[0]) == MEAN_MFI_PERCENT[muscle.key]


def test_numbers_of_the_readme_are_those_of_the_pages():
    text = (ROOT / "README.md").read_text("utf-8")
    part = text.partition("## How good, how fast")[2].partition("\n## ")[0]
    cells = [line.split("|")[-2] for line in part.splitlines() if line.startswith("|")]
    numbers = {n for cell in cells for n in re.findall(r"\d[\d.-]*", cell)}
    pages = [
        (ROOT / f"docs/{n}.md").read_text("utf-8") for n in ("weights", "performance")
    ]
    assert numbers and all(any(n in page for page in pages) for n in numbers), numbers
