"""The notebook and the scripts run, on a neck of blocks that is quickly made."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from block_neck import SPACING_MM, block_neck, echoes
from conftest import save_nifti

from cervjax.anatomy import MUSCLES
from cervjax.inference import front
from cervjax.phantom import dataset

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
AFFINE = np.diag([*SPACING_MM, 1.0])


def write_blocks(folder, num_subjects, *, sessions=1, **settings):
    """In place of `write_dataset`: the same names, fatter at the second session."""
    rows = ["scan,label,mfi_image_percent,volume_ml"]
    for session in range(1, sessions + 1):
        inner, name = ("anat", "sub-0001")
        if sessions > 1:
            inner, name = f"ses-{session}/anat", f"sub-0001_ses-{session}"
        home, truth = (
            f / "sub-0001" / inner for f in (folder, folder / "derivatives/truth")
        )
        labels = block_neck()
        for role, image in zip(
            ("inphase", "outphase"), echoes(labels, 0.1 * session), strict=True
        ):
            save_nifti(home / f"{name}_{role}.nii.gz", image, AFFINE)
        save_nifti(truth / f"{name}_dseg.nii.gz", labels, AFFINE)
        rows += [f"{name},{m.label},{10 * session},10" for m in MUSCLES]
    (folder / "truth.csv").write_text("\n".join(rows) + "\n")


@pytest.fixture(autouse=True)
def quick(monkeypatch, random_weights):
    monkeypatch.setattr(dataset, "write_dataset", write_blocks)
    monkeypatch.setattr(front, "SHIPPED", random_weights)
    monkeypatch.setenv("MPLBACKEND", "Agg")


@pytest.mark.filterwarnings("default")
def test_the_notebook_runs(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.mkdtemp", lambda: str(tmp_path))
    notebook = json.loads((EXAMPLES / "two_sessions.ipynb").read_text("utf-8"))
    names: dict = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"], "numbers of an older version: clear the outputs"
            exec("".join(cell["source"]), names)
    assert names["change"].true.round(6).eq(10).all()
    assert (tmp_path / "results" / "sub-0001_ses-2_dseg.nii.gz").exists()


SCRIPTS = sorted({*EXAMPLES.glob("*.py")} - {EXAMPLES / "run_exported.py"})
"""The one that is left out has its test in inference/test_exported.py."""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
def test_the_script_runs(script, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", [str(script), str(tmp_path)])
    runpy.run_path(str(script), run_name="__main__")
    printed = capsys.readouterr().out
    if script.stem == "measure_masks":
        assert all(abs(mfi - 10) < 2 for mfi in column(printed, 2)), printed
    elif script.stem == "compare_readers":
        assert all(0.5 < dice < 1 for dice in column(printed, 2)), printed
    else:
        assert (tmp_path / "fat_map.png").stat().st_size > 10_000


def column(printed: str, index: int) -> list[float]:
    """Numbers of the lines of muscles."""
    names = {m.abbreviation for m in MUSCLES}
    lines = [line.split() for line in printed.splitlines()]
    found = [float(words[index]) for words in lines if words[:1] and words[0] in names]
    assert len(found) == len(MUSCLES)
    return found
