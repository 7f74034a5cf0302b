"""The demo on a scan by hand instead of digital necks, which take long to make."""

from conftest import save_pair

from cervjax.cli.main import main
from cervjax.model import weights
from cervjax.phantom import dataset

TRUTH = """\
scan,label,mfi_image_percent,volume_ml
sub-1,9,5.0,7.2
sub-1,10,40.0,
"""


def test_results_stand_beside_the_truth(
    two_blobs, threshold_weights, tmp_path, monkeypatch, capsys
):
    def write(folder, *args, **kwargs):
        save_pair(folder, two_blobs)
        (folder / "truth.csv").write_text(TRUTH)

    monkeypatch.setattr(dataset, "write_dataset", write)
    monkeypatch.setattr(weights, "SHIPPED", threshold_weights)
    folder = tmp_path / "new" / "demo"
    assert main(["demo", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    right, left = (next(x for x in lines if f"SCM_{s} " in x).split() for s in "RL")
    assert abs(float(right[2]) - 5) < 1 and right[3] == "5.0"
    assert abs(float(left[2]) - 40) < 1 and left[3] == "40.0" and left[5] == "-"
    assert 0 < float(right[4]) < float(right[5]) == 7.2
    assert f"Open {folder}/out/sub-1_qc.png" in lines[-1]
    assert (folder / "out" / "measurements.csv").exists()
