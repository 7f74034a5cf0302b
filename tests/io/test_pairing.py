import json
import os
from pathlib import Path

import pytest

from cervjax.io.pairing import find_scans, pairing_table
from cervjax.io.roles import ROLES
from cervjax.io.scans import PairingError, Problem, Scan, explicit_scan


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def sidecar(image: Path, **content: object) -> None:
    image.parent.mkdir(parents=True, exist_ok=True)
    image.touch()
    stem = image.name.partition(".nii")[0]
    image.with_name(stem + ".json").write_text(json.dumps(content))


def shown(scan: Scan, root: Path) -> dict[str, str]:
    return {
        role: path.relative_to(root).as_posix() for role, path in scan.files.items()
    }


def only_scan(root: Path) -> Scan:
    scans, problems = find_scans(root)
    assert problems == []
    assert len(scans) == 1
    return scans[0]


def only_problem(root: Path, scans: int = 0) -> Problem:
    """The one problem, apart from the last that tells that no scan is there."""
    found, problems = find_scans(root)
    assert len(found) == scans
    assert len(problems) == 1 + (scans == 0)
    return problems[0]


def files_of(problem: Problem, root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in problem.files]


PHASE = {
    # in-phase name, out-of-phase name: name of the scan
    ("sub-01_inphase", "sub-01_outphase"): "sub-01",
    ("sub-01_in-phase", "sub-01_out-of-phase"): "sub-01",
    ("sub-01_in_phase", "sub-01_out_of_phase"): "sub-01",
    ("sub-01_inphase", "sub-01_outofphase"): "sub-01",
    ("sub-01_inphase", "sub-01_oppphase"): "sub-01",
    ("sub-01_inphase", "sub-01_opposedphase"): "sub-01",
    ("sub-01_in-phase", "sub-01_opposed-phase"): "sub-01",
    ("sub-01_in_phase", "sub-01_opposed_phase"): "sub-01",
    ("sub-01_InPhase", "sub-01_OutPhase"): "sub-01",
    ("sub-01_IN", "sub-01_OPP"): "sub-01",
    ("sub-01_in", "sub-01_opp"): "sub-01",
    ("sub-01_IP", "sub-01_OP"): "sub-01",
    ("sub-01_ip", "sub-01_oop"): "sub-01",
    ("sub-01_ip", "sub-01_op"): "sub-01",
    ("sub-01-in", "sub-01-opp"): "sub-01",
    ("sub-01 in", "sub-01 opp"): "sub-01",
    ("sub-01.in", "sub-01.opp"): "sub-01",
    ("sub-0001_ses-1_0000", "sub-0001_ses-1_0001"): "sub-0001_ses-1",
    ("dixon_ina", "dixon_oppa"): "dixon_a",
    ("dixon_inb", "dixon_oppb"): "dixon_b",
    ("dixon_opp_in_e2", "dixon_opp_opp_e1"): "dixon_opp",
    ("dixon_in_e2a", "dixon_opp_e1a"): "dixon_a",
    ("sub-01_ses-1_IN", "sub-01_ses-1_OPP"): "sub-01_ses-1",
    (
        "sub-01_ses-1_acq-dixon_part-mag_inphase",
        "sub-01_ses-1_acq-dixon_part-mag_outphase",
    ): "sub-01_ses-1_acq-dixon",
    ("sub-01_inphase_part-mag", "sub-01_outphase_part-mag"): "sub-01",
    ("sub-01_acq-inphase_T1w", "sub-01_acq-outphase_T1w"): "sub-01_T1w",
    ("sub-01_echo-2_inphase", "sub-01_echo-1_outphase"): "sub-01",
    ("IN_sub-01", "OPP_sub-01"): "sub-01",
    ("in-sub-01", "opp-sub-01"): "sub-01",
    ("sub-01_IN_dixon", "sub-01_OPP_dixon"): "sub-01_dixon",
    ("sub-01-IN-dixon", "sub-01-OPP-dixon"): "sub-01_dixon",
    ("sub-01_in-phase_T1w", "sub-01_out-of-phase_T1w"): "sub-01_T1w",
    ("neck_in_flexion_in", "neck_in_flexion_opp"): "neck_in_flexion",
    ("sub_op_01_IN", "sub_op_01_OPP"): "sub_op_01",
    ("study_e1_IN", "study_e1_OPP"): "study_e1",
    ("p1/inphase", "p1/outphase"): "p1",
    ("p1/in", "p1/opp"): "p1",
    ("a/p1/IN", "a/p1/OPP"): "p1",
    ("IN/sub1", "OPP/sub1"): "sub1",
    ("inphase/sub1", "outphase/sub1"): "sub1",
    ("p1/IN/image", "p1/OPP/image"): "image",
    ("p1/IN/IN", "p1/OPP/OPP"): "p1",
    ("IN/sub1_IN", "OPP/sub1_OPP"): "sub1",
    ("IN/sub_0000", "OPP/sub_0000"): "sub_0000",
    ("IN/sub_0001", "OPP/sub_0001"): "sub_0001",
    ("in/sub1_IN", "in/sub1_OPP"): "sub1",
    ("in/IN_sub1", "in/OPP_sub1"): "sub1",
    ("neck_IN", "neck_OUT"): "neck",
    ("ax_t1_inphase", "ax_t1_opposed"): "ax_t1",
    ("ax_t1_in_phase", "ax_t1_opp_phase"): "ax_t1",
    ("ax_t1_in-phase", "ax_t1_out-phase"): "ax_t1",
    ("sub-01_part-inphase_dixon", "sub-01_part-outphase_dixon"): "sub-01_dixon",
    ("p/IN_PHASE_s005", "p/OPP_PHASE_s004"): "p",
    ("t1_in_s13", "t1_opp_s12"): "t1",
    ("sub_in_01", "sub_opp_01"): "sub_01",
    ("I_Dixon/I_Dixon_in/I_Dixon_in", "I_Dixon/I_Dixon_opp/I_Dixon_opp"): "I_Dixon",
    ("VIBE_320_IN_0004/2015s004a1001", "VIBE_320_OPP_0003/2015s003a1001"): "VIBE_320",
}
SERIES = {
    # names of in-phase, out-of-phase, water, fat: name of the scan
    ("13_t1_in", "12_t1_opp", "14_t1_W", "15_t1_F"): "t1",
    ("t1_in_13", "t1_opp_12", "t1_W_14", "t1_F_15"): "t1",
    ("t1-in-13", "t1-opp-12", "t1-W-14", "t1-F-15"): "t1",
    ("a_IN_0013/x", "a_OPP_0012/y", "a_W_0014/z", "a_F_0015/u"): "a",
    ("p/a_in/a_in", "p/a_opp/a_opp", "p/a_W/a_W", "p/a_F/a_F"): "a",
}
WATER_FAT = {
    ("sub-01_water", "sub-01_fat"): "sub-01",
    ("sub-01_WATER", "sub-01_FAT"): "sub-01",
    ("sub-01_wat", "sub-01_fat"): "sub-01",
    ("sub-01_W", "sub-01_F"): "sub-01",
    ("sub_W_01", "sub_F_01"): "sub_01",
    ("sub-01_Wa", "sub-01_Fa"): "sub-01_a",
    ("water/sub1", "fat/sub1"): "sub1",
    ("W/sub1", "F/sub1"): "sub1",
    ("p1/W", "p1/F"): "p1",
}


@pytest.mark.parametrize("extension", [".nii", ".nii.gz", ".NII.GZ"])
@pytest.mark.parametrize(("names", "scan"), PHASE.items(), ids="+".join)
def test_pairs_in_phase_with_out_of_phase(tmp_path, names, scan, extension):
    in_phase, out_phase = (name + extension for name in names)
    make(tmp_path, out_phase, in_phase)
    found = only_scan(tmp_path)
    assert found.name == scan
    assert shown(found, tmp_path) == {"in_phase": in_phase, "out_phase": out_phase}
    assert found.has_pair and not found.has_water_fat


@pytest.mark.parametrize(("names", "scan"), WATER_FAT.items(), ids="+".join)
def test_pairs_water_with_fat(tmp_path, names, scan):
    water, fat = (name + ".nii.gz" for name in names)
    make(tmp_path, water, fat)
    found = only_scan(tmp_path)
    assert found.name == scan
    assert shown(found, tmp_path) == {"water": water, "fat": fat}
    assert found.has_water_fat and not found.has_pair


@pytest.mark.parametrize(("names", "scan"), SERIES.items(), ids=str)
def test_series_of_all_roles_are_one_scan(tmp_path, names, scan):
    make(tmp_path, *(f"{name}.nii.gz" for name in names))
    found = only_scan(tmp_path)
    assert found.name == scan
    assert [shown(found, tmp_path)[role] for role in ROLES] == [
        f"{name}.nii.gz" for name in names
    ]


TYPES = {"in": "IN_PHASE", "opp": "OPP_PHASE", "W": "WATER", "F": "FAT"}


@pytest.mark.parametrize(
    "form", ["{t}_{n}", "{n}_{t}", "{t}_{r}_{n}", "{n}_{t}_{r}", "{t}_{n}a"]
)
def test_runs_of_one_protocol_are_told_apart_by_time(tmp_path, form):
    """dcm2niix's names; two runs of in-phase and out-of-phase with side-cars."""
    for run, time in enumerate(("10:10:10.5", "10:14:02.0")):
        for number, role in enumerate(("opp", "in"), 12 + 4 * run):
            name = form.format(t="DICOM_t1_vibe_20240109", n=number, r=role)
            image_type = ["DERIVED", "DIXON", TYPES[role]]
            path = tmp_path / f"{name}.nii.gz"
            sidecar(path, ImageType=image_type, AcquisitionTime=time)
    scans, problems = find_scans(tmp_path)
    assert problems == []
    assert len(scans) == 2 and scans[0].name != scans[1].name
    for scan, expected in zip(scans, (13, 17), strict=True):
        assert str(expected) in scan.in_phase.name
        assert str(expected - 1) in scan.out_phase.name


@pytest.mark.parametrize(
    "names",
    [
        ("13_t1_in", "12_t1_opp"),
        ("t1_in_13", "t1_opp_12"),
        ("t1_in_0001", "t1_opp_0002"),
        ("t1_in_1", "t1_opp_2", "t1_opp_3", "t1_in_4"),
        ("1_in", "2_opp", "3_W", "3_F"),
    ],
    ids=str,
)
def test_numbers_without_evidence_are_no_series(tmp_path, names):
    """They may as well be those of people."""
    make(tmp_path, *(f"{name}.nii" for name in names))
    scans, problems = find_scans(tmp_path)
    assert all(not scan.has_pair for scan in scans)
    assert any("without a partner" in problem.message for problem in problems)


def test_series_of_different_times_do_not_pair(tmp_path):
    for number, (role, time) in enumerate((("in", "10:10"), ("opp", "10:20")), 3):
        path = tmp_path / f"t1_{number}.nii"
        sidecar(path, ImageType=["DIXON", TYPES[role]], AcquisitionTime=time)
    assert find_scans(tmp_path)[0] == []


def test_the_first_echo_may_lack_its_number(tmp_path):
    for name, time_s in (("gre_dixon", 0.00123), ("gre_dixon_e2", 0.00246)):
        content = {"EchoTime": time_s, "MagneticFieldStrength": 3}
        sidecar(tmp_path / f"{name}.nii.gz", **content)
    scan = only_scan(tmp_path)
    assert scan.name == "gre_dixon"
    assert scan.out_phase.name == "gre_dixon.nii.gz"


def test_other_images_of_a_dixon_are_left_out(tmp_path):
    names = [f"I_D/I_D_{r}/I_D_{r}.nii" for r in ("in", "opp", "F", "W")]
    others = [f"I_D/I_D_{r}/I_D_{r}.nii" for r in ("F_FP", "in3", "opp_T2s")]
    make(tmp_path, *names, *others)
    scan = only_scan(tmp_path)
    assert {*shown(scan, tmp_path).values()} == {*names}
    table = pairing_table([scan], [], tmp_path)
    assert all(f"  {name}" in table for name in others)


def test_images_of_other_formats_are_named(tmp_path):
    make(tmp_path, "neck_IN.nrrd", "neck_OPP.nrrd", "a.mha")
    scans, problems = find_scans(tmp_path)
    assert scans == [] and "neck_IN.nrrd" in problems[0].message
    assert "NIfTI" in problems[0].hint
    make(tmp_path, "b_IN.nii", "b_OPP.nii")
    assert "not read: a.mha, neck_IN.nrrd" in pairing_table(
        [only_scan(tmp_path)], [], tmp_path
    )


def test_missing_sidecars_are_asked_for(tmp_path):
    make(tmp_path, *(f"DICOM_t1_vibe_20240109_{n}.nii.gz" for n in range(12, 16)))
    assert "side-cars" in find_scans(tmp_path)[1][0].hint


def test_extensions_may_differ_within_a_pair(tmp_path):
    assert only_scan(make(tmp_path, "a_IN.nii", "a_OPP.nii.gz")).has_pair


def test_scanner_export_gives_one_scan_of_four_images(tmp_path):
    # A Siemens multi-echo Dixon: third echo and maps are not part of the scan.
    used = {"in_phase": "in", "out_phase": "opp", "water": "W", "fat": "F"}
    unused = ["in3", "opp_T2s", "F_FP", "in_ph", "opp_real", "opp_imaginary"]
    make(tmp_path, *(f"x_{word}.nii.gz" for word in [*used.values(), *unused]))
    scan = only_scan(tmp_path)
    assert scan.name == "x"
    assert shown(scan, tmp_path) == {r: f"x_{w}.nii.gz" for r, w in used.items()}
    assert "not recognised: 6 NIfTI" in pairing_table([scan], [], tmp_path)


@pytest.mark.parametrize(
    ("given", "lone"), [(["IN", "OPP"], "W"), (["IN", "OPP"], "F"), (["W", "F"], "IN")]
)
def test_lone_image_beside_a_pair_is_left_out(tmp_path, given, lone):
    make(tmp_path, *(f"a_{word}.nii" for word in [*given, lone]))
    scan = only_scan(tmp_path)
    assert set(shown(scan, tmp_path).values()) == {f"a_{word}.nii" for word in given}
    assert f"a_{lone}.nii" in pairing_table([scan], [], tmp_path).splitlines()[-3]


def test_many_scans_in_natural_order(tmp_path):
    subjects = ["sub-2", "sub-10", "sub-1"]
    make(tmp_path, *(f"{s}/{s}_{w}.nii" for s in subjects for w in ("IN", "OPP")))
    scans, problems = find_scans(tmp_path)
    assert [scan.name for scan in scans] == ["sub-1", "sub-2", "sub-10"]
    assert problems == []


@pytest.mark.parametrize(
    "name",
    [
        "._a_IN.nii.gz",
        ".a_IN.nii",
        ".hidden/a_IN.nii",
        "derivatives/a_IN.nii",
        "derivatives/sub-1/anat/a_IN.nii",
        "Derivatives/a_IN.nii",
        "b_IN_dseg.nii.gz",
        "b_IN_mask.nii.gz",
        "b_IN_seg.nii.gz",
        "b_IN_Seg.nii.gz",
        "b_IN_softseg.nii.gz",
        "b_IN_label.nii.gz",
        "b_IN_labels.nii.gz",
        "b_IN_pdff.nii.gz",
        "b_IN_levels.nii.gz",
        "b_IN_fatfrac.nii.gz",
        "b_IN_R2star.nii.gz",
        "window_seg_b_IN__niftynet_out.nii.gz",
        "p/mask.nii.gz",
        "a_IN.json",
        "a_IN.nii.gz.part",
        "a_IN.txt",
    ],
)
def test_passed_over_without_a_word(tmp_path, name):
    make(tmp_path, "a_IN.nii", "a_OPP.nii", name)
    scan = only_scan(tmp_path)
    assert scan.files["in_phase"].name == "a_IN.nii"
    assert name not in pairing_table([scan], [], tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "scout.nii.gz",
        "sub1_IN/scout.nii.gz",
        "inputs/scout.nii.gz",
        "T1.nii.gz",
        "inside.nii.gz",
        "sub-in01_T1w.nii.gz",
        "F_012_T1.nii.gz",
        "b_f.nii.gz",
        "b_w.nii.gz",
        "b_in3.nii.gz",
        "sub-0001.nii.gz",
        "b_0005.nii.gz",
        "b_out_T1.nii.gz",
        "b_ph.nii.gz",
        "sub-1_part-phase_inphase.nii.gz",
        "sub-1_part-real_inphase.nii.gz",
        "b_in_phMag.nii.gz",
    ],
)
def test_not_recognised_is_counted_and_listed(tmp_path, name):
    make(tmp_path, "a_IN.nii", "a_OPP.nii", name)
    table = pairing_table([only_scan(tmp_path)], [], tmp_path)
    assert f"not recognised: 1 NIfTI file(s)\n  {name}\n" in table


@pytest.mark.parametrize(
    ("name", "partner"),
    [
        ("a_IN.nii.gz", "a_OPP.nii.gz"),
        ("a_OPP.nii", "a_IN.nii"),
        ("a_in.nii", "a_opp.nii"),
        ("a_IP.nii", "a_OP.nii"),
        ("a_oop.nii", "a_ip.nii"),
        ("a_inphase.nii", "a_outphase.nii"),
        ("a_outofphase.nii", "a_inphase.nii"),
        ("a_out-of-phase.nii", "a_in-phase.nii"),
        ("a_0000.nii", "a_0001.nii"),
        ("a_W.nii", "a_F.nii"),
        ("a_fat.nii", "a_water.nii"),
        ("a_wat.nii", "a_fat.nii"),
        ("IN_a.nii", "OPP_a.nii"),
        ("sub-1_acq-inphase_T1w.nii", "sub-1_acq-outphase_T1w.nii"),
        ("IN/a.nii", "OPP/a.nii"),
    ],
)
def test_missing_partner_is_named(tmp_path, name, partner):
    problem = only_problem(make(tmp_path, name))
    assert files_of(problem, tmp_path) == [name]
    assert Path(name).name in problem.message
    assert f"expected {partner})" in problem.message
    assert "--in-phase" in problem.hint
    assert only_scan(make(tmp_path, partner)).files  # and the advice works


@pytest.mark.parametrize(
    "names",
    [
        ("a_IN.nii", "b_OPP.nii"),
        ("Sub1_IN.nii", "sub1_OPP.nii"),
        ("p1/a_IN.nii", "p2/a_OPP.nii"),
        ("p1/a_IN.nii", "a_OPP.nii"),
        ("a_ina.nii", "a_opp.nii"),
        ("a_IN_OPP.nii", "a_OPP_IN.nii"),
        ("IN/a.nii", "OPP/b.nii"),
        ("a_in_e1.nii", "a_e2_opp.nii"),
        ("case_IN_0000.nii", "case_OPP_0001.nii"),
    ],
)
def test_different_stems_do_not_pair(tmp_path, names):
    scans, problems = find_scans(make(tmp_path, *names))
    assert scans == []
    assert len(problems) == 3
    assert {p for problem in problems for p in files_of(problem, tmp_path)} == {*names}


def test_water_and_in_phase_alone_are_one_problem(tmp_path):
    problem = only_problem(make(tmp_path, "a_IN.nii", "a_W.nii"))
    assert "a_OPP.nii" in problem.message and "a_F.nii" in problem.message


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a_IN.nii", "a_IN.nii.gz"),
        ("a_in.nii", "a_ip.nii"),
        ("a_inphase.nii", "a_in-phase.nii"),
        ("a_IN.nii", "IN_a.nii"),
        ("a_IN.nii", "IN/a.nii"),
        ("a_IN.nii", "a_0000.nii"),
        ("a_in_e1.nii", "a_in_e2.nii"),
    ],
)
def test_one_role_twice_is_ambiguous(tmp_path, first, second):
    problem = only_problem(make(tmp_path, first, second, "a_OPP.nii"))
    assert set(files_of(problem, tmp_path)) == {first, second}
    assert "2 in-phase images" in problem.message
    assert all(Path(name).name in problem.message for name in (first, second))
    assert "Keep one" in problem.hint


def test_two_roles_in_one_name_are_reported(tmp_path):
    make(tmp_path, "IN_a_OPP_b.nii", "a_b_OPP.nii")
    scans, problems = find_scans(tmp_path)
    assert scans == []
    message = "mean in-phase and out-of-phase"
    assert [message in problem.message for problem in problems].count(True) == 1


def test_numbered_subjects_are_not_taken_for_channels(tmp_path):
    make(tmp_path, *(f"scan_000{i}.nii" for i in range(3)))
    problem = only_problem(tmp_path)
    assert len(problem.files) == 3 and problem.scan == "scan"


def test_role_folders_keep_numbered_subjects_apart(tmp_path):
    names = [f"{role}/sub_000{i}.nii" for role in ("IN", "OPP") for i in range(3)]
    scans, problems = find_scans(make(tmp_path, *names))
    assert problems == []
    assert [scan.name for scan in scans] == ["sub_0000", "sub_0001", "sub_0002"]
    for scan in scans:
        roles = [path.parent.name for path in scan.files.values()]
        assert roles == ["IN", "OPP"]


def test_folder_numbers_are_not_channels(tmp_path):
    make(tmp_path, "0000/a_IN.nii", "0000/a_OPP.nii", "0001/a_IN.nii", "0001/a_OPP.nii")
    scans, problems = find_scans(tmp_path)
    assert [scan.name for scan in scans] == ["0000_a", "0001_a"]
    assert problems == []


def test_the_searched_folder_itself_lends_no_role(tmp_path):
    make(tmp_path, "IN/a.nii", "OPP/a.nii")
    scans, problems = find_scans(tmp_path / "IN")
    assert scans == [] and len(problems) == 1
    assert "_inphase/_outphase" in problems[0].hint


# Siemens: 3 T in-phase 2.46 ms, out-of-phase 1.23 ms; twice that at 1.5 T.
ECHOES = [("dixon_e1", "dixon_e2"), ("sub_echo-1_MEGRE", "sub_echo-2_MEGRE")]


@pytest.mark.parametrize("names", ECHOES, ids="+".join)
@pytest.mark.parametrize(
    ("out_s", "in_s", "field_t"),
    [
        (0.00123, 0.00246, 3),
        (0.00115, 0.0023, 2.89),
        (0.00345, 0.0046, 3.0),
        (0.00239, 0.00477, 1.5),
    ],
)
@pytest.mark.parametrize("in_first", [False, True])
def test_echo_times_tell_the_phase(tmp_path, names, out_s, in_s, field_t, in_first):
    times = (in_s, out_s) if in_first else (out_s, in_s)
    for name, time_s in zip(names, times, strict=True):
        content = {"EchoTime": time_s, "MagneticFieldStrength": field_t}
        sidecar(tmp_path / f"{name}.nii.gz", **content)
    scan = only_scan(tmp_path)
    assert scan.in_phase == tmp_path / f"{names[not in_first]}.nii.gz"
    assert scan.out_phase == tmp_path / f"{names[in_first]}.nii.gz"


@pytest.mark.parametrize("key", ["ImageType", "ImageTypeText"])
@pytest.mark.parametrize("out_word", ["OUT_PHASE", "OPP_PHASE"])
def test_image_types_tell_the_phase(tmp_path, key, out_word):
    for name, word in (("a_e1", "IN_PHASE"), ("a_e2", out_word)):
        sidecar(tmp_path / f"{name}.nii", **{key: ["DERIVED", "DIXON", word]})
    assert shown(only_scan(tmp_path), tmp_path) == {
        "in_phase": "a_e1.nii",
        "out_phase": "a_e2.nii",
    }


def test_image_types_tell_water_and_fat(tmp_path):
    for number, word in enumerate(("OPP_PHASE", "IN_PHASE", "WATER", "FAT"), 1):
        sidecar(tmp_path / f"a_e{number}.nii", ImageType=["DERIVED", word])
    scan = only_scan(tmp_path)
    assert [scan.files[role].name[3] for role in scan.files] == list("2134")


@pytest.mark.parametrize(
    "content",
    [
        None,
        {},
        [],
        {"EchoTime": 0.00246},
        {"EchoTime": 2.3, "MagneticFieldStrength": 3},
        {"EchoTime": "0.00246", "MagneticFieldStrength": 3},
        {"EchoTime": 0.0018, "MagneticFieldStrength": 3},
        {"EchoTime": float("nan"), "MagneticFieldStrength": 3},
        {"EchoTime": -0.00246, "MagneticFieldStrength": 3},
        {"ImageType": ["IN_PHASE", "OPP_PHASE"]},
        {"ImageType": 5},
    ],
)
def test_echo_without_usable_sidecar_is_a_problem(tmp_path, content):
    make(tmp_path, "a_e1.nii", "a_e2.nii")
    known = {"EchoTime": 0.00123, "MagneticFieldStrength": 3}
    (tmp_path / "a_e1.json").write_text(json.dumps(known))
    if content is not None:
        (tmp_path / "a_e2.json").write_text(json.dumps(content))
    problem = only_problem(tmp_path)
    assert files_of(problem, tmp_path) == ["a_e1.nii", "a_e2.nii"]
    assert problem.message.startswith("a_e2.nii: ")
    assert "--in-phase" in problem.hint


@pytest.mark.parametrize("garbage", [b"{", b"\xff\xfe\x00"])
def test_broken_sidecar_is_no_crash(tmp_path, garbage):
    make(tmp_path, "a_e1.nii", "a_e2.nii")
    (tmp_path / "a_e1.json").write_bytes(garbage)
    assert "side-car" in only_problem(tmp_path).message


def test_third_echo_in_phase_again_is_ambiguous(tmp_path):
    for number, time_s in enumerate((0.00123, 0.00246, 0.0046), 1):
        path = tmp_path / f"a_e{number}.nii"
        sidecar(path, EchoTime=time_s, MagneticFieldStrength=3)
    assert "2 in-phase images" in only_problem(tmp_path).message


def test_name_against_sidecar_is_a_problem(tmp_path):
    make(tmp_path, "a_IN.nii", "a_OPP.nii")
    sidecar(tmp_path / "a_IN.nii", ImageType=["DERIVED", "OPP_PHASE"])
    message = only_problem(tmp_path).message
    assert message.startswith("a_IN.nii") and "in-phase and out-of-phase" in message


def test_echo_time_does_not_overrule_the_name(tmp_path):
    # Images computed from other echoes may carry the time of the first one.
    make(tmp_path, "a_IN.nii", "a_OPP.nii")
    content = {"EchoTime": 0.00123, "MagneticFieldStrength": 3}
    sidecar(tmp_path / "a_IN.nii", ImageType=["M", "IN_PHASE"], **content)
    assert only_scan(tmp_path).has_pair
    sidecar(tmp_path / "a_IN.nii", **content)
    assert only_scan(tmp_path).has_pair


@pytest.mark.parametrize(
    ("stems", "names"),
    [
        (["A/x", "B/x"], ["A_x", "B_x"]),
        (["A/x", "B/X"], ["A_x", "B_X"]),
        (["x", "A/x"], ["A_x", "x"]),
        (["s1/p1/", "s2/p1/"], ["s1_p1", "s2_p1"]),
        (["A/x", "B/y"], ["x", "y"]),
        (["A/x", "B/x", "B/y"], ["A_x", "B_x", "y"]),
    ],
    ids=str,
)
def test_equal_names_get_their_folder(tmp_path, stems, names):
    make(tmp_path, *(f"{s}_{word}.nii" for s in stems for word in ("IN", "OPP")))
    scans, problems = find_scans(tmp_path)
    assert [scan.name for scan in scans] == names
    assert problems == []


@pytest.mark.parametrize(
    "stems",
    [["A/x", "B/x", "A_x"], ["a/x", "A/x"], ["a b", "a_b"], ["x", "X"]],
    ids=str,
)
def test_names_still_equal_are_problems(tmp_path, stems):
    names = [f"{s}_{word}.nii" for s in stems for word in ("IN", "OPP")]
    make(tmp_path, *names)
    if len([*tmp_path.rglob("*.nii")]) < len(names):
        pytest.skip("the file system ignores case")
    scans, problems = find_scans(tmp_path)
    clashing = [p for p in problems if "another scan" in p.message]
    assert len(clashing) == 2
    assert all(problem.files and problem.hint for problem in clashing)
    kept = {scan.name.casefold() for scan in scans}
    assert not kept & {problem.scan.casefold() for problem in clashing}


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("a b", "a_b"),
        ("a;rm -rf $HOME", "a_rm_-rf_HOME"),
        ("=cmd()|x", "cmd_x"),
        ("-rf", "rf"),
        ("Müller", "Müller"),
        ("a'\"b", "a_b"),
        ("..x..", "x"),
    ],
)
def test_names_are_safe_file_names(tmp_path, stem, name):
    folder = tmp_path / "p"
    make(folder, f"z{stem}_IN.nii", f"z{stem}_OPP.nii")
    assert only_scan(folder).name.startswith("z")
    pair = folder / f"z{stem}_IN.nii", folder / f"z{stem}_OPP.nii"
    assert explicit_scan(*pair, name=stem).name == name


def test_linked_root_and_linked_folder(tmp_path):
    make(tmp_path, "real/a_IN.nii", "real/a_OPP.nii", "data/b_IN.nii", "data/b_OPP.nii")
    (tmp_path / "data/more").symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / "root").symlink_to(tmp_path / "data", target_is_directory=True)
    scans, problems = find_scans(tmp_path / "root")
    assert [scan.name for scan in scans] == ["a", "b"]
    assert problems == []
    assert scans[0].in_phase == tmp_path / "root/more/a_IN.nii"


def test_links_in_a_circle_are_read_once(tmp_path):
    make(tmp_path, "p/a_IN.nii", "p/a_OPP.nii")
    (tmp_path / "p/up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a_link").symlink_to(tmp_path / "p", target_is_directory=True)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    assert only_scan(tmp_path).in_phase == tmp_path / "p/a_IN.nii"


def test_scan_in_root_is_named_for_root(tmp_path, monkeypatch):
    make(tmp_path, "p7/in.nii", "p7/opp.nii")
    assert only_scan(tmp_path / "p7").name == "p7"
    (tmp_path / "linked").symlink_to(tmp_path / "p7", target_is_directory=True)
    assert only_scan(tmp_path / "linked").name == "linked"
    monkeypatch.chdir(tmp_path / "p7")
    assert only_scan(Path(".")).name == "p7"


def test_unreadable_folder_is_a_problem(tmp_path, monkeypatch):
    make(tmp_path, "a_IN.nii", "a_OPP.nii", "locked/b_IN.nii")
    scandir = os.scandir

    def guarded(path):
        if os.fspath(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    problem = only_problem(tmp_path, scans=1)
    assert problem.files == (tmp_path / "locked",)
    assert "Permission denied" in problem.message


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (None, ["does not exist", "check the path"]),
        ("a_IN.nii.gz", ["is a file", "its folder", "--in-phase F --out-phase F"]),
        ("table.csv", ["is a file", "its folder"]),
    ],
)
def test_root_that_is_no_folder(tmp_path, name, words):
    root = tmp_path / (name or "absent")
    if name:
        root.touch()
    with pytest.raises(PairingError) as raised:
        find_scans(root)
    assert all(word in str(raised.value) for word in [str(root), *words])


@pytest.mark.parametrize("names", [(), ("scout.nii", "T1.nii.gz"), ("notes.txt",)])
def test_nothing_found_lists_the_endings(tmp_path, names):
    scans, problems = find_scans(make(tmp_path, *names))
    assert scans == [] and len(problems) == 1
    for ending in ("_inphase", "_OPP", "_IP", "_0000", "_water", "_W"):
        assert ending in problems[0].hint
    assert all(name in problems[0].message for name in names if ".nii" in name)


@pytest.mark.parametrize(
    "name", ["a.dcm", "b/c.IMA", "DICOMDIR", "IM_0014", "MR.1.2.84"]
)
def test_dicom_without_nifti_asks_for_conversion(tmp_path, name):
    scans, (problem,) = find_scans(make(tmp_path, name))
    assert scans == [] and "DICOM" in problem.message
    assert "cervjax dicom" in problem.hint
    make(tmp_path, "a_IN.nii", "a_OPP.nii")
    assert only_scan(tmp_path).has_pair


def test_dicom_beside_unrecognised_nifti_lists_the_endings(tmp_path):
    _, (problem,) = find_scans(make(tmp_path, "a.dcm", "scout.nii"))
    assert "_inphase" in problem.hint


def test_problems_in_natural_order(tmp_path):
    _, problems = find_scans(make(tmp_path, *(f"sub-{i}_IN.nii" for i in (10, 2, 1))))
    assert [problem.scan for problem in problems[:3]] == ["sub-1", "sub-2", "sub-10"]


def test_explicit_scan_is_named_like_a_found_one(tmp_path):
    make(tmp_path, *(f"sub-1_{word}.nii" for word in ("IN", "OPP", "W", "F")))
    files = [tmp_path / f"sub-1_{word}.nii" for word in ("IN", "OPP", "W", "F")]
    assert explicit_scan(*files) == only_scan(tmp_path)
    assert explicit_scan(water=files[2], fat=files[3]).has_water_fat
    assert explicit_scan(water=files[2], fat=files[3]).name == "sub-1"


def test_table(tmp_path):
    names = ["sub-2/in.nii", "sub-2/opp.nii", "sub-10_IN.nii.gz", "sub-10_OPP.nii.gz"]
    make(tmp_path, *names, "sub-10_W.nii", "sub-10_F.nii", "bad_IN.nii", "scout.nii")
    assert pairing_table(*find_scans(tmp_path), tmp_path).splitlines() == [
        "scan    in-phase          out-of-phase       water         fat",
        "sub-2   sub-2/in.nii      sub-2/opp.nii      -             -",
        "sub-10  sub-10_IN.nii.gz  sub-10_OPP.nii.gz  sub-10_W.nii  sub-10_F.nii",
        "",
        "PROBLEM bad: bad_IN.nii is in-phase without a partner (expected bad_OPP.nii)",
        "  bad_IN.nii",
        "  Add or rename the partner, or name the files: --in-phase F --out-phase F, "
        "or --list TABLE.",
        "",
        "not recognised: 1 NIfTI file(s)",
        "  scout.nii",
        "",
        "2 scan(s), 1 problem(s)",
    ]


def test_table_shows_explicit_files_outside_the_root(tmp_path):
    make(tmp_path, "x/a.nii", "x/b.nii", "y/c.txt")
    scan = explicit_scan(tmp_path / "x/a.nii", tmp_path / "x/b.nii")
    assert str(tmp_path / "x/a.nii") in pairing_table([scan], [], tmp_path / "y")


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("e2e_small/images", "sub-g1"),
        ("preproc/a_LAS_oblique", "sub-a_LAS_oblique"),
        ("preproc/b_LPI_axial", "sub-b_LPI_axial"),
        ("preproc/d_RAS_same_grid", "sub-d_RAS_same_grid"),
        ("preproc/e_RAS_much_air", "sub-e_RAS_much_air"),
    ],
)
def test_niftynet_files_pair(golden, folder, name):
    scan = only_scan(golden / folder)
    assert scan.name == name
    assert [path.name for path in scan.files.values()] == [
        f"{name}_IN.nii.gz",
        f"{name}_OPP.nii.gz",
    ]


def test_niftynet_tree_holds_no_problem(golden):
    scans, problems = find_scans(golden / "preproc")
    assert len(scans) == 4 and problems == []
    assert only_scan(golden / "e2e_small").name == "sub-g1"


@pytest.mark.parametrize("limb", ["thigh", "calf"])
def test_siemens_files_pair(real_scans, limb):
    scan = only_scan(real_scans / f"{limb}_dixon_siemens")
    assert scan.name == f"sub-{limb}"
    assert scan.in_phase and scan.in_phase.name == f"sub-{limb}_inphase.nii.gz"
    assert scan.out_phase and scan.out_phase.name == f"sub-{limb}_outphase.nii.gz"


def test_real_dicom_asks_for_conversion(real_scans):
    for folder in ("siemens_two_echo_classic", "philips_enhanced"):
        _, (problem,) = find_scans(real_scans / "dicom" / folder)
        assert "cervjax dicom" in problem.hint


def test_real_neck_files_without_roles(real_scans):
    scans, problems = find_scans(real_scans / "neck_gre_axial")
    assert scans == [] and "neck_t2w.nii.gz" in problems[0].message


@pytest.mark.parametrize("key", ["channel_names", "modality"])
@pytest.mark.parametrize(
    ("names", "roles"),
    [
        (("water", "fat"), ("water", "fat")),
        (("Fat", "Water"), ("fat", "water")),
        (("out-of-phase", "In phase"), ("out_phase", "in_phase")),
        (("opp", "ip"), ("out_phase", "in_phase")),
        (("zscore", "zscore"), ("in_phase", "out_phase")),  # says how to scale
    ],
)
def test_channels_are_what_datasets_json_says(tmp_path, key, names, roles):
    """Water and fat taken for echoes give an MFI 10 points off, without a word."""
    images = tmp_path / "imagesTr"
    images.mkdir()
    for i in (0, 1):
        (images / f"c_000{i}.nii.gz").touch()
    content = {key: {str(i): name for i, name in enumerate(names)}}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    (scan,), problems = find_scans(images)
    assert not problems
    assert {r: p.name for r, p in scan.files.items()} == {
        role: f"c_000{i}.nii.gz" for i, role in enumerate(roles)
    }


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_and_links_to_nothing_are_problems_and_do_not_hang(tmp_path):
    make(tmp_path, "a_IN.nii", "a_OPP.nii")
    os.mkfifo(tmp_path / "b_IN.nii")
    os.mkfifo(tmp_path / "a_IN.json")
    (tmp_path / "c_IN.nii").symlink_to(tmp_path / "gone.nii")
    scans, problems = find_scans(tmp_path)
    assert [scan.name for scan in scans] == ["a"]
    assert [p.files[0].name for p in problems] == ["b_IN.nii", "c_IN.nii"]
    assert "no regular file" in problems[0].message
    assert "a link to nothing" in problems[1].message


def test_names_with_line_breaks_and_of_no_text_are_found(tmp_path):
    try:
        for role in (b"IN", b"OPP"):
            for name in (b"a\nb_", b"z\xff_"):
                (tmp_path / os.fsdecode(name + role + b".nii")).touch()
    except (OSError, ValueError):
        pytest.skip("the file system takes text only")
    scans, problems = find_scans(tmp_path)
    assert problems == [] and len(scans) == 2
    assert all(scan.name.isascii() and "\n" not in scan.name for scan in scans)


@pytest.mark.parametrize("number", ["1" + "0" * 400, "1e999", "-1", "true"])
def test_an_absurd_echo_time_is_no_crash(tmp_path, number):
    make(tmp_path, "a_e1.nii", "a_e2.nii")
    for name in ("a_e1", "a_e2"):
        content = f'{{"EchoTime": {number}, "MagneticFieldStrength": 3}}'
        (tmp_path / f"{name}.json").write_text(content)
    assert "side-car" in only_problem(tmp_path).message
