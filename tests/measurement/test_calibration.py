"""Calibration files: what is refused, and that raw values stay."""

import json
import math

import pytest

from cervjax.measurement.calibration import calibrated, read_calibration


def written(tmp_path, slopes):
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps({"slopes": slopes}))
    return path


def test_slopes_stand_beside_the_raw_values(tmp_path):
    path = written(tmp_path, {"SCM_R": {"mfi_percent": 0.8}})
    rows = [
        {"muscle": "SCM", "side": side, "mfi_percent": 10.0, "volume_ml": 3.0}
        for side in ("right", "left")
    ]
    right, left = calibrated(rows, read_calibration(path))
    assert right["mfi_calibrated_percent"] == pytest.approx(8)
    assert right["mfi_percent"] == 10
    assert math.isnan(right["volume_calibrated_ml"])
    assert math.isnan(left["mfi_calibrated_percent"])


@pytest.mark.parametrize(
    ("slopes", "reason"),
    [
        ({"SCM_L": {"mfi_percent": math.nan}}, "SCM_L, mfi_percent is nan"),
        ({"SCM_L": {"mfi_percent": math.inf}}, "no calibration but a failure"),
        ({"SCM_L": {"mfi_percent": -1}}, "no calibration but a failure"),
        ({"SCM_L": {"mfi_percent": 10**400}}, "no calibration but a failure"),
        ({"SCM": {"mfi_percent": 1}}, "SCM, mfi_percent is not known"),
        ({"SCM_L": {"water": 1}}, "SCM_L, water is not known"),
        ({"SCM_L": 1}, "not a calibration"),
    ],
)
def test_what_is_no_calibration_is_refused(tmp_path, slopes, reason):
    with pytest.raises(ValueError, match=reason):
        read_calibration(written(tmp_path, slopes))


def test_brackets_without_end_are_no_calibration(tmp_path):
    path = tmp_path / "calibration.json"
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match="not a calibration"):
        read_calibration(path)


def test_the_calibration_of_other_weights_is_refused(tmp_path):
    path = tmp_path / "calibration.json"
    path.write_text('{"slopes": {"SCM_L": {"mfi_percent": 1.5}}}')
    read_calibration(path).check_weights("b" * 64)  # it does not tell
    path.write_text('{"slopes": {}, "weights_sha256": "' + "a" * 64 + '"}')
    found = read_calibration(path)
    found.check_weights("a" * 64)
    for other in ("b" * 64, ""):
        with pytest.raises(ValueError, match="calibration of other weights"):
            found.check_weights(other)
