"""A folder of results: what may stand in one table, and what is done again.

The network is a stand-in that draws one block.
"""

import csv
import json
import re
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from conftest import save_nifti, save_pair
from jaxtyping import TypeCheckError

import cervjax
from cervjax.cli.main import main
from cervjax.inference import ensemble, pipeline, results
from cervjax.inference.method import Method
from cervjax.inference.stages import STAGES
from cervjax.inference.types import Segmentation
from cervjax.io.pairing import find_scans
from cervjax.model.weights import load_weights

pytestmark = pytest.mark.usefixtures("no_pictures")


def table(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def run(tmp_path, two_blobs, threshold_weights, monkeypatch):
    """Segments the scans of ``tmp_path / "in"`` into ``tmp_path / "out"``."""
    executed = {}

    def draw(
        prepared, shape, weights, recipe, settings, on_compile, on_compiled, *rest
    ):
        on_compiled()
        labels = np.zeros(shape, np.uint8)
        labels[30:40, 20:30, 8:14] = 9
        confidence = np.ones(shape, np.float32)
        return Segmentation(labels, confidence), replace(settings, **executed), []

    monkeypatch.setattr(ensemble, "prepare_images", lambda *args: None)
    monkeypatch.setattr(ensemble, "segment_prepared", draw)
    for name in ("a", "b"):
        save_pair(tmp_path / "in", two_blobs, name)
    (tmp_path / "out").mkdir()
    weights = load_weights(threshold_weights)

    def run(sha256="1" * 64, only="", overwrite=False, short=None, **settings):
        executed.update(short or {})
        lines = []
        method = Method.of_weights(weights._replace(sha256=sha256), **settings)
        scans, problems = find_scans(tmp_path / "in")
        failures = pipeline.segment_scans(
            [scan for scan in scans if scan.name in (only or "ab")],
            problems,
            method,
            tmp_path / "out",
            overwrite=overwrite,
            listener=pipeline.Listener(lines.append, lambda failure: None),
        )
        executed.clear()
        return failures, lines

    return run


def measured_scans(out):
    names = [{r["scan"] for r in table(out / f)} for f in TABLES]
    assert names[0] == names[1]
    return names[0]


TABLES = (results.MEASUREMENTS, results.SLICES)


def test_other_weights_settings_or_versions_never_join_a_table(run, tmp_path):
    out = tmp_path / "out"
    run(only="a")
    with pytest.raises(results.ResultError, match=r"other weights \(a\)"):
        run(sha256="2" * 64, only="b")
    with pytest.raises(results.ResultError, match=r"other settings \(tta\)"):
        run(tta=4, only="b")
    with pytest.raises(results.ResultError, match=r"other weights \(a\)"):
        run(sha256="2" * 64, only="b", overwrite=True)  # a would stay
    assert measured_scans(out) == {"a"}
    assert run(sha256="2" * 64, overwrite=True)[0] == []
    rows = table(out / results.MEASUREMENTS)
    assert {r["weights_sha256"] for r in rows} == {"2" * 12} and len(rows) == 28
    assert {r["cervjax_version"] for r in rows} == {cervjax.__version__}


def test_another_version_never_joins_a_table(run, tmp_path, monkeypatch):
    run(only="a")
    monkeypatch.setattr(
        results, "check_folder", lambda *a, **k: None
    )  # the tables by themselves
    identity = Method.identity
    monkeypatch.setattr(
        Method,
        "identity",
        lambda self, files: replace(identity(self, files), cervjax_version="99"),
    )
    run(only="b")
    assert measured_scans(tmp_path / "out") == {"b"}


def test_another_version_is_refused(run, monkeypatch):
    run(only="a")
    identity = Method.identity
    monkeypatch.setattr(
        Method,
        "identity",
        lambda self, files: replace(identity(self, files), cervjax_version="99"),
    )
    with pytest.raises(results.ResultError, match="other versions of cervjax"):
        run(only="b")


def test_tables_hold_one_method_though_a_run_was_interrupted(
    run, tmp_path, monkeypatch
):
    """With --overwrite, b is never reached."""
    run()
    caught = pipeline.caught

    def stop_at_b(stage, full):
        def one(value):
            if getattr(value, "name", "") == "b":
                raise KeyboardInterrupt
            return caught(stage, full)(value)

        return one

    monkeypatch.setattr(pipeline, "caught", stop_at_b)
    with pytest.raises(KeyboardInterrupt):
        run(sha256="2" * 64, overwrite=True)
    assert "b" not in measured_scans(tmp_path / "out")
    assert (tmp_path / "out" / "b_dseg.json").is_file()


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_scan_that_fails_has_no_rows(run, tmp_path, two_blobs, overwrite):
    out = tmp_path / "out"
    run()
    before = (tmp_path / "in" / "a_inphase.nii.gz").read_bytes()
    save_nifti(
        tmp_path / "in" / "a_inphase.nii.gz", two_blobs.in_phase * 0, two_blobs.affine
    )
    assert [f.scan for f in run(overwrite=overwrite)[0]] == ["a"]
    assert [row["scan"] for row in table(out / results.FAILURES)] == ["a"]
    assert measured_scans(out) == {"b"}
    assert (out / "a_dseg.nii.gz").exists() == (not overwrite)
    run(only="b")  # the tables are written again
    assert measured_scans(out) == {"b"}
    (tmp_path / "in" / "a_inphase.nii.gz").write_bytes(before)
    assert run()[0] == []
    assert measured_scans(out) == {"a", "b"}


def test_a_fall_back_is_recorded_and_kept(run, tmp_path):
    run(short={"mode": "sliding_window"})
    rows = table(tmp_path / "out" / results.MEASUREMENTS)
    assert {row["mode"] for row in rows} == {"sliding_window"}
    sidecar = json.loads((tmp_path / "out" / "a_dseg.json").read_text())
    assert sidecar["Executed"]["mode"] == "sliding_window"
    assert sidecar["Identity"]["settings"]["mode"] == "whole"
    failures, lines = run()
    assert not failures
    assert all("memory was short: run as sliding_window" in line for line in lines)
    run(overwrite=True)
    rows = table(tmp_path / "out" / results.MEASUREMENTS)
    assert {row["mode"] for row in rows} == {"whole"}


def test_what_changes_no_whole_volume_is_not_its_identity(run):
    run()
    failures, lines = run(batch_size=3, window=(64, 64, 32), max_memory_gb=64.0)
    assert not failures and all("already done" in line for line in lines)


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"GeneratedBy": 1', "cut"])
def test_a_damaged_side_car_is_told_and_computed_anew(run, tmp_path, text):
    run()
    path = tmp_path / "out" / "a_dseg.json"
    whole = path.read_text()
    path.write_text(whole[:500] if text == "cut" else text)
    failures, lines = run()
    assert not failures
    assert any("a_dseg.json is damaged" in x and "computed anew" in x for x in lines)
    assert measured_scans(tmp_path / "out") == {"a", "b"}


def test_another_programs_side_car_is_left_alone(run, tmp_path):
    path = tmp_path / "out" / "a_dseg.json"
    path.write_text('{"Measurements": 3, "GeneratedBy": [{"Name": "other"}]}')
    (failure,), _ = run()
    assert "another program's" in failure.error and "Name" in path.read_text()
    assert measured_scans(tmp_path / "out") == {"b"}


@pytest.mark.parametrize("share", [0, 0.2, 0.5, 0.99])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_mask_cut_short_is_written_again(run, tmp_path, share, overwrite):
    """To the same bytes; it is the beginning of what is written, so nothing is lost."""
    run()
    mask = tmp_path / "out" / "a_dseg.nii.gz"
    content = mask.read_bytes()
    mask.write_bytes(content[: int(share * len(content))])
    failures, lines = run(overwrite=overwrite)
    assert not failures and any("a_dseg.nii.gz is cut short" in x for x in lines)
    assert mask.read_bytes() == content
    assert measured_scans(tmp_path / "out") == {"a", "b"}


def test_the_beginning_of_another_mask_is_not_replaced(run, tmp_path):
    run()
    mask = tmp_path / "out" / "a_dseg.nii.gz"
    image = nib.load(mask)
    edited = np.asarray(image.dataobj).copy()
    edited[:5] = 3
    nib.save(nib.Nifti1Image(edited, None, image.header), mask)
    mask.write_bytes(mask.read_bytes()[:-9])
    before = mask.read_bytes()
    (failure,), _ = run()
    assert "is not replaced" in failure.error and mask.read_bytes() == before


def test_a_damaged_picture_is_drawn_again(run, tmp_path):
    run()
    (tmp_path / "out" / "a_qc.png").write_bytes(b"half")
    failures, lines = run()
    assert not failures and any("a_qc.png is not what was" in x for x in lines)


@pytest.mark.parametrize("damage", ["missing", "cut", "others"])
def test_damaged_rows_are_measured_again_and_stand_in_no_table(run, tmp_path, damage):
    run()
    path, out = tmp_path / "out" / "a_tables.json.gz", tmp_path / "out"
    whole, before = path.read_bytes(), [(out / name).read_bytes() for name in TABLES]
    if damage == "missing":
        path.unlink()
    else:
        half = whole[: len(whole) // 2]
        other = (out / "b_tables.json.gz").read_bytes()
        path.write_bytes(half if damage == "cut" else other)
    run(only="b")
    assert measured_scans(out) == {"b"}
    _, lines = run()
    assert any("a_tables.json.gz" in x and "computed anew" in x for x in lines)
    assert path.read_bytes() == whole
    assert before == [(out / name).read_bytes() for name in TABLES]


def test_a_damaged_or_edited_mask_does_not_count_as_done(run, tmp_path):
    run()
    mask = tmp_path / "out" / "a_dseg.nii.gz"
    content = mask.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 16
    mask.write_bytes(flipped)
    (failure,), _ = run()
    assert "is not what was written" in failure.error
    mask.unlink()
    failures, lines = run()
    assert not failures and any("a_dseg.nii.gz is missing" in x for x in lines)
    assert mask.read_bytes() == content


def test_two_runs_into_one_folder_keep_each_others_failures(run, tmp_path):
    """Until these have a result, or are gone."""
    for name in "ab":
        (tmp_path / "in" / f"{name}_outphase.nii.gz").rename(tmp_path / f"{name}.gz")
        save_nifti(
            tmp_path / "in" / f"{name}_outphase.nii.gz", np.ones((3, 3, 3)), np.eye(4)
        )
    failed = tmp_path / "out" / "failures.csv"
    for name in "ab":
        run(only=name)
    assert [row["scan"] for row in table(failed)] == ["a", "b"]
    (tmp_path / "a.gz").rename(tmp_path / "in" / "a_outphase.nii.gz")
    run(only="a")
    assert [row["scan"] for row in table(failed)] == ["b"]
    for path in (tmp_path / "in").glob("b_*"):
        path.unlink()
    run(only="a")
    assert table(failed) == []


def test_tables_of_parts_are_those_of_the_whole(run, tmp_path, capsys):
    run()
    whole = {name: (tmp_path / "out" / name).read_bytes() for name in TABLES}
    for name in "ab":
        part = tmp_path / name
        part.mkdir()
        for path in (tmp_path / "out").glob(f"{name}_*"):
            path.rename(part / path.name)
        (tmp_path / "out" / results.MEASUREMENTS).unlink(missing_ok=True)
    parts = [str(tmp_path / name) for name in "ba"]
    assert main(["tables", *parts]) == 2 and "-o OUT" in capsys.readouterr().err
    assert main(["tables", *parts, "-o", str(tmp_path / "joined")]) == 0
    for name, content in whole.items():
        assert (tmp_path / "joined" / name).read_bytes() == content
    assert main(["tables", parts[0], parts[0], "-o", str(tmp_path / "x")]) == 2
    assert "in another folder, too" in capsys.readouterr().err
    path = tmp_path / "b" / "b_dseg.json"
    path.write_text(path.read_text().replace("1" * 64, "2" * 64))
    assert main(["tables", *parts, "-o", str(tmp_path / "x")]) == 2
    assert "other weights, settings or version" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["tables", str(tmp_path / "empty")]) == 2


@pytest.mark.parametrize("flag", ["--debug", "--quiet"])
def test_debug_shows_where_a_scan_failed(
    run, tmp_path, threshold_weights, monkeypatch, capsys, flag
):
    read = pipeline.read_scan

    def bad(scan, **how):
        if scan.name == "a":
            raise TypeError("internal")
        return read(scan, **how)

    monkeypatch.setattr(pipeline, "read_scan", bad)
    argv = [tmp_path / "in", "-o", tmp_path / "out", "--weights", threshold_weights]
    assert main(["infer", *map(str, argv), flag]) == 1
    printed = capsys.readouterr()
    assert "FAILED a: unexpected TypeError: internal" in printed.err
    assert ("in bad" in printed.err) == (flag == "--debug")
    assert (printed.out == "") == (flag == "--quiet")
    assert measured_scans(tmp_path / "out") == {"b"}  # the others go on


def test_lines_tell_seconds_and_time_left(run, tmp_path, threshold_weights, capsys):
    argv = [tmp_path / "in", "-o", tmp_path / "out", "--weights", threshold_weights]
    assert main(["infer", *map(str, argv), "--verbose"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (first,) = [line for line in lines if line.startswith("a: done in")]
    assert "1/2, about" in first and "left" in first
    for stage in STAGES:
        assert re.search(rf"{stage} \d+\.\d\d s", first)
    assert any("on cpu" in line for line in lines)


def test_segment_gives_the_commands_numbers(
    two_blobs, threshold_weights, tmp_path, monkeypatch
):
    """The real network: a folder by the command, the same scan from Python."""
    monkeypatch.undo()  # with pictures
    scans = save_pair(tmp_path / "in", two_blobs)
    by_command, by_python = tmp_path / "command", tmp_path / "python"
    weights = str(threshold_weights)
    assert main(["infer", str(scans), "-o", str(by_command), "--weights", weights]) == 0
    paths = [scans / f"sub-1_{phase}.nii.gz" for phase in ("inphase", "outphase")]
    result = cervjax.segment(*paths, weights=weights)
    result.save(by_python)
    for name in TABLES:
        assert (by_python / name).read_bytes() == (by_command / name).read_bytes()
    assert {p.name for p in by_python.iterdir()} == {
        p.name for p in by_command.iterdir()
    }
    mask = nib.load(by_command / "sub-1_dseg.nii.gz")
    np.testing.assert_array_equal(result.labels, np.asarray(mask.dataobj))
    np.testing.assert_array_equal(result.affine, mask.affine)
    images = [nib.load(path) for path in paths]
    again = cervjax.segment(*images, weights=weights)
    np.testing.assert_array_equal(again.labels, result.labels)
    table_of = cervjax.measure(result.labels, *paths, affine=result.affine)
    rows = table_of if isinstance(table_of, list) else table_of.to_dict("records")
    assert rows[8]["mfi_percent"] == pytest.approx(result.rows[8]["mfi_percent"])
    assert len(result.table) == 14
    inside = result.labels == 10
    assert np.nanmean(result.fat_fraction[inside]) == pytest.approx(40, abs=0.5)
    page = result._repr_html_()
    assert cervjax.NOTICE in page and "data:image/png" in page


def test_shapes_are_part_of_the_types(two_blobs):
    """Tests check them, see pyproject.toml; users are told by `read_nifti`."""
    flat, affine = two_blobs.in_phase[..., 0], two_blobs.affine
    with pytest.raises(TypeCheckError, match="parameter 'in_phase'"):
        cervjax.segment(flat, two_blobs.out_phase, affine=affine)
    with pytest.raises(TypeCheckError, match="parameter 'affine'"):
        cervjax.measure(*[two_blobs.in_phase] * 3, affine=affine[:3])


def test_what_segment_cannot_use_is_told(two_blobs, threshold_weights):
    pair = two_blobs.in_phase, two_blobs.out_phase
    with pytest.raises(ValueError, match="give affine="):
        cervjax.segment(*pair, weights=threshold_weights)
    with pytest.raises(ValueError, match="unknown setting passes"):
        cervjax.segment(
            *pair, affine=two_blobs.affine, weights=threshold_weights, passes=2
        )
