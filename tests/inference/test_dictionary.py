"""Every column of every table of results is described in measurements.json."""

import csv
import json

import pytest
from conftest import save_pair

from cervjax.cli.main import main
from cervjax.measurement.dictionary import COLUMNS, as_bids

pytestmark = pytest.mark.usefixtures("no_pictures")


TABLES = ("slices", "levels", "histogram", "mixture")


@pytest.fixture(scope="module")
def results(tmp_path_factory, two_blobs, threshold_weights):
    """All that the command writes, with every flag that adds columns."""
    folder = tmp_path_factory.mktemp("dictionary")
    (folder / "calibration.json").write_text('{"slopes": {}}')
    save_pair(folder / "in", two_blobs)
    flags = ["--weights", threshold_weights, "--histogram", "--calibration"]
    argv = [folder / "in", "-o", folder / "out", *flags, folder / "calibration.json"]
    main(["infer", *map(str, argv)])
    (folder / "levels.csv").write_text("level,first_slice,last_slice\nC5,2,9\n")
    argv = [folder / "in", folder / "out", "-o", folder / "out" / "measured"]
    main(["measure", *map(str, argv), "--levels", str(folder / "levels.csv")])
    files = folder / "in/sub-1_inphase.nii.gz", folder / "out/sub-1_dseg.nii.gz"
    argv = [*files, "-o", folder / "out" / "mixture"]
    main(["measure", *map(str, argv), "--method", "mixture3"])
    return folder / "out"


def columns(path):
    with open(path, newline="") as stream:
        return next(csv.reader(stream))


def test_every_column_has_an_entry_and_every_entry_a_column(results):
    described = json.loads((results / "measurements.json").read_text())
    paths = list(results.rglob("*.csv"))
    names = ("measurements", *(f"measurements_{x}" for x in TABLES), "failures")
    assert {f"{name}.csv" for name in names} <= {path.name for path in paths}
    found = {name for path in paths for name in columns(path)}
    assert found - described.keys() == set(), "add them to measurement/dictionary.py"
    assert described.keys() - found == set(), "no table has them any longer"


def test_numbers_have_units(results):
    for name, column in COLUMNS.items():
        assert column.description
        unit = {
            "percent": "%",
            "ml": "ml",
            "mm": "mm",
            "mm2": "mm^2",
            "points": "points of %",
        }
        ending = name.rpartition("_")[2]
        assert ending not in unit or column.units == unit[ending], name
    assert as_bids()["mfi_percent"]["Units"] == "%"
    assert set(as_bids()["verdict"]["Levels"]) == {"use", "look", "do_not_use"}
