"""Tables as text: what is written is read again, and what is wrong is told by line."""

import numpy as np
import pytest

from cervjax.io.tables import as_text, read_rows, write_rows


def test_cells(tmp_path):
    rows = [
        {"scan": "a,b", "n": 3, "mfi": 1 / 3, "there": True},
        {"scan": "", "n": None, "mfi": np.float64("nan"), "later": np.inf},
    ]
    write_rows(tmp_path / "t.csv", rows)
    assert (tmp_path / "t.csv").read_bytes() == (
        b'scan,n,mfi,there,later\n"a,b",3,0.333333,True,\n,,,,inf\n'
    )
    cells = dict(zip("abc", (1 / 3, 12345678.9, 0.1), strict=True))
    assert as_text([cells], "abc", "\t", 9) == "0.333333333\t12345678.9\t0.1\n"
    assert as_text([cells], "abc", digits=None) == f"{1 / 3!r},12345678.9,0.1\n"


def test_tables_without_rows(tmp_path):
    for columns, text in (["a", "b"], "a,b\n"), (None, "scan\n"):
        write_rows(tmp_path / "t.csv", [], columns)
        assert (tmp_path / "t.csv").read_text() == text
        assert read_rows(tmp_path / "t.csv") == []


def test_lines_and_names(tmp_path):
    """Lines are those of the file; case and blanks around cells do not matter."""
    path = tmp_path / "t.tsv"
    path.write_bytes(b"\xef\xbb\xbfAge\t Sex \tOther\n\n 31 \tF\tx\n\t\t\n32\tM\t\n")
    rows = read_rows(path, required=["age"], optional=["SEX", "bmi"], delimiter="\t")
    assert rows == [
        (3, {"age": "31", "SEX": "F", "Other": "x"}),
        (5, {"age": "32", "SEX": "M", "Other": ""}),
    ]


@pytest.mark.parametrize(
    "content, message",
    [
        (b"a,b\n1,2\n", "t.csv lacks the column c; it has a, b"),
        (b"", "lacks the column c; it has nothing"),
        (b"a,c,C\n", "t.csv has the column c twice"),
        (b"a,c\n1,2\n\n1,2,3\n", "t.csv, line 4: 3 cells, but the header has 2"),
        (b"a,c\xff\n", "t.csv is not UTF-8"),
    ],
)
def test_bad_tables(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_rows(tmp_path / "t.csv", required=["c"])


def test_a_cut_row_is_left_out(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("step,dice\n1,0.5\n2")
    with pytest.raises(ValueError, match="line 3: 1 cells"):
        read_rows(path)
    assert read_rows(path, may_be_cut=True) == [(2, {"step": "1", "dice": "0.5"})]


FORMULAS = ["=1+1", "@SUM(A1)", "-2+3", "+cmd|' /C calc'!A0", "=", "-a"]


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_cells_that_a_spreadsheet_would_run_are_kept_from_it(tmp_path, delimiter):
    """And are read again as they were."""
    rows = [{"scan": text, "n": -2.5, "m": "-3e-05"} for text in FORMULAS]
    write_rows(tmp_path / "t.csv", rows, delimiter=delimiter)
    text = (tmp_path / "t.csv").read_text()
    for line in text.splitlines()[1:]:
        assert line.lstrip('"').startswith("'") and line.endswith("-3e-05")
        assert f"{delimiter}-2.5{delimiter}" in line
    found = [row for _, row in read_rows(tmp_path / "t.csv", delimiter=delimiter)]
    assert [row["scan"] for row in found] == FORMULAS


def test_names_of_columns_are_no_formulas_either(tmp_path):
    write_rows(tmp_path / "t.csv", [{"=A1": 1}])
    assert (tmp_path / "t.csv").read_text() == "'=A1\n1\n"


@pytest.mark.parametrize("columns", [10_001, 1_000_000])
def test_a_very_wide_table_is_refused_at_once(tmp_path, columns):
    (tmp_path / "t.csv").write_text(",".join(map(str, range(columns))) + "\n")
    with pytest.raises(ValueError, match=f"t.csv has {columns} columns, more than"):
        read_rows(tmp_path / "t.csv")


def test_a_giant_cell_is_refused_by_name(tmp_path):
    (tmp_path / "t.csv").write_text("a\n" + "x" * 200_000 + "\n")
    with pytest.raises(ValueError, match=r"t\.csv is no table"):
        read_rows(tmp_path / "t.csv")
