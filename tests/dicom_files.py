"""DICOM Dixon images made for tests; headers are synthetic, pixels are the caller's."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

NAME, PATIENT_ID, BORN = "Quillfeather^Zebulon", "HOSP-7741-X", "19410203"
SECRETS = ("Quillfeather", "Zebulon", "HOSP-7741", "19410203", "Drwhosit", "KingsArms")
TYPES = {"in_phase": "IN_PHASE", "out_phase": "OPP_PHASE", "water": "WATER"}
TYPES["fat"] = "FAT"
SPACING_MM = (1.5, 1.25, 4.0)
"""Along a row, down a column, between slices."""

# An oblique axial slice: turned about two axes. Row and column directions, LPS.
ROW = np.array([np.cos(0.1), np.sin(0.1), 0.0])
COLUMN = np.cross([0.0, np.sin(0.05), np.cos(0.05)], ROW)
COLUMN /= np.linalg.norm(COLUMN)
ORIGIN = np.array([-20.0, -31.0, -12.0])


def affine_ras(tilt_mm: float = 0.0) -> np.ndarray:
    """Of voxel (column, row, slice), by the formula of DICOM PS3.3 C.7.6.2.1.1."""
    affine = np.eye(4)
    normal = np.cross(ROW, COLUMN)
    step = normal * SPACING_MM[2] + COLUMN * tilt_mm
    columns = (ROW * SPACING_MM[0], COLUMN * SPACING_MM[1], step)
    affine[:3, :3] = np.stack(columns, axis=1)
    affine[:3, 3] = ORIGIN
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def study(patient: str = PATIENT_ID, name: str = NAME, time: str = "101500") -> Dataset:
    """The attributes that all images of a person's visit share."""
    common = Dataset()
    common.PatientName, common.PatientID, common.PatientBirthDate = name, patient, BORN
    common.ReferringPhysicianName = "Drwhosit^A"
    common.InstitutionName, common.ImageComments = "KingsArms", name
    common.StudyInstanceUID, common.StudyDate = generate_uid(), "20240506"
    common.FrameOfReferenceUID = generate_uid()
    common.AcquisitionDate, common.AcquisitionTime = "20240506", time
    common.Modality, common.MagneticFieldStrength = "MR", 3.0
    common.Manufacturer, common.PatientPosition = "SIEMENS", "HFS"
    return common


def classic(
    folder: Path,
    common: Dataset,
    images: dict[str, np.ndarray],
    *,
    number: int = 5,
    tilt_mm: float = 0.0,
    **extra,
) -> list[Path]:
    """A series per role of one-slice files; images are (column, row, slice), uint16."""
    paths = []
    folder.mkdir(parents=True, exist_ok=True)
    for k, (role, image) in enumerate(images.items()):
        series = generate_uid()
        for z in range(image.shape[2]):
            ds = _pixels(image[:, :, z].T[None], MRImageStorage)
            ds.update(common)
            ds.SeriesInstanceUID, ds.SeriesNumber = series, number + k
            ds.InstanceNumber = z + 1
            ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "DIXON", TYPES[role]]
            ds.EchoTime = 2.46 if role == "in_phase" else 1.23
            geometry(ds, z, tilt_mm)
            for key, value in extra.items():
                setattr(ds, key, value)
            paths.append(folder / f"Quillfeather_{number + k}_{z:03d}")
            ds.save_as(paths[-1], enforce_file_format=True)
    return paths


def enhanced(
    path: Path, common: Dataset, images: dict[str, np.ndarray], order: np.ndarray
) -> Path:
    """One file with the frames of all roles, in the order given."""
    frames = [
        (role, z, image[:, :, z].T)
        for role, image in images.items()
        for z in range(image.shape[2])
    ]
    frames = [frames[i] for i in order]
    ds = _pixels(np.stack([f for _, _, f in frames]), EnhancedMRImageStorage)
    ds.update(common)
    del ds.AcquisitionTime
    ds.AcquisitionDateTime = "20240506101500"
    ds.SeriesInstanceUID, ds.SeriesNumber, ds.InstanceNumber = generate_uid(), 7, 1
    ds.ImageType = ["ORIGINAL", "PRIMARY", "DIXON", "MIXED"]
    ds.PerFrameFunctionalGroupsSequence = Sequence()
    for role, z, _ in frames:
        kind, echo, place, plane, size = (Dataset() for _ in range(5))
        kind.FrameType = ["ORIGINAL", "PRIMARY", "DIXON", TYPES[role]]
        kind.ComplexImageComponent = "MAGNITUDE"
        echo.EffectiveEchoTime = 2.46 if role == "in_phase" else 1.23
        whole = Dataset()
        geometry(whole, z, 0.0)
        place.ImagePositionPatient = whole.ImagePositionPatient
        plane.ImageOrientationPatient = whole.ImageOrientationPatient
        size.PixelSpacing, size.SliceThickness = whole.PixelSpacing, SPACING_MM[2]
        group = Dataset()
        group.MRImageFrameTypeSequence = Sequence([kind])
        group.MREchoSequence = Sequence([echo])
        group.PlanePositionSequence = Sequence([place])
        group.PlaneOrientationSequence = Sequence([plane])
        group.PixelMeasuresSequence = Sequence([size])
        ds.PerFrameFunctionalGroupsSequence.append(group)
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def geometry(ds: Dataset, z: int, tilt_mm: float) -> None:
    normal = np.cross(ROW, COLUMN)
    position = ORIGIN + z * (normal * SPACING_MM[2] + COLUMN * tilt_mm)
    ds.ImagePositionPatient = [f"{x:.9g}" for x in position]
    ds.ImageOrientationPatient = [f"{x:.9g}" for x in (*ROW, *COLUMN)]
    ds.PixelSpacing = [str(SPACING_MM[1]), str(SPACING_MM[0])]
    ds.SliceThickness = str(SPACING_MM[2])


def _pixels(frames: np.ndarray, kind) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = kind
    ds.SOPInstanceUID = generate_uid()
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    if kind == EnhancedMRImageStorage:
        ds.NumberOfFrames = len(frames)
    ds.Rows, ds.Columns = frames.shape[1:]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 0
    ds.PixelData = frames.astype(np.uint16).tobytes()
    return ds
