"""Tables of scans: what is written is read again, and bad rows are told by line."""

import csv

import pytest

from cervjax.cli.main import main
from cervjax.io.pairing import find_scans
from cervjax.io.scan_list import (
    ScanList,
    read_scan_list,
    write_participants,
    write_scan_list,
)
from cervjax.io.scans import PairingError, Scan
from cervjax.io.written import adopt


def make(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_what_was_found_is_read_again(tmp_path, ending):
    make(tmp_path / "in", "b_W.nii", "b_F.nii", "p1/a b_IN.nii", "p1/a b_OPP.nii.gz")
    make(tmp_path / "in", "c_IN.nii")
    scans, problems = find_scans(tmp_path / "in")
    path = tmp_path / "lists" / f"scans.{ending}"
    path.parent.mkdir()
    write_scan_list(path, scans, problems)
    listed = read_scan_list(path)
    resolved = [
        Scan(s.name, **{k: v.resolve() for k, v in s.files.items()})
        for s in listed.scans
    ]
    assert resolved == scans and len(scans) == 2
    (problem,) = listed.problems
    assert problem.scan == "c" and "c_IN.nii" in problem.message
    with pytest.raises(PairingError, match="there already"):
        write_scan_list(path, scans, problems)


HEADER = "name,in_phase,out_phase,water,fat\n"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("x,a.nii,,,", "line 3: got in-phase"),
        ("x,a.nii,none.nii,,", "line 3: out-of-phase"),
        ("x,a.nii,a.txt,,", "not NIfTI"),
        (",a.nii,b.nii,,", "line 3: no name"),
        ("x,,,,", "line 3: no files"),
        ("ok,a.nii,b.nii,,", "another row is named ok"),
        ("OK,a.nii,b.nii,,", "another row is named OK"),
    ],
)
def test_a_bad_row_does_not_stop_the_others(tmp_path, row, words):
    make(tmp_path, "a.nii", "b.nii", "a.txt")
    path = tmp_path / "scans.csv"
    path.write_text(f"{HEADER}ok,a.nii,b.nii,,\n{row}\ngood,,,a.nii,b.nii\n")
    listed = read_scan_list(path)
    assert any(words in problem.message for problem in listed.problems)
    assert "good" in [scan.name for scan in listed.scans]
    assert all(str(path) in problem.message for problem in listed.problems)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("in_phase,out_phase\na,b\n", "lacks the column name"),
        (HEADER, "no rows"),
        (HEADER + "a,b\n", "line 2: 2 cells"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path, text, words):
    path = tmp_path / "scans.csv"
    path.write_text(text)
    with pytest.raises(PairingError, match=words):
        read_scan_list(path)
    with pytest.raises(PairingError, match=r"none\.csv"):
        read_scan_list(tmp_path / "none.csv")


def test_names_cannot_leave_the_folder_of_results(tmp_path):
    make(tmp_path, "a.nii", "b.nii")
    path = tmp_path / "scans.csv"
    path.write_text(f"{HEADER}../../evil,a.nii,b.nii,,\n=cmd(),a.nii,b.nii,,\n")
    assert [scan.name for scan in read_scan_list(path).scans] == ["evil", "cmd"]


def test_other_columns_are_carried_through(tmp_path):
    make(tmp_path, "a.nii", "b.nii")
    path, target = tmp_path / "scans.csv", tmp_path / "participants.tsv"
    path.write_text(
        "name,in_phase,out_phase,Age,sex\ns1,a.nii,b.nii,40,F\ns2,a.nii,b.nii,,M\n"
    )
    target.write_text("participant_id\tsex\tbmi\ns1\tM\t20\ns0\tF\t25\n")
    with pytest.raises(ValueError, match="participants.tsv is there"):
        write_participants(target, read_scan_list(path))
    adopt(tmp_path, [target.name])  # as if an earlier run had written it
    write_participants(target, read_scan_list(path))
    with target.open() as stream:
        rows = {r["participant_id"]: r for r in csv.DictReader(stream, delimiter="\t")}
    assert rows["s1"] == {"participant_id": "s1", "sex": "F", "bmi": "20", "Age": "40"}
    assert rows["s2"]["Age"] == "n/a" and rows["s2"]["bmi"] == "n/a"
    assert rows["s0"]["bmi"] == "25" and rows["s0"]["Age"] == "n/a"
    before = target.read_bytes()
    write_participants(target, ScanList([], [], [], {}))
    assert target.read_bytes() == before


def test_the_command_writes_and_reads_it(tmp_path, capsys):
    make(tmp_path, "in/a_IN.nii", "in/a_OPP.nii", "in/x_13.nii", "in/y_12.nii")
    path = tmp_path / "scans.csv"
    assert main(["infer", str(tmp_path / "in"), "--dry-run", "--csv", str(path)]) == 0
    text = path.read_text() + "b,in/x_13.nii,in/y_12.nii,,,\n"
    path.write_text(text)
    assert main(["infer", "--list", str(path), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "2 scan(s), 0 problem(s)" in out and "x_13.nii" in out
    both = ["infer", str(tmp_path), "--list", str(path), "--dry-run"]
    assert main(both) == 2
    assert "one only" in capsys.readouterr().err
    assert main(["infer", str(tmp_path), "--csv", str(path), "-o", "out"]) == 2


def test_a_path_too_long_for_the_system_is_a_problem(tmp_path):
    path = tmp_path / "scans.csv"
    path.write_text(f"name,in_phase,out_phase\na,{'x' * 5000},y.nii\n")
    (problem,) = read_scan_list(path).problems
    assert "line 2" in problem.message
