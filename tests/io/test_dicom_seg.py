"""DICOM segmentations, read back by other programs: voxels, sides, nobody's name."""

import json

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom", reason="needs the extra dicom")
highdicom = pytest.importorskip("highdicom", reason="needs the extra dicom")

from conftest import save_nifti  # noqa: E402
from dicom_files import (  # noqa: E402
    NAME,
    PATIENT_ID,
    SECRETS,
    affine_ras,
    classic,
    enhanced,
    study,
)

from cervjax.anatomy import MUSCLES  # noqa: E402
from cervjax.cli.main import main  # noqa: E402
from cervjax.io.dicom_frames import DicomError  # noqa: E402
from cervjax.io.dicom_scans import find_dicom_scans  # noqa: E402
from cervjax.io.dicom_seg import Drawn, write_seg  # noqa: E402
from cervjax.io.files import sha256_of_file  # noqa: E402

KEY = b"0123456789abcdef"
SHAPE = (12, 10, 6)  # columns, rows, slices
WEIGHTS = "ab" * 32


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """Oblique series of one person, classic and enhanced, slices in any order."""
    folder = tmp_path_factory.mktemp("export")
    rng = np.random.default_rng(0)
    images = {r: rng.integers(1, 900, SHAPE) for r in ("in_phase", "out_phase")}
    paths = classic(folder / "classic", study(), images)
    for new, old in enumerate(rng.permutation(len(paths))):
        paths[old].rename(paths[old].with_name(f"IM_{new}"))
    enhanced(folder / "enhanced" / "IM_1", study(), images, rng.permutation(12))
    return folder


@pytest.fixture(scope="module")
def mask(tmp_path_factory):
    """Labels 0-13 in blocks no flip maps onto themselves, stored along other axes."""
    labels = np.random.default_rng(1).integers(0, 14, SHAPE).astype(np.uint8)
    labels[:, :, 0] = 0  # a slice without any muscle
    flipped = affine_ras() @ np.array(
        [[0, -1, 0, SHAPE[0] - 1], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]
    )  # of (row, column from the other end, slice)
    folder = tmp_path_factory.mktemp("mask")
    stored = labels.transpose(1, 0, 2)[:, ::-1]
    save_nifti(folder / "m_dseg.nii.gz", stored, flipped)
    return labels, folder / "m_dseg.nii.gz"


def scan_in(folder, *, keep_ids=False):
    (scan,), problems, _ = find_dicom_scans(folder, KEY, keep_ids=keep_ids)
    assert not problems
    return scan


def voxels(seg):
    """Segment, and place in the scanner (RAS), of each marked pixel; pydicom alone."""
    shared = seg.SharedFunctionalGroupsSequence[0]
    pixels = seg.pixel_array.reshape(-1, seg.Rows, seg.Columns)
    spacing = [float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing]
    way = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    row, column = np.reshape([float(v) for v in way], (2, 3))
    found = []
    groups = seg.PerFrameFunctionalGroupsSequence
    for image, group in zip(pixels, groups, strict=True):
        place = group.PlanePositionSequence[0].ImagePositionPatient
        for r, c in np.argwhere(image):
            lps = np.array([float(v) for v in place])
            lps = lps + c * row * spacing[1] + r * column * spacing[0]
            number = image[r, c]
            if seg.SegmentationType == "BINARY":
                number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            found.append((*np.round(lps * (-1, -1, 1), 2) + 0.0, int(number)))
    return sorted(found)


def expected(labels):
    index = np.argwhere(labels)
    places = index @ affine_ras()[:3, :3].T + affine_ras()[:3, 3]
    values = labels[tuple(index.T)]
    return sorted(
        (*np.round(p, 2) + 0.0, int(v)) for p, v in zip(places, values, strict=True)
    )


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
@pytest.mark.parametrize("source", ["classic", "enhanced"])
def test_every_voxel_is_where_it_was(tmp_path, export, mask, source, kind):
    labels, path = mask
    drawn = Drawn("network", "9.9", WEIGHTS)
    write_seg(tmp_path / "a.dcm", path, scan_in(export / source), KEY, drawn, kind=kind)
    seg = pydicom.dcmread(tmp_path / "a.dcm")
    np.testing.assert_allclose(voxels(seg), expected(labels), atol=0.011)
    again = highdicom.seg.segread(tmp_path / "a.dcm")
    volume = again.get_volume(combine_segments=True)
    index = np.argwhere(volume.array)
    ras = (index @ volume.affine[:3, :3].T + volume.affine[:3, 3]) * (-1, -1, 1)
    by_highdicom = sorted(
        (*np.round(p, 2) + 0.0, int(v))
        for p, v in zip(ras, volume.array[tuple(index.T)], strict=True)
    )
    np.testing.assert_allclose(by_highdicom, expected(labels), atol=0.011)


def test_segments_name_muscle_side_and_algorithm(tmp_path, export, mask):
    drawn = Drawn("network", "9.9", WEIGHTS)
    write_seg(tmp_path / "a.dcm", mask[1], scan_in(export / "classic"), KEY, drawn)
    seg = pydicom.dcmread(tmp_path / "a.dcm")
    assert [s.SegmentNumber for s in seg.SegmentSequence] == list(range(1, 15))
    sides = {"7771000": "left", "24028007": "right"}
    known = {"SCM": "22823000", "TR": "31764008", "SSCap": "2666009"}
    for m, segment in zip(MUSCLES, seg.SegmentSequence, strict=True):
        assert m.key in segment.SegmentLabel and m.side in segment.SegmentLabel
        kind = segment.SegmentedPropertyTypeCodeSequence[0]
        side = kind.SegmentedPropertyTypeModifierCodeSequence[0]
        assert sides[side.CodeValue] == m.side == side.CodeMeaning.lower()
        assert kind.CodeValue == known.get(m.abbreviation, "81727001")
        assert kind.CodingSchemeDesignator == side.CodingSchemeDesignator == "SCT"
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == (
            "cervjax",
            "9.9",
        )
        assert WEIGHTS in algorithm.AlgorithmParameters


@pytest.mark.parametrize("by", ["edited", "given"])
def test_masks_that_no_network_drew_say_so(tmp_path, export, mask, by):
    write_seg(tmp_path / "a.dcm", mask[1], scan_in(export / "classic"), KEY, Drawn(by))
    segment = pydicom.dcmread(tmp_path / "a.dcm").SegmentSequence[0]
    assert segment.SegmentAlgorithmType == "SEMIAUTOMATIC"
    (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
    assert algorithm.AlgorithmName.startswith("not known") is (by == "given")


def uids(folder):
    headers = [pydicom.dcmread(p) for p in folder.rglob("IM_*")]
    names = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
    names += ("FrameOfReferenceUID",)
    return {str(h[name].value) for h in headers for name in names}


@pytest.mark.parametrize("source", ["classic", "enhanced"])
def test_nobodys_name_nor_uid_is_in_it(tmp_path, export, mask, source):
    scan = scan_in(export / source)
    contents = []
    for name in "ab":
        write_seg(tmp_path / name, mask[1], scan, KEY, Drawn("network"))
        contents.append((tmp_path / name).read_bytes())
    told = [*SECRETS, "20240506", *uids(export / source)]
    assert not [word for word in told if word.encode() in contents[0]]
    seg, again = (pydicom.dcmread(tmp_path / name) for name in "ab")
    assert seg.PatientID == scan.name.partition("_")[0] != PATIENT_ID
    assert seg.StudyInstanceUID == again.StudyInstanceUID  # the same for one key
    assert seg.SOPInstanceUID != again.SOPInstanceUID


@pytest.mark.parametrize("source", ["classic", "enhanced"])
def test_with_keep_ids_it_belongs_to_the_visit(tmp_path, export, mask, source):
    """And each of its frames refers to the image that lies there."""
    scan = scan_in(export / source, keep_ids=True)
    path = tmp_path / "a.dcm"
    write_seg(path, mask[1], scan, KEY, Drawn("network"), keep_ids=True)
    seg = pydicom.dcmread(path)
    assert (seg.PatientID, str(seg.PatientName)) == (PATIENT_ID, NAME)
    headers = {}
    for file in (export / source).rglob("IM_*"):
        header = pydicom.dcmread(file)
        headers[header.SOPInstanceUID] = header
    first = next(iter(headers.values()))
    for name in ("StudyInstanceUID", "FrameOfReferenceUID", "StudyDate"):
        assert seg[name].value == first[name].value
    referred = set()
    for group in seg.PerFrameFunctionalGroupsSequence:
        (item,) = group.DerivationImageSequence[0].SourceImageSequence
        header = headers[item.ReferencedSOPInstanceUID]
        assert item.ReferencedSOPClassUID == header.SOPClassUID
        referred.add(item.ReferencedSOPInstanceUID)
        if source == "enhanced":
            frame = header.PerFrameFunctionalGroupsSequence[
                item.ReferencedFrameNumber - 1
            ]
            assert frame.MRImageFrameTypeSequence[0].FrameType[3] == "IN_PHASE"
            place = frame.PlanePositionSequence[0].ImagePositionPatient
        else:
            place = header.ImagePositionPatient
        own = group.PlanePositionSequence[0].ImagePositionPatient
        np.testing.assert_allclose(own, place, atol=1e-6)
    series = seg.ReferencedSeriesSequence[0]
    listed = [i.ReferencedSOPInstanceUID for i in series.ReferencedInstanceSequence]
    assert referred <= set(listed) and len(listed) == len(set(listed))
    assert series.SeriesInstanceUID == headers[listed[0]].SeriesInstanceUID


def test_a_mask_of_another_place_is_refused(tmp_path, export, mask):
    labels, _ = mask
    moved = affine_ras()
    moved[0, 3] += 0.4
    away = save_nifti(tmp_path / "m.nii.gz", labels, moved)
    scan = scan_in(export / "classic")
    with pytest.raises(DicomError, match=r"m\.nii\.gz: does not lie on the slices"):
        write_seg(tmp_path / "a.dcm", away, scan, KEY, Drawn("network"))
    longer = np.concatenate([labels, labels[:, :, :1] + 1], axis=2)
    more = save_nifti(tmp_path / "l.nii.gz", longer, affine_ras())
    with pytest.raises(DicomError, match="muscles where the series has no slice"):
        write_seg(tmp_path / "a.dcm", more, scan, KEY, Drawn("network"))
    assert not (tmp_path / "a.dcm").exists()


def test_the_command_goes_by_the_side_car(tmp_path, export, mask, capsys):
    """One scan has a result, the other has none: one line, and exit status 1."""
    key = tmp_path / "key"
    key.write_bytes(KEY)
    results = tmp_path / "out"
    name = scan_in(export / "classic").name
    (results / "nifti").mkdir(parents=True)
    path = results / f"{name}_dseg.nii.gz"
    path.write_bytes(mask[1].read_bytes())
    content = {"GeneratedBy": [{"Name": "cervjax", "Version": "9.9"}], "Scan": name}
    content |= {"MaskSource": "network", "DrawnBy": WEIGHTS, "Identity": {}}
    content |= {"Files": {path.name: sha256_of_file(path)}, "Executed": {}}
    (results / f"{name}_dseg.json").write_text(json.dumps(content))
    flags = ["--pseudonym-key", str(key)]
    assert main(["dicom-seg", str(results), str(export / "classic"), *flags]) == 0
    seg = pydicom.dcmread(results / f"{name}_seg.dcm")
    assert seg.SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"
    assert seg.SoftwareVersions == "9.9"
    assert main(["dicom-seg", str(results), str(export), *flags]) == 1
    printed = capsys.readouterr()
    assert "no result in" in printed.err
    assert not [word for word in SECRETS if word in printed.out + printed.err]
    mine = results / f"{name}_seg.dcm"
    mine.write_bytes(b"mine")
    assert main(["dicom-seg", str(results), str(export / "classic"), *flags]) == 1
    assert mine.read_bytes() == b"mine" and mine.name in capsys.readouterr().err
