"""Whose outlines the necks of a folder have, and where it is written."""

import csv
import hashlib
import json
from dataclasses import replace

import pytest
from outlines import cut, save

from cervjax.cli.main import main
from cervjax.phantom import dataset
from cervjax.phantom.anatomy_file import AnatomyError
from cervjax.phantom.atlas import anatomy_names, load_anatomy
from cervjax.phantom.dataset import anatomy_of, write_dataset
from cervjax.phantom.protocol import TIERS

pytestmark = pytest.mark.xdist_group("phantom")
SEED = 2


@pytest.fixture(scope="module", autouse=True)
def quick(neck):
    """Large voxels, and one body for all, under the name of the person drawn."""

    def build(subject, anatomy):
        named = replace(neck.anatomy, name=anatomy.name)
        return neck._replace(subject=subject, anatomy=named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "build_neck", build)
        tier = TIERS["clean"]._replace(spacing_mm=(3, 3, 6, 6))
        patch.setitem(TIERS, "clean", tier)
        yield


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    """A file of outlines."""
    return save(tmp_path_factory.mktemp("files") / "mine.json", cut(-8, 40))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory, person):
    """Three subjects of a file and a packaged person."""
    folder = tmp_path_factory.mktemp("mixed") / "data"
    write(folder, 3, anatomies=[str(person), "standard"])
    return folder


def write(folder, count=1, **changed):
    write_dataset(folder, count, **({"severity": "clean", "seed": SEED} | changed))


def hashes(folder):
    return {
        p.relative_to(folder): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.is_file()
    }


def described(folder):
    return json.loads((folder / "dataset_description.json").read_text())["Anatomies"]


def table(folder):
    with open(folder / "participants.tsv", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


@pytest.mark.slow
def test_all_packaged_people_unless_told_otherwise(tmp_path):
    write(tmp_path / "a", 4)
    assert described(tmp_path / "a") == [{"Name": n} for n in anatomy_names()]
    found = [row["anatomy"] for row in table(tmp_path / "a")]
    assert found == [anatomy_of(SEED, i).name for i in range(4)]
    assert len(set(found)) > 1


@pytest.mark.slow
def test_description_names_files_by_content(mixed, person):
    digest = hashlib.sha256(person.read_bytes()).hexdigest()
    assert described(mixed) == [
        {"Name": "mine.json", "SHA256": digest},
        {"Name": "standard"},
    ]


@pytest.mark.slow
def test_records_and_table_name_the_person(mixed, person):
    sources = (str(person), "standard")
    rows = table(mixed)
    for i, row in enumerate(rows):
        name = anatomy_of(SEED, i, sources).name
        assert row["anatomy"] == name
        place = mixed / "derivatives" / "truth" / f"sub-{i + 1:04d}" / "anat"
        (record,) = place.glob("*_desc-truth.json")
        assert json.loads(record.read_text())["subject"]["anatomy"] == name
    digest = hashlib.sha256(person.read_bytes()).hexdigest()[:12]
    assert any(f"mine.json@{digest}" in row["anatomy"] for row in rows)


@pytest.mark.slow
def test_neither_order_nor_folder_of_the_file_changes_a_byte(mixed, person, tmp_path):
    copy = tmp_path / "mine.json"
    copy.write_bytes(person.read_bytes())
    write(tmp_path / "out", 3, anatomies=["standard", str(copy), "standard"])
    assert hashes(tmp_path / "out") == hashes(mixed)


@pytest.mark.slow
@pytest.mark.parametrize("changed", [[], ["standard"], ["man_41", "standard"]], ids=str)
def test_a_folder_of_other_people_is_refused(mixed, changed):
    before = hashes(mixed)
    with pytest.raises(
        ValueError, match="dataset_description.json was written by other"
    ):
        write(mixed, anatomies=changed)
    assert hashes(mixed) == before


@pytest.mark.slow
def test_a_folder_of_another_version_of_the_file_is_refused(mixed, tmp_path):
    other = save(tmp_path / "mine.json", cut(-8, 40, ("airway",)))
    with pytest.raises(ValueError, match="was written by other settings"):
        write(mixed, anatomies=[str(other), "standard"])


def test_what_cannot_be_used_is_refused_before_anything_is_written(tmp_path):
    bad = save(tmp_path / "bad.json", {"units": "cm"})
    for wrong in ("nobody", str(bad)):
        with pytest.raises(AnatomyError, match=wrong):
            write(tmp_path / "out", anatomies=["standard", wrong])
    assert not (tmp_path / "out").exists()


# --- command line


def command(folder, *more):
    flags = f"phantom -o {folder} --severity clean --seed {SEED} --workers 1".split()
    return main([*flags, *map(str, more)])


@pytest.mark.slow
def test_command_line_takes_names_and_files(mixed, person, tmp_path, capsys):
    assert (
        command(tmp_path / "a", "--subjects", 3, "--anatomy", f"{person},standard") == 0
    )
    assert hashes(tmp_path / "a") == hashes(mixed)
    more = ("--anatomy", "standard", "--anatomy", person)
    assert command(tmp_path / "b", "--subjects", 3, *more) == 0
    assert hashes(tmp_path / "b") == hashes(mixed)


@pytest.mark.parametrize("wrong", ["nobody", "{folder}/bad.json.gz", "standard,nobody"])
def test_command_line_on_a_bad_anatomy(wrong, tmp_path, capsys):
    (tmp_path / "bad.json.gz").write_bytes(b"\x1f\x8b no outlines")
    wrong = wrong.format(folder=tmp_path)
    assert command(tmp_path / "out", "--anatomy", wrong) == 2
    error = capsys.readouterr().err
    assert error.startswith("cervjax: error: ") and error.count("\n") == 1
    assert wrong.split(",")[-1] in error
    assert not (tmp_path / "out").exists()


def test_command_line_without_a_name(capsys):
    with pytest.raises(SystemExit) as caught:
        command("x", "--anatomy", " , ")
    assert caught.value.code == 2
    assert "expected a name or a file" in capsys.readouterr().err


def test_a_file_with_a_comma_in_its_name(tmp_path):
    path = save(tmp_path / "a,b.json", cut(-8, 40))
    assert command(tmp_path / "out", "--anatomy", path) == 0
    assert described(tmp_path / "out")[0]["Name"] == "a,b.json"


def test_the_people_are_listed(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["phantom", "--list-anatomies"])
    assert caught.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    heads = [line for line in lines if not line.startswith(" ")]
    assert heads == [f"{n}: {load_anatomy(n).who}" for n in anatomy_names()]
    text = "\n".join(lines)
    assert text.count("  traced: ") == 4 and "filled from the standard: below" in text
