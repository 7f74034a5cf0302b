"""DICOM to NIfTI by dcm2niix, from files without a word about the patient.

Of each slice a file with pixels, geometry and echo is written, and nothing else: what
is not on the list cannot leak.
"""

import json
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine

from cervjax.io.dicom_frames import DicomError, Frame, silent
from cervjax.io.dicom_scans import DicomScan, Stack
from cervjax.io.nifti import write_volume
from cervjax.io.scans import Problem, Scan
from cervjax.io.written import OthersFileError, written_together

_MAX_ZIP_GB = 50
_CORNER_TOLERANCE_MM = 0.1
_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])


def convert_scan(scan: DicomScan, out: Path) -> Scan | Problem:
    """Writes the images of a scan as NIfTI, with small side-cars.

    Args:
        scan: in DICOM.
        out: folder for ``<name>_inphase.nii.gz`` and so on; made if need be.

    Returns:
        The scan, or what is wrong; neither names the DICOM files.
    """
    try:
        with written_together(out, record=False) as new:
            names = [
                _written(new, scan, role, scan.stacks[role]) for role in scan.stacks
            ]
    except DicomError as error:
        hint = "Export the series again, uncompressed."
        return Problem(scan.name, (), str(error), hint)
    except OthersFileError as error:
        return Problem(scan.name, (), str(error), "Nothing of others is replaced.")
    return Scan(
        scan.name, **{r: out / n for r, n in zip(scan.stacks, names, strict=True)}
    )


def _written(out: Path, scan: DicomScan, role: str, stack: Stack) -> str:
    """Writes one image and its side-car; the image's name."""
    try:
        data, affine = _converted(stack)
    except DicomError as error:
        raise DicomError(f"{role}: {error}") from error
    stem = f"{scan.name}_{role.replace('_', '')}"
    write_volume(out / f"{stem}.nii.gz", data, affine)
    sidecar = {"ConversionSoftware": "dcm2niix"} | _known(stack.frames[0])
    (out / f"{stem}.json").write_text(json.dumps(sidecar, indent=1) + "\n", "utf-8")
    return f"{stem}.nii.gz"


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The folder of an archive's files, for as long as they are needed.

    Raises:
        ValueError: it is no ZIP file, damaged, encrypted, or very large.
    """
    with tempfile.TemporaryDirectory(prefix="cervjax-") as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                size_gb = sum(info.file_size for info in archive.infolist()) / 1e9
                if size_gb > _MAX_ZIP_GB:
                    raise ValueError(f"{size_gb:.0f} GB, unpack it and give the folder")
                archive.extractall(folder)
        except (zipfile.BadZipFile, RuntimeError, ValueError, OSError) as error:
            what = str(error) if type(error) is ValueError else type(error).__name__
            raise ValueError(f"the archive cannot be unpacked: {what}") from None
        yield Path(folder)


def _known(frame: Frame) -> dict[str, float]:
    found = {
        "EchoTime": round(frame.echo_time_ms / 1000, 6),
        "MagneticFieldStrength": frame.field_t,
    }
    return {key: value for key, value in found.items() if np.isfinite(value)}


def _converted(stack: Stack) -> tuple[np.ndarray, np.ndarray]:
    """Voxels (x, y, z) in RAS, and affine.

    Raises:
        DicomError: pixels cannot be read, or dcm2niix does not give this image.
    """
    with tempfile.TemporaryDirectory(prefix="cervjax-") as folder:
        source, target = Path(folder, "in"), Path(folder, "out")
        source.mkdir()
        target.mkdir()
        with silent():
            _write_slices(stack, source)
        import dcm2niix

        command = [dcm2niix.bin, "-b", "n", "-z", "n", "-m", "y", "-f", "image"]
        done = subprocess.run(
            [*map(str, command), "-o", str(target), str(source)], capture_output=True
        )
        written = sorted(target.glob("*.nii"))
        if done.returncode or len(written) != 1:
            raise DicomError(
                f"dcm2niix made {len(written)} images of one series (status "
                f"{done.returncode})"
            )
        image = nib.as_closest_canonical(nib.load(written[0]))
        data, affine = np.asanyarray(image.dataobj), image.affine
    if not _same_corners(stack, data.shape, affine):
        raise DicomError("dcm2niix put the image elsewhere than its header says")
    return data, affine


def _write_slices(stack: Stack, folder: Path) -> None:
    from pydicom import dcmread

    opened: dict[Path, Any] = {}
    study, series = _uid(), _uid()
    scales = set()
    for i, frame in enumerate(stack.frames):
        if frame.path not in opened:
            opened.clear()  # frames of one file come together, or the files are small
            opened[frame.path] = dcmread(frame.path)
        whole = opened[frame.path]
        try:
            pixels = whole.pixel_array
        except Exception as error:  # every decoder has errors of its own
            syntax = whole.file_meta.TransferSyntaxUID.name
            raise DicomError(
                f"its pixels cannot be read ({type(error).__name__}, {syntax})"
            ) from None
        if frame.index is not None and pixels.ndim == 3:
            pixels = pixels[frame.index]
        if pixels.shape != frame.shape:
            raise DicomError(f"pixels of shape {pixels.shape}, not {frame.shape}")
        if pixels.min() < -(2**15) or pixels.max() >= 2**16:
            raise DicomError("pixels of more than 16 bits")
        scales.add(_rescale(whole, frame.index))
        if len(scales) > 1:
            raise DicomError(f"slices are scaled differently ({sorted(scales)})")
        plain = _plain(frame, i, pixels, max(scales))
        plain.StudyInstanceUID, plain.SeriesInstanceUID = study, series
        plain.FrameOfReferenceUID = study
        plain.save_as(folder / f"{i:05d}.dcm", enforce_file_format=True)


def _uid() -> Any:
    from pydicom.uid import generate_uid

    return generate_uid()


def _rescale(whole: Any, index: int | None) -> tuple[float, float]:
    place = whole
    if index is not None:
        groups = whole.PerFrameFunctionalGroupsSequence[index]
        shared = (whole.get("SharedFunctionalGroupsSequence") or [{}])[0]
        name = "PixelValueTransformationSequence"
        place = (groups.get(name) or shared.get(name) or [whole])[0]
    return float(place.get("RescaleSlope", 1)), float(place.get("RescaleIntercept", 0))


def _plain(frame: Frame, i: int, pixels: np.ndarray, rescale: tuple) -> Any:
    """A classic MR image of nothing but pixels, geometry and echo."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = MRImageStorage
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = _uid()
    image.Modality, image.Manufacturer = "MR", "none"
    image.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    image.SeriesNumber = image.AcquisitionNumber = 1
    image.InstanceNumber = i + 1
    image.PatientPosition = "HFS"
    if np.isfinite(frame.echo_time_ms):
        image.EchoTime = f"{frame.echo_time_ms:g}"
    image.ImagePositionPatient = [f"{x:.10g}" for x in frame.position_mm]
    image.ImageOrientationPatient = [f"{x:.10g}" for x in frame.orientation]
    image.PixelSpacing = [f"{x:.10g}" for x in frame.spacing_mm[:2]]
    image.SliceThickness = f"{frame.spacing_mm[2]:.10g}"
    image.Rows, image.Columns = frame.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    signed = int(pixels.min() < 0)
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation = 15, signed
    image.RescaleSlope, image.RescaleIntercept = (f"{x:.14g}" for x in rescale)
    image.PixelData = pixels.astype(np.int16 if signed else np.uint16).tobytes()
    return image


def _same_corners(stack: Stack, shape: tuple[int, ...], affine: np.ndarray) -> bool:
    """Whether image and headers have the same eight corners, in any order."""
    first, last = stack.frames[0], stack.frames[-1]
    row, column = np.reshape(first.orientation, (2, 3))
    down, across = first.spacing_mm[:2]
    rows, columns = first.shape
    ends = [
        (
            np.array(p)
            + a * row * across * (columns - 1)
            + b * column * down * (rows - 1)
        )
        * _LPS_TO_RAS
        for p in (first.position_mm, last.position_mm)
        for a in (0, 1)
        for b in (0, 1)
    ]
    indices = np.stack(np.meshgrid(*[(0, n - 1) for n in shape[:3]]), -1).reshape(-1, 3)
    found = apply_affine(affine, indices)
    away = np.linalg.norm(np.array(ends)[:, None] - found[None], axis=-1).min(1)
    return bool((away < _CORNER_TOLERANCE_MM).all())
