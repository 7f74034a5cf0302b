"""Are two images the echoes of one scan, on one scale?"""

import json
import re

import numpy as np
import pytest
from block_neck import SPACING_MM, block_neck, echoes
from conftest import save_nifti

from cervjax.io.dixon import read_scan
from cervjax.io.echo_checks import check_pair, check_scales
from cervjax.io.scans import Scan

IN_PHASE, OUT_PHASE = echoes(block_neck())
FAT, WATER = np.abs(IN_PHASE - OUT_PHASE) / 2, (IN_PHASE + OUT_PHASE) / 2


def test_a_sound_pair_has_no_fault():
    assert check_pair(IN_PHASE, OUT_PHASE) == []


@pytest.mark.parametrize(
    ("pair", "severity", "reason"),
    [
        ((IN_PHASE, IN_PHASE), "do_not_use", "identical"),
        ((OUT_PHASE, IN_PHASE), "do_not_use", "exchanged"),
        ((IN_PHASE, 0.7 * IN_PHASE), "do_not_use", "times 0.70 everywhere"),
        ((IN_PHASE, 0.5 * OUT_PHASE), "do_not_use", "lower scale.*too high"),
        ((IN_PHASE, 0.7 * OUT_PHASE), "do_not_use", "lower scale"),
        ((IN_PHASE, 0.85 * OUT_PHASE), "look", "lower scale"),
        ((IN_PHASE, 3 * OUT_PHASE), "do_not_use", "exchanged"),
        ((FAT, WATER), "do_not_use", "no pair of echoes|exchanged"),
    ],
)
def test_what_is_wrong_with_a_pair_is_found(pair, severity, reason):
    (fault,) = check_pair(*pair)
    assert fault.severity == severity
    assert re.search(reason, fault.reason)


def test_noise_is_no_image():
    rng = np.random.default_rng(0)
    one, other = rng.uniform(0, 100, (2, 40, 40, 8))
    assert any("noise" in fault.reason for fault in check_pair(one, other))


@pytest.mark.parametrize(
    ("real", "scale", "severities"),
    [
        ("thigh", 1, []),
        ("calf", 1, []),
        ("thigh", 0.7, ["do_not_use"]),
        ("calf", 0.7, ["look"]),
        ("thigh", 0.5, ["do_not_use"]),
        ("calf", 0.5, ["do_not_use"]),
    ],
)
def test_real_pairs(real_scans, real, scale, severities):
    folder = real_scans / f"{real}_dixon_siemens"
    files = {
        f"{p}_phase": folder / f"sub-{real}_{p}phase.nii.gz" for p in ("in", "out")
    }
    images = read_scan(Scan("a", **files))
    faults = check_pair(images.in_phase, scale * images.out_phase)
    assert [fault.severity for fault in faults] == severities


def test_side_cars_tell_of_different_scales(tmp_path):
    """dcm2niix with display values of Philips: images and numbers do not show it."""
    files = {}
    for role, image, slope in (
        ("in_phase", IN_PHASE, 0.01),
        ("out_phase", OUT_PHASE, 0.012),
    ):
        files[role] = save_nifti(
            tmp_path / f"a_{role}.nii", image, np.diag([*SPACING_MM, 1])
        )
        content = {"PhilipsScaleSlope": slope, "UsePhilipsFloatNotDisplayScaling": 0}
        files[role].with_suffix(".json").write_text(json.dumps(content))
    images = read_scan(Scan("a", **files))
    (fault,) = images.faults
    assert fault.severity == "do_not_use" and fault.reason in images.warnings
    assert "0.01 and 0.012" in fault.reason and "dcm2niix -p y" in fault.reason
    same = {"PhilipsScaleSlope": 1.5, "UsePhilipsFloatNotDisplayScaling": 0}
    assert check_scales({"in_phase": same, "out_phase": same}) == []
    float_scaled = {"PhilipsScaleSlope": 1.7, "UsePhilipsFloatNotDisplayScaling": 1}
    assert check_scales({"in_phase": float_scaled, "out_phase": {}}) == []
    files["in_phase"].with_suffix(".json").write_text("[" * 100_000)
    assert read_scan(Scan("a", **files)).faults == ()
