"""Folders as people have them: the right scans, or a refusal that says why.

Each row is a layout that somebody has, by what made it or where it is told of in
public. Images have `.nii.gz`; a `+` and letters after a name is dcm2niix's side-car.
"""

import json
from pathlib import Path

import pytest

from cervjax.io.pairing import find_scans
from cervjax.io.roles import ROLES

IMAGE_TYPES = {"i": "IN_PHASE", "o": "OPP_PHASE", "w": "WATER", "f": "FAT"}
LETTERS = dict(zip("iowf", ROLES, strict=True))


def sidecar(told: str) -> dict:
    """Of "i", "o", "w", "f" (ImageType) or "1"-"6" (echoes at 3 T), and "@" a minute.

    Minute 0 is midnight, which is what remains of a time that was made anonymous.
    """
    kind, _, minute = told.partition("@")
    content: dict = {"Manufacturer": "Siemens"}
    if minute:
        midnight = minute == "0"
        time = "00:00:00.000000" if midnight else f"10:{minute}:10.507500"
        content["AcquisitionTime"] = time
    if kind.isdigit():
        content |= {"EchoTime": 0.00123 * int(kind), "MagneticFieldStrength": 3}
    elif kind in IMAGE_TYPES:
        content["ImageType"] = ["DERIVED", "PRIMARY", "DIXON", IMAGE_TYPES[kind]]
    else:  # Philips: the type of the series, and one echo time for all
        content["ImageType"] = ["ORIGINAL", "PRIMARY", "T1", "MIXED"]
    return content


def build(root: Path, names: str) -> Path:
    """Makes the files of a layout, one a line."""
    for line in filter(None, map(str.strip, names.splitlines())):
        name, _, told = line.partition(" + ")
        other = name.endswith((".nrrd", ".dcm"))
        path = root / (name if other else f"{name}.nii.gz")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        if told:
            path.with_name(path.name[:-7] + ".json").write_text(
                json.dumps(sidecar(told))
            )
    return root


# What is found, a scan a word: i, o, w, f and the number of the line of that role.
# "i2o1" is a scan with in-phase on line 2 and out-of-phase on line 1.
RIGHT = {
    # From a review of the product by newcomers: 28 layouts, with the refusals below.
    "siemens, %d": ("t1_dixon_in\nt1_dixon_opp\nt1_dixon_W\nt1_dixon_F", "i1o2w3f4"),
    "dcm2niix default, side-cars": (
        """DICOM_t1_vibe_dixon_tra_20240109101010_12 + o@10
        DICOM_t1_vibe_dixon_tra_20240109101010_13 + i@10
        DICOM_t1_vibe_dixon_tra_20240109101010_14 + w@10
        DICOM_t1_vibe_dixon_tra_20240109101010_15 + f@10""",
        "i2o1w3f4",
    ),
    "dcm2niix %d_%s": (
        "t1_dixon_in_13\nt1_dixon_opp_12\nt1_dixon_W_14\nt1_dixon_F_15",
        "i1o2w3f4",
    ),
    "dcm2niix %s_%d": (
        "13_t1_dixon_in\n12_t1_dixon_opp\n14_t1_dixon_W\n15_t1_dixon_F",
        "i1o2w3f4",
    ),
    "a folder per series": (
        """T1_VIBE_DIXON_TRA_P4_BH_320_IN_0004/20150101t1vibes004a1001
        T1_VIBE_DIXON_TRA_P4_BH_320_OPP_0003/20150101t1vibes003a1001""",
        "i1o2",
    ),
    "a folder per series, named as the files (MuscleMap#85)": (
        """I_Dixon_t2star_224/I_Dixon_t2star_224_in/I_Dixon_t2star_224_in
        I_Dixon_t2star_224/I_Dixon_t2star_224_opp/I_Dixon_t2star_224_opp
        I_Dixon_t2star_224/I_Dixon_t2star_224_F/I_Dixon_t2star_224_F
        I_Dixon_t2star_224/I_Dixon_t2star_224_W/I_Dixon_t2star_224_W
        I_Dixon_t2star_224/I_Dixon_t2star_224_F_FP/I_Dixon_t2star_224_F_FP
        I_Dixon_t2star_224/I_Dixon_t2star_224_in3/I_Dixon_t2star_224_in3
        I_Dixon_t2star_224/I_Dixon_t2star_224_opp_T2s/I_Dixon_t2star_224_opp_T2s""",
        "i1o2f3w4",
    ),
    "two echoes": ("gre_dixon_e1 + 1\ngre_dixon_e2 + 2", "i2o1"),
    "first echo without a number": ("gre_dixon + 1\ngre_dixon_e2 + 2", "i2o1"),
    "GE LAVA Flex": (
        "InPhase__Ax_LAVA\nOutPhase__Ax_LAVA\nWATER__Ax_LAVA\nFAT__Ax_LAVA",
        "i1o2w3f4",
    ),
    "second run": ("d_in\nd_opp\nd_ina\nd_oppa", "i1o2 i3o4"),
    "a folder per person": (
        "P001/dixon_in\nP001/dixon_opp\nP002/dixon_in\nP002/dixon_opp",
        "i1o2 i3o4",
    ),
    "IN/OUT": ("neck_IN\nneck_OUT", "i1o2"),
    "IP/OP": ("neck_IP\nneck_OP", "i1o2"),
    "BIDS acq-": ("sub-01_acq-in_T1w\nsub-01_acq-opp_T1w", "i1o2"),
    "BIDS echo-": ("sub-01_echo-1_MEGRE + 1\nsub-01_echo-2_MEGRE + 2", "i2o1"),
    "BIDS part-": ("sub-01_part-inphase_dixon\nsub-01_part-outphase_dixon", "i1o2"),
    "two stations": (
        "t1_upper_in\nt1_upper_opp\nt1_lower_in\nt1_lower_opp",
        "i3o4 i1o2",
    ),
    "opposed": ("ax_t1_inphase\nax_t1_opposed", "i1o2"),
    "opp_phase": ("ax_t1_in_phase\nax_t1_opp_phase", "i1o2"),
    "series after s": ("p/IN_PHASE_s005\np/OPP_PHASE_s004", "i1o2"),
    "spaces": ("neck scan in\nneck scan opp", "i1o2"),
    # From public issues and repositories.
    "MuscleMap's BIDS": (
        """sub-ex/ses-abdomen/anat/sub-ex_ses-abdomen_inphase
        sub-ex/ses-abdomen/anat/sub-ex_ses-abdomen_outphase
        sub-ex/ses-abdomen/anat/sub-ex_ses-abdomen_R2star
        sub-ex/ses-abdomen/anat/sub-ex_ses-abdomen_T1w
        sub-ex/ses-abdomen/anat/sub-ex_ses-abdomen_water
        sub-ex/ses-abdomen/anat/sub-ex_ses-abdomen_fat""",
        "i1o2w5f6",
    ),
    "calf and thigh of a person": (
        """Subject_01/Calf/Water\nSubject_01/Calf/Fat
        Subject_01/Calf/In_phase\nSubject_01/Calf/Opp_phase
        Subject_01/Thigh/Water\nSubject_01/Thigh/Fat
        Subject_01/Thigh/In_phase\nSubject_01/Thigh/Opp_phase
        Subject_01/Thigh/mask_muscles""",
        "i3o4w1f2 i7o8w5f6",
    ),
    "stations of PET/MR, and the whole": (
        """features/mri_chunk_0_in_phase\nfeatures/mri_chunk_0_out_phase
        features/mri_combined_in_phase\nfeatures/mri_combined_out_phase
        features/mri_face_mask\nfeatures/nacpet""",
        "i1o2 i3o4",
    ),
    "UK Biobank, stitched": ("100/wat\n100/fat\n100/inp\n100/opp", "i3o4w1f2"),
    "NAKO, VIBESegmentator": (
        """sub-1/vibe/sub-1_sequ-stitched_acq-ax_part-inphase_vibe
        sub-1/vibe/sub-1_sequ-stitched_acq-ax_part-outphase_vibe
        sub-1/vibe/sub-1_sequ-stitched_acq-ax_part-water_vibe
        sub-1/vibe/sub-1_sequ-stitched_acq-ax_part-fat_vibe
        sub-1/vibe/sub-1_sequ-stitched_acq-ax_part-eco0-opp1_vibe""",
        "i1o2w3f4",
    ),
    "Rhineland study": (
        "S1/FatImaging_F\nS1/FatImaging_W\nS1/FatImaging_in\nS1/FatImaging_opp",
        "i3o4w2f1",
    ),
    "FatSegNet with a dot": ("sub-10010.Fat_W\nsub-10010.Fat_F", "w1f2"),
    "CHAOS": ("1/T1DUAL/InPhase\n1/T1DUAL/OutPhase\n1/T2SPIR/t2spir", "i1o2"),
    "CHAOS, labels beside": (
        """images/1_T1DUAL_InPhase\nimages/1_T1DUAL_OutPhase
        labels/1_T1DUAL_InPhase\nlabels/1_T1DUAL_OutPhase""",
        "i1o2",
    ),
    "labels_, a folder per organ": (
        "A1/image_abdomen/mDIXON-All_BH_in_phase\n"
        "A1/image_abdomen/mDIXON-All_BH_out_phase\n"
        "A1/label_liver/mDIXON-All_BH_in_phase",
        "i1o2",
    ),
    "Philips export, number in the middle": (
        """P/20260506_1/MR_Seq._1203_mDIXON_all_W/im
        P/20260506_1/MR_Seq._1206_mDIXON_all_F/im""",
        "w1f2",
    ),
    "a folder per contrast": (
        """T1MDIXON_IP/Patient_1\nT1MDIXON_IP/Patient_2
        T1MDIXON_OP/Patient_1\nT1MDIXON_OP/Patient_2""",
        "i1o3 i2o4",
    ),
    "small letters": (
        "t1_vibe_dixon_nativ_in\nt1_vibe_dixon_nativ_opp\n"
        "t1_vibe_dixon_nativ_w\nt1_vibe_dixon_nativ_f",
        "i1o2w3f4",
    ),
    "distortion corrected (MuscleMap#44)": (
        """t1_dixon_in_COMP_SP_32\nt1_dixon_opp_COMP_SP_33
        t1_dixon_W_COMP_SP_34\nt1_dixon_F_COMP_SP_35""",
        "i1o2w3f4",
    ),
    "GE, Series0009": (
        "WATER__Ax_LAVA_Flex_Series0009\nFAT__Ax_LAVA_Flex_Series0010",
        "w1f2",
    ),
    "GE in brackets": ("Ax_LAVA_Flex_(InPhase)\nAx_LAVA_Flex_(OutPhase)", "i1o2"),
    "Gold Atlas": (
        "MR_T2_InPhase\nMR_T2_OutPhase\nMR_T2_Water\nMR_T2_Fat\nMR_T2",
        "i1o2w3f4",
    ),
    "fat fraction and thresholds beside": (
        "x_ip\nx_op\nx_water\nx_fat\nx_fat_fraction\nx_fat_fraction_thr",
        "i1o2w3f4",
    ),
    "fat saturation beside": (
        "a_IN\na_OPP\nt1_fat_sat\nt1_water_excitation\nt2_fat_suppressed",
        "i1o2",
    ),
    "words in one": ("39/t1inphase\n39/t1outphase", "i1o2"),
    "heudiconv, words in one": (
        """sub-01/anat/sub-01_acq-dixonIN_T1w\nsub-01/anat/sub-01_acq-dixonOPP_T1w
        sub-01/anat/sub-01_acq-dixonWater_T1w\nsub-01/anat/sub-01_acq-dixonFat_T1w
        sub-01/anat/sub-01_T1w""",
        "i1o2w3f4",
    ),
    "heudiconv, one letter": (
        "sub-1_acq-W_run-01_T1w\nsub-1_acq-F_run-01_T1w",
        "w1f2",
    ),
    "XNAT": (
        """E/scans/12-t1_dixon_opp/resources/NIFTI/files/12-t1_dixon_opp
        E/scans/13-t1_dixon_in/resources/NIFTI/files/13-t1_dixon_in""",
        "i2o1",
    ),
    "XNAT, numbers": (
        """E1/scans/12/resources/NIFTI/files/t1_dixon_opp
        E1/scans/13/resources/NIFTI/files/t1_dixon_in
        E2/scans/12/resources/NIFTI/files/t1_dixon_opp
        E2/scans/13/resources/NIFTI/files/t1_dixon_in""",
        "i2o1 i4o3",
    ),
    "XNAT, two runs": (
        """E/scans/12/NIFTI/t1_opp + o@10\nE/scans/13/NIFTI/t1_in + i@10
        E/scans/20/NIFTI/t1_opp + o@19\nE/scans/21/NIFTI/t1_in + i@19""",
        "i2o1 i4o3",
    ),
    "Flywheel": (
        """P/S/12 - t1_in/12 - t1_in\nP/S/13 - t1_opp/13 - t1_opp
        P/S/14 - t1_W/14 - t1_W""",
        "i1o2",
    ),
    "upper case with spaces": ("AX T1 IN PHASE\nAX T1 OUT OF PHASE", "i1o2"),
    "dcm2niix %p_%e_%4s": (
        """t1_vibe_1_0012 + o@10\nt1_vibe_2_0013 + i@10
        t1_vibe_1_0014 + w@10\nt1_vibe_1_0015 + f@10""",
        "i2o1w3f4",
    ),
    "dcm2niix %p, letters for equal names": (
        "t1 + o@10\nt1a + i@10\nt1b + w@10\nt1c + f@10",
        "i2o1w3f4",
    ),
    "dcm2niix %d and the time of the study": (
        """DICOM_t1_dixon_in_20240109101010_13
        DICOM_t1_dixon_opp_20240109101010_12""",
        "i1o2",
    ),
    "UK Biobank's %p_coil%a_echo%e_%2s": (
        "gre_coilHE1-4_echo1_02 + 1\ngre_coilHE1-4_echo2_02 + 2",
        "i2o1",
    ),
    "folders with numbers, roles in side-cars": (
        "S/12/img + o@10\nS/13/img + i@10\nS/20/img + o@19\nS/21/img + i@19",
        "i2o1 i4o3",
    ),
    "names of UIDs": ("1.3.12.2.5.300 + o@10\n1.3.12.2.5.301 + i@10", "i2o1"),
    "dcm2nii of old": (
        """20150109_t1vibedixontraP4in_s004a1001
        20150109_t1vibedixontraP4opp_s003a1001""",
        "i1o2",
    ),
    "mDIXON Quant": ("mDIXON_W\nmDIXON_F\nmDIXON_FF\nmDIXON_T2_STAR", "w1f2"),
    "a woman's": ("P01_F_dixon_e1 + 1\nP01_F_dixon_e2 + 2", "i2o1"),
    "images and masks in one folder": (
        "images_and_masks/a_in\nimages_and_masks/a_opp\nimages_and_masks/a_mask",
        "i1o2",
    ),
    "nnU-Net": ("imagesTr/c_0000\nimagesTr/c_0001\nlabelsTr/c", "i1o2"),
    "one folder per modality of nnU-Net": (
        """images/c1_InPhase_0000\nimages/c1_OutPhase_0000
        labels/c1_InPhase\nlabels/c1_OutPhase""",
        "i1o2",
    ),
    "phase and magnitude": (
        """sub-01_echo-1_part-mag_MEGRE + 1\nsub-01_echo-2_part-mag_MEGRE + 2
        sub-01_echo-1_part-phase_MEGRE + 1\nsub-01_echo-2_part-phase_MEGRE + 2""",
        "i2o1",
    ),
}
REFUSED = {
    # From the review.
    "dcm2niix default, no side-cars": (
        "DICOM_t1_vibe_20240109101010_12\nDICOM_t1_vibe_20240109101010_13",
        "side-cars",
    ),
    "Philips mDIXON (dcm2niix#1022)": (
        "m_e1 + p\nm_e2 + p\nm_e3 + p\nm_e4 + p\nm_e2_real + p",
        "cervjax dicom",
    ),
    "Philips, one echo time (dcm2niix#1022)": (
        "m_e1 + 1\nm_e2 + 1\nm_e3 + 1\nm_e4 + 1",
        "cervjax dicom",
    ),
    "nrrd": ("neck_IN.nrrd\nneck_OPP.nrrd", "neck_IN.nrrd"),
    "DICOM": ("0001.dcm\n0002.dcm", "cervjax dicom"),
    # Others.
    "nothing but drawn masks": (
        "labels/a_IN\nlabels/a_OPP",
        "masks and maps, not read: labels",
    ),
    "fat fraction alone": ("sub-1_FF\nsub-1_dseg", "maps, not read: sub-1_dseg"),
    "numbers that may be people's (MuscleMap#44)": (
        "t1_vibe_dixon_cor2b_f_comp_sp_35\nt1_vibe_dixon_cor2b_w_comp_sp_34",
        "of another person",
    ),
    "numbers before": ("11 AX DIXON_W\n12 AX DIXON_F", "of another person"),
    "two people with one template": ("sub-01_in + i@10\nsub-02_opp + o@10", "partner"),
    "times made anonymous": ("A_1 + i@0\nB_2 + o@0", "no complete scan"),
    "six echoes": (
        "gre_e1 + 1\ngre_e2 + 2\ngre_e3 + 3\ngre_e4 + 4",
        "2 out-of-phase images: gre_e1.nii.gz, gre_e3.nii.gz",
    ),
    "XNAT, two runs without side-cars": (
        """E/scans/12/NIFTI/t1_opp\nE/scans/13/NIFTI/t1_in
        E/scans/20/NIFTI/t1_opp\nE/scans/21/NIFTI/t1_in""",
        "2 out-of-phase images",
    ),
    "water and in-phase": ("sub-1_W\nsub-1_IP", "expected sub-1_OP"),
    "four volumes, numbered": ("dixon_1\ndixon_2\ndixon_3\ndixon_4", "Use the endings"),
    "one file of four volumes": ("p1/mDIXON", "mDIXON.nii.gz"),
    "words that end as roles do": ("dixon_main\ndixon_protein", "no complete scan"),
    "what programs read and write": ("IN/001\nOUT/001", "without a partner"),
}


@pytest.mark.parametrize(("names", "expected"), RIGHT.values(), ids=RIGHT)
def test_right_scans(tmp_path, names, expected):
    lines = [line.strip().partition(" + ")[0] for line in names.splitlines()]
    scans, problems = find_scans(build(tmp_path / "data", names))
    assert problems == []
    found = [
        {r: str(p.relative_to(tmp_path / "data")) for r, p in scan.files.items()}
        for scan in scans
    ]
    assert sorted(found, key=str) == sorted(
        (
            {
                LETTERS[scan[i]]: f"{lines[int(scan[i + 1]) - 1]}.nii.gz"
                for i in sorted(range(0, len(scan), 2), key=lambda i: scan[i] != "i")
            }
            for scan in expected.split()
        ),
        key=lambda scan: str({role: scan[role] for role in ROLES if role in scan}),
    )
    assert len({scan.name for scan in scans}) == len(scans)


@pytest.mark.parametrize(("names", "reason"), REFUSED.values(), ids=REFUSED)
def test_right_refusals(tmp_path, names, reason):
    scans, problems = find_scans(build(tmp_path / "data", names))
    assert scans == []
    assert any(reason in f"{p.message} {p.hint}" for p in problems), problems


def test_side_cars_of_other_studies_are_no_scan(tmp_path):
    for role, study in (("in", "1.2"), ("opp", "1.3")):
        path = tmp_path / f"x_{role}.nii.gz"
        path.touch()
        path.with_name(f"x_{role}.json").write_text(
            json.dumps({"StudyInstanceUID": study})
        )
    scans, problems = find_scans(tmp_path)
    assert scans == [] and "name 2 studies" in problems[0].message
