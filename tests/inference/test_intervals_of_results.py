"""Intervals in the tables: of a network, of tables beside weights, of given masks."""

import csv
import json
import shutil

import pytest
from conftest import save_pair

import cervjax
from cervjax.cli.main import main
from cervjax.inference.method import Method
from cervjax.measurement.interval_table import Intervals, table_beside, write_intervals
from cervjax.model.weights import SHIPPED, load_weights

pytestmark = pytest.mark.usefixtures("no_pictures")

FACTORS = {"SCM": {"mfi": (-2.0, 3.0), "volume": (-1.0, 1.0)}}


def run(*arguments) -> int:
    return main([*map(str, arguments)])


def table(path) -> dict[int, dict[str, str]]:
    with open(path, newline="") as stream:
        return {int(row["label"]): row for row in csv.DictReader(stream)}


@pytest.fixture
def weights(tmp_path, threshold_weights):
    """Weights with a folder of their own, where a table may lie beside them."""
    path = tmp_path / "own" / "w.safetensors"
    path.parent.mkdir()
    shutil.copyfile(threshold_weights, path)
    return path


def save_table(path, weights, **settings):
    method = Method.of_weights(load_weights(weights), **settings)
    known = method.identity({})
    content = Intervals(FACTORS, known.weights_sha256, known.settings, "3 scans")
    write_intervals(path, content)
    return path


def test_the_table_beside_the_weights_is_used(tmp_path, two_blobs, weights, capsys):
    scans, out = save_pair(tmp_path / "in", two_blobs), tmp_path / "out"
    assert run("infer", scans, "-o", out, "--weights", weights) == 0
    assert "intervals: not calibrated" in capsys.readouterr().out
    before = table(out / "measurements.csv")
    assert before[9]["interval_basis"] == "uncalibrated"
    assert before[1]["interval_basis"] == before[1]["mfi_low_percent"] == ""
    mine = save_table(weights.with_name("w.intervals.json"), weights)
    assert run("infer", scans, "-o", out, "--weights", weights) == 2
    assert "settings (intervals_sha256)" in capsys.readouterr().err
    assert run("infer", scans, "-o", out, "--weights", weights, "--overwrite") == 0
    assert "95 %, calibrated on 3 scans" in capsys.readouterr().out
    after = table(out / "measurements.csv")[9]
    assert after["interval_basis"] == "calibrated"
    spread, mfi = float(after["mfi_spread_points"]), float(after["mfi_percent"])
    assert float(after["mfi_low_percent"]) == pytest.approx(mfi - 2 * spread, abs=1e-3)
    assert float(after["mfi_high_percent"]) == pytest.approx(mfi + 3 * spread, abs=1e-3)
    same = ("mfi_percent", "volume_ml", "mfi_spread_points", "verdict")
    assert all(after[name] == before[9][name] for name in same)
    pair = two_blobs.in_phase, two_blobs.out_phase
    result = cervjax.segment(*pair, affine=two_blobs.affine, weights=weights)
    assert result.rows[8]["interval_basis"] == "calibrated"
    assert run("infer", scans, "-o", tmp_path / "2", "--weights", weights, "--tta", 2)
    assert "intervals: not calibrated" in capsys.readouterr().out
    flags = ("--weights", weights, "--tta", 2, "--intervals", mine)
    assert run("infer", scans, "-o", tmp_path / "3", *flags) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{mine}: intervals of other settings" in said


def test_given_and_edited_masks_have_the_outlines_range(tmp_path, two_blobs, weights):
    scans, out = save_pair(tmp_path / "in", two_blobs), tmp_path / "out"
    save_table(weights.with_name("w.intervals.json"), weights)
    assert run("infer", scans, "-o", out, "--weights", weights) == 0
    assert run("measure", scans, out, "-o", tmp_path / "given") == 0
    for label in (9, 10):
        row = table(tmp_path / "given" / "measurements.csv")[label]
        assert row["interval_basis"] == "outline"
        names = ("mfi_percent", "mfi_outline_in_percent", "mfi_outline_out_percent")
        ends = [float(row[name]) for name in names]
        assert float(row["mfi_low_percent"]) == min(ends)
        assert float(row["mfi_high_percent"]) == max(ends)
        assert row["volume_low_ml"] == row["volume_outline_in_ml"]
        assert row["volume_high_ml"] == row["volume_outline_out_ml"]


def test_intervals_are_learnt_from_results_and_references(
    tmp_path, two_blobs, weights, capsys
):
    scans, out = tmp_path / "in", tmp_path / "out"
    for name in ("a", "b", "c"):
        save_pair(scans, two_blobs, name)
    assert run("infer", scans, "-o", out, "--weights", weights) == 0
    truth = tmp_path / "truth"
    shutil.copytree(scans, truth)
    for name in ("a", "b", "c"):
        file = f"{name}_dseg.nii.gz"
        shutil.copyfile(out / file, truth / file)
    learnt = weights.with_name("w.intervals.json")
    assert run("intervals", out, truth, "-o", learnt) == 0
    assert "3 labelled scans of truth, 6 muscles" in capsys.readouterr().out
    content = json.loads(learnt.read_text())
    assert content["weights_sha256"] == load_weights(weights).sha256
    assert content["factors"] == {"SCM": {"mfi": [0, 0], "volume": [0, 0]}}  # no errors
    assert run("intervals", out, truth, "-o", learnt) == 2
    assert "--overwrite" in capsys.readouterr().err
    given = tmp_path / "given"
    assert run("measure", scans, out, "-o", given) == 0
    (given / "a_dseg.json").unlink()
    assert run("intervals", given, truth, "-o", tmp_path / "no.json") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "not a mask that 'cervjax infer' has drawn" in said


def test_the_packages_table_is_of_the_packages_weights():
    """Else: cervjax phantom, infer, intervals, as docs/intervals.md has them."""
    known = table_beside(SHIPPED)
    method = Method.of_weights(load_weights(SHIPPED))
    assert known is not None
    assert method.with_intervals(known, wanted=True).intervals == known
