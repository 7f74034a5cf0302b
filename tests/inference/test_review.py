"""``report.html``: the right pictures on the right side, outliers, no network."""

import base64
import copy
import io
import json
import re

import numpy as np
import pytest
from conftest import save_pair
from PIL import Image

from cervjax.cli.main import main
from cervjax.inference.review import outliers_of, write_report
from cervjax.inference.scan_tables import with_rows
from cervjax.io.tables import read_rows


@pytest.fixture(scope="module")
def results(tmp_path_factory, two_blobs, threshold_weights):
    root = tmp_path_factory.mktemp("review")
    save_pair(root / "scans", two_blobs, "sub-1")
    save_pair(root / "scans", two_blobs, "sub-2")
    weights = ["--weights", str(threshold_weights)]
    main(["infer", str(root / "scans"), "-o", str(root / "out"), *weights, "--report"])
    return root / "out"


def data(page: str, name: str):
    found = re.search(rf'id="{name}">(.*?)</script>', page, re.DOTALL)
    return json.loads(found[1]) if found else None


def sheet(pictures: dict, kind: str) -> np.ndarray:
    """(slice, row, column)."""
    content = base64.b64decode(pictures[kind].partition(",")[2])
    whole = np.asarray(Image.open(io.BytesIO(content)))
    w, h, columns = (pictures[k] for k in ("width", "height", "columns"))
    rows = whole.reshape(-1, h, columns, w).swapaxes(1, 2)
    return rows.reshape(-1, h, w)[: len(pictures["slices"])]


def test_the_patients_right_is_on_the_left_and_front_is_up(results):
    """Label 9 (SCM right) lies at the right, front, top; 10 opposite."""
    page = (results / "report.html").read_text("utf-8")
    pictures = data(page, "pictures0")
    labels = sheet(pictures, "labels")
    assert set(np.unique(labels)) == {0, 9 * 16, 10 * 16}
    places = {m: np.argwhere(labels == 16 * m).mean(0) for m in (9, 10)}
    z, row, column = zip(places[9], places[10], strict=True)
    assert column[0] < column[1] and row[0] < row[1] and z[0] > z[1]
    fat = sheet(pictures, "fraction")
    assert abs(np.median(fat[labels == 9 * 16]) - (1 + 2.5 * 5)) <= 1
    assert abs(np.median(fat[labels == 10 * 16]) - (1 + 2.5 * 40)) <= 1
    assert not fat[labels == 0].any()
    assert sheet(pictures, "water").shape == labels.shape


def test_numbers_are_those_of_the_table(results):
    page = (results / "report.html").read_text("utf-8")
    about = data(page, "about")
    rows, slices = (
        [r for _, r in read_rows(results / name) if r["scan"] == "sub-1"]
        for name in ("measurements.csv", "measurements_slices.csv")
    )
    (row,) = (r for r in rows if r["label"] == "9")
    shown = about["scans"][0]["muscles"]["9"]
    assert shown["mfi_percent"] == float(row["mfi_percent"])
    assert [s["name"] for s in about["scans"]] == ["sub-1", "sub-2"]
    assert [p[0] for p in about["scans"][0]["profile"]["9"]] == [
        int(s["slice"]) for s in slices if s["label"] == "9" and s["mfi_percent"]
    ]


def test_the_page_needs_no_network(results):
    page = (results / "report.html").read_text("utf-8")
    assert not re.findall(r"https?://", page)
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)


def test_scans_whose_images_are_gone_or_changed_have_no_pictures(results, tmp_path):
    for path in results.glob("*_dseg.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    sidecar = tmp_path / "sub-2_dseg.json"
    content = json.loads(sidecar.read_text("utf-8"))
    content["Sources"]["in_phase"] = "gone_</script>.nii.gz"
    sidecar.write_text(json.dumps(content), "utf-8")
    content = json.loads((tmp_path / "sub-1_dseg.json").read_text("utf-8"))
    content["Identity"]["inputs_sha256"]["in_phase"] = "0"
    (tmp_path / "sub-1_dseg.json").write_text(json.dumps(content), "utf-8")
    count, without = write_report(tmp_path)
    assert count == 2
    assert "has changed" in without[0] and "no longer there" in without[1]
    assert data((tmp_path / "report.html").read_text("utf-8"), "pictures0") is None


def test_given_masks_have_pictures_too(results, tmp_path):
    line = ["measure", str(results.parent / "scans"), str(results), "-o", str(tmp_path)]
    assert main(line) in (0, 1)
    assert write_report(tmp_path) == (2, [])


def test_text_cannot_end_the_data(results, tmp_path):
    content = json.loads((results / "sub-1_dseg.json").read_text("utf-8"))
    content["Warnings"] = ["</script><b>"]
    (tmp_path / "sub-1_dseg.json").write_text(json.dumps(content), "utf-8")
    write_report(tmp_path)
    about = data((tmp_path / "report.html").read_text("utf-8"), "about")
    assert about["scans"][0]["warnings"] == ["</script><b>"]


def test_a_folder_without_results(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "holds no results" in capsys.readouterr().err


def test_outliers_are_far_from_the_median(results):
    one = json.loads((results / "sub-1_dseg.json").read_text("utf-8"))
    one = with_rows(results, one)
    found = []
    for i in range(12):
        content = copy.deepcopy(one)
        content["Scan"] = f"s{i}"
        for row in content["Measurements"]:
            if row["label"] == 9:
                row["mfi_percent"] = 60.0 if i == 7 else 10 + 0.1 * (i % 5)
        found.append(content)
    told = outliers_of(found)
    assert told == {"s7": ["SCM_R MFI high"]}
    assert not outliers_of(found[5:9])
