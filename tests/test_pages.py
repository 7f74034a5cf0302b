"""The commands of every page run, one after the other, as they stand there.

Scans are necks of blocks, and in place of the network stands what it should find. Left
out are those that take long or need other files, see `LEFT_OUT`.
"""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from block_neck import SPACING_MM, block_neck, echoes
from conftest import save_nifti
from test_documents import DOCUMENTS, commands_in

from cervjax.anatomy import MUSCLES
from cervjax.cli.main import main
from cervjax.inference import ensemble
from cervjax.inference.types import Segmentation
from cervjax.model import weights

LEFT_OUT = {
    "train": "its tests train",
    "demo": "its test runs it",
    "phantom": "its tests make necks",
    "protocol": "its tests make necks",
    "debias": "needs weights of a training",
    "convert": "needs the published checkpoint",
    "figures": "its tests draw; eight scans take minutes",
}
PEOPLE = 8


def neck() -> np.ndarray:
    """A neck of blocks, no two muscles of one size."""
    labels = block_neck()
    labels[:, 40:43][labels[:, 40:43] > 12] = 0
    return labels


def write_scans(folder: Path) -> None:
    """Scans and all else that the pages name."""
    labels, rng = neck(), np.random.default_rng(0)
    people = ["participant_id\tsex\tage\tbmi"]
    for i in range(PEOPLE):
        name, age = f"sub-{i + 1:04d}", 20 + 3 * i
        size = rng.uniform(0.95, 1.05)
        affine = np.diag([*np.multiply(size, SPACING_MM), 1.0])
        fat = 0.08 + 0.001 * age + rng.normal(0, 0.01, len(MUSCLES) + 1)
        both = echoes(labels, fat[labels])
        for role, image in zip(("inphase", "outphase"), both, strict=True):
            save_nifti(folder / f"scans/{name}_{role}.nii.gz", image, affine)
        save_nifti(folder / f"masks/{name}_dseg.nii.gz", labels, affine)
        people.append(f"{name}\t{'FM'[i % 2]}\t{age}\t{22 + rng.normal(0, 2):.1f}")
    (folder / "participants.tsv").write_text("\n".join(people) + "\n")
    shutil.copytree(folder / "masks", folder / "reference")
    shutil.copytree(folder / "scans", folder / "nifti")
    shutil.copytree(folder / "scans", folder / "own")
    shutil.copytree(folder / "masks", folder / "own", dirs_exist_ok=True)
    images, drawn = folder / "imagesTr", folder / "labelsTr"
    for i, role in enumerate(("inphase", "outphase")):
        first = folder / f"scans/sub-0001_{role}.nii.gz"
        shutil.copyfile(first, folder / ("ip.nii.gz", "op.nii.gz")[i])
        images.mkdir(exist_ok=True)
        shutil.copyfile(first, images / f"neck_000{i}.nii.gz")
    drawn.mkdir()
    shutil.copyfile(folder / "masks/sub-0001_dseg.nii.gz", drawn / "neck.nii.gz")
    named = {"background": 0} | {m.key: m.label for m in MUSCLES}
    channels = {"0": "in-phase", "1": "out-of-phase"}
    content = {"channel_names": channels, "labels": named, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(content))
    values = [f"{m.label},{m.key}" for m in MUSCLES]
    reviews = [f"sub-{i:04d},pass" for i in (1, 2)]
    (folder / "review.csv").write_text("\n".join(["scan,review", *reviews]) + "\n")
    (folder / "labels.csv").write_text("\n".join(["value,name", *values]) + "\n")


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("desk")
    write_scans(folder)
    return folder


@pytest.fixture
def oracle(monkeypatch, no_pictures, threshold_weights):
    def found(prepared, shape, given, recipe, settings, *rest):
        return Segmentation(neck(), np.ones(shape, np.float32)), settings, []

    monkeypatch.setattr(ensemble, "segment_prepared", found)
    monkeypatch.setattr(weights, "SHIPPED", threshold_weights)


def is_run(words: list[str]) -> bool:
    """Whether a command can be run here."""
    line = " ".join(words)
    elsewhere = (
        "models/",
        "export/",
        "kept/",
        "--shard",
        "--cluster",
        "results/1",
        "$",
        "musclemap",
        "necks/",
        "mixture",
        "--print-completion",
    )
    return words[0] not in LEFT_OUT and not any(e in line for e in elsewhere)


WITH_COMMANDS = [
    page for page in DOCUMENTS if any(map(is_run, commands_in(page.read_text("utf-8"))))
]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda path: path.name)
def test_commands_of_the_page_run(page, desk, oracle, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in os.listdir(desk):
        (tmp_path / name).symlink_to(desk / name)
    commands = list(filter(is_run, commands_in(page.read_text("utf-8"))))
    for words in commands:
        if words[0] == "reference":
            shutil.copytree("out", "results")
        out = Path(words[words.index("-o") + 1]) if "-o" in words else None
        if out and out.is_dir():
            shutil.rmtree(out)
        status = main(words)
        assert status == 0, f"{words}: {status}\n{capsys.readouterr()}"
        assert out is None or out.exists()


def test_there_are_commands_on_the_pages():
    assert len(WITH_COMMANDS) > 7
    assert is_run(["infer", "scans/", "-o", "out/"])
    assert not is_run(["train", "--config", "dixon"])
