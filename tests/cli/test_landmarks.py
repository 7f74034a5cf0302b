import pytest
from conftest import save_pair

from cervjax.cli.main import main
from cervjax.preprocessing import histogram
from cervjax.preprocessing.histogram import CHANNELS, read_landmarks


def test_landmarks_are_learnt_and_readable(two_blobs, tmp_path, capsys):
    folder, target = save_pair(tmp_path / "scans", two_blobs), tmp_path / "new/l.txt"
    assert main(["landmarks", str(folder), "-o", str(target)]) == 0
    assert read_landmarks(target).keys() == set(CHANNELS)
    assert "landmarks of 1 scan(s)" in capsys.readouterr().out


@pytest.mark.parametrize("there", ["file", "folder", "file above"])
def test_the_target_is_looked_at_before_the_work(
    two_blobs, tmp_path, capsys, monkeypatch, there
):
    folder, target = save_pair(tmp_path / "scans", two_blobs), tmp_path / "a" / "b.txt"
    if there == "folder":
        target.mkdir(parents=True)
    elif there == "file":
        target.parent.mkdir()
        target.write_text("precious")
    else:
        target.parent.write_text("precious")
    monkeypatch.setattr(histogram, "train_landmarks", lambda *_, **__: pytest.fail())
    assert main(["landmarks", str(folder), "-o", str(target)]) == 2
    assert str(target.parent) in capsys.readouterr().err
    if there == "file":
        assert target.read_text() == "precious"


def test_landmarks_are_overwritten_on_request(two_blobs, tmp_path):
    folder, target = save_pair(tmp_path / "scans", two_blobs), tmp_path / "b.txt"
    target.write_text("old")
    flags = ["landmarks", str(folder), "-o", str(target), "--overwrite"]
    assert main(flags) == 0
    read_landmarks(target)
