"""What benchmarks say of themselves."""

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from measured import (  # pyright: ignore[reportMissingImports]
    Parser,
    Report,
    comparison,
    doubts,
    eighth,
    ratio,
    timing,
)


def row(what, seconds):
    return {"what": what, "shape": (8, 8, 8), **timing(seconds)}


def test_doubtful_times_are_called_so():
    assert doubts(0.1, [row("a", [1.0, 1.1, 1.2])]) == []
    assert "load 0.4" in doubts(0.4, [])[0]
    (wide,) = doubts(0.1, [row("a", [1.0, 1.0, 1.3]), row("b", [2.0])])
    assert wide.startswith("a:") and "30%" in wide


def test_a_ratio_is_that_of_pairs_and_has_a_range():
    """The machine slowed down between the pairs: only the pairs tell."""
    found = ratio([1.0, 2.0, 4.0], [2.0, 4.0, 10.0])
    assert found == {"ratio": 0.5, "ratio_range": [0.4, 0.5]}


def test_a_run_is_kept_and_compared(tmp_path, capsys):
    path = tmp_path / "a.json"
    report = Report(Parser("d").parse_args(["--json", str(path)]))
    report.add(row("network", [2.0]))
    report.end()
    (line,) = map(json.loads, path.read_text().splitlines())
    named = {"cpu", "vectors", "cores", "load_per_core", "commit", "date", "jax"}
    assert named <= line.keys() and line["seconds"] == 2
    report = Report(Parser("d").parse_args(["--against", str(path)]))
    report.add(row("network", [1.0]))
    report.end()
    assert "0.50" in capsys.readouterr().out


def test_only_the_same_thing_is_compared():
    here = [{"cpu": "x", "commit": "1", **row("a", [1.0])}]
    assert "nothing in common" in comparison(here, [row("b", [1.0])])
    other = {"cpu": "y", "commit": "2", **row("a", [1.0])}
    assert any("measured on y" in line for line in comparison(here, [other]))


@pytest.mark.parametrize(
    "arguments", [["--shape", "9"], ["--against", "no-such-file"], ["--nonsense"]]
)
def test_wrong_arguments_get_one_line(arguments, capsys):
    parser = Parser("d")
    parser.add_argument("--shape", type=eighth)
    with pytest.raises(SystemExit) as end:
        parser.parse_args(arguments)
    assert end.value.code == 2 and len(capsys.readouterr().err.splitlines()) == 1
