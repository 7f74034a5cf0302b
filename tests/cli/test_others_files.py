"""Commands with an output folder leave files there that cervjax has not written.

Whatever has the name of a file to be written is refused by name, and keeps its bytes.
"""

import shutil

import nibabel as nib
import numpy as np
import pytest
from conftest import save_nifti, save_pair

from cervjax.cli.main import main
from cervjax.inference.measuring import GivenMasks, measure_scans
from cervjax.io.label_sets import read_label_set
from cervjax.io.pairing import find_scans

MINE = b"mine\n"


@pytest.fixture(scope="module")
def results(tmp_path_factory, two_blobs):
    """A scan in ``in``, its mask in ``masks``, and results without a network in out."""
    root = tmp_path_factory.mktemp("others")
    labels = np.zeros(two_blobs.in_phase.shape, np.uint8)
    labels[30:40, 20:30, 8:14] = 9
    save_pair(root / "in", two_blobs, "a")
    save_nifti(root / "masks" / "a_dseg.nii.gz", labels, two_blobs.affine)
    (root / "out").mkdir()
    how = GivenMasks(read_label_set("", root / "masks"))
    scans, _ = find_scans(root / "in")
    measure_scans([(scans[0], root / "masks" / "a_dseg.nii.gz")], [], how, root / "out")
    return root


@pytest.fixture
def folder(results, tmp_path):
    shutil.copytree(results, tmp_path / "copy")
    return tmp_path / "copy"


COMMANDS = {
    "measure": (
        "measure in masks -o out --maps",
        "measurements.csv a_qc.png a_fat.nii.gz",
    ),
    "tables": ("tables out", "measurements.csv measurements_slices.csv failures.csv"),
    "report": ("report out", "report.html"),
    "evaluate": ("evaluate out in -o tables", "scans.csv summary.json figure3_mfi.png"),
}


@pytest.mark.parametrize(
    ("command", "name"),
    [(c, n) for c, (_, names) in COMMANDS.items() for n in names.split()],
)
def test_a_file_in_the_way_is_named_and_kept(
    folder, command, name, monkeypatch, capsys, no_pictures
):
    monkeypatch.chdir(folder)
    argv = COMMANDS[command][0].split()
    out = folder / ("tables" if command == "evaluate" else "out")
    out.mkdir(exist_ok=True)
    if name == "a_qc.png":
        (out / "a_dseg.json").unlink()
        (out / "a_dseg.nii.gz").unlink()
    (out / name).write_bytes(MINE)
    assert main(argv) != 0
    assert name in capsys.readouterr().err
    assert (out / name).read_bytes() == MINE


def test_own_files_are_written_again(folder, monkeypatch, no_pictures):
    monkeypatch.chdir(folder)
    for argv in ("measure in masks -o out --maps", "tables out", "report out"):
        assert main(argv.split()) == main(argv.split()), argv
    mask = nib.load(folder / "out" / "a_dseg.nii.gz")
    assert np.asarray(mask.dataobj).any()
