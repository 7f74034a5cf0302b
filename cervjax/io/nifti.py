"""NIfTI files in and out: geometry, validation, and the way back to the scan's grid.

Inside the package a volume is a float32 array ``(x, y, z)`` in RAS: the index grows
towards the patient's right, front and head. Axes are only flipped and exchanged to
get there, to the closest anatomical direction; an oblique scan is never rotated or
resampled (as NiftyNet).
"""

import gzip
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.openers import ImageOpener
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from nibabel.spatialimages import HeaderDataError

from cervjax.io.files import write_atomically

VOXEL_SIZE_LIMITS_MM = (0.05, 50.0)
FIELD_OF_VIEW_LIMIT_MM = 2000.0
SHEAR_LIMIT = 0.01
SIZE_MISMATCH_LIMIT = 0.01
CORNER_TOLERANCE_MM = 0.1

_RAS = axcodes2ornt(("R", "A", "S"))
_UNREADABLE = (
    ImageFileError,
    HeaderDataError,
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    zlib.error,
    struct.error,
)


class NiftiError(ValueError):
    """A file that cannot be measured; the message names it, the rule and the hint."""


@dataclass(frozen=True)
class NiftiImage:
    """A scan volume in RAS.

    Attributes:
        data: float32 (x, y, z), finite.
        spacing_mm: voxel size along x, y, z: the header's, exact float32 values.
        affine: (4, 4) voxel index to scanner mm, for ``data`` as it lies here.
        orientation: nibabel's orientation of the stored axes, to undo.
        header: the stored NIfTI header, which the labels inherit.
        path: the file.
    """

    data: np.ndarray
    spacing_mm: tuple[float, float, float]
    affine: np.ndarray
    orientation: np.ndarray
    header: Any
    path: Path

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

    @property
    def oblique_degrees(self) -> float:
        """Largest angle between a voxel axis and its anatomical axis."""
        directions = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(np.degrees(np.arccos(np.clip(np.diag(directions), -1, 1)).max()))


def read_nifti(path: str | Path, *, may_be_constant: bool = False) -> NiftiImage:
    """Reads a 3-D NIfTI scan into RAS float32.

    Scale factors are applied; a slope of 0 or NaN means none (legal NIfTI).

    Args:
        path: the file.
        may_be_constant: accept one value everywhere, such as a mask without a muscle.

    Raises:
        NiftiError: unreadable or truncated; not NIfTI; not 3-D; complex or colour;
            NaN or Inf; constant; voxel size outside `VOXEL_SIZE_LIMITS_MM` or not as
            the affine says; affine missing, singular or sheared; qform and sform
            that disagree on orientation.
    """
    path = Path(path)
    image, header = _load(path)
    affine = _checked_affine(image, header, path)
    data = _checked_data(image, path)
    if not may_be_constant and data.min() == data.max():
        raise NiftiError(
            f"{path}: empty scan, every voxel has the value {data.flat[0]:g}"
        )
    orientation = io_orientation(affine)
    zooms = np.abs(header["pixdim"][1:4]).astype(float)
    spacing = tuple(zooms[np.argsort(orientation[:, 0])].tolist())
    data = np.ascontiguousarray(apply_orientation(data, orientation))
    ras_affine = affine @ inv_ornt_aff(orientation, image.shape[:3])
    return NiftiImage(data, spacing, ras_affine, orientation, header, path)


def check_same_grid(first: NiftiImage, second: NiftiImage) -> None:
    """Two volumes of one scan must share a grid; nothing is ever registered.

    Raises:
        NiftiError: shapes differ, or a corner voxel lies more than
            `CORNER_TOLERANCE_MM` apart.
    """
    names = f"{first.path} and {second.path}"
    if first.data.shape != second.data.shape:
        raise NiftiError(
            f"{names}: a pair must have one shape, these have {first.data.shape} and "
            f"{second.data.shape} (RAS order); check that both are of the same scan"
        )
    last = np.array(first.data.shape) - 1
    corners = np.stack(np.meshgrid(*[(0, n) for n in last], indexing="ij"), -1)
    corners = np.c_[corners.reshape(-1, 3), np.ones(8)]
    gap = np.abs(corners @ (first.affine - second.affine).T).max()
    if gap > CORNER_TOLERANCE_MM:
        raise NiftiError(
            f"{names}: a pair must have one affine, these lie up to {gap:.2f} mm apart "
            f"(tolerance {CORNER_TOLERANCE_MM} mm); check that both are of the same "
            "scan, or resample one onto the other"
        )


def to_stored_orientation(data: np.ndarray, like: NiftiImage) -> np.ndarray:
    """Brings a RAS array back to the axes of the file ``like`` was read from."""
    return apply_orientation(data, ornt_transform(_RAS, like.orientation))


def write_labels(path: str | Path, labels: np.ndarray, like: NiftiImage) -> None:
    """Writes a RAS label map as uint8 on the grid of the scan, atomically.

    Args:
        path: ``.nii`` or ``.nii.gz``.
        labels: uint8 (x, y, z), RAS, the shape of ``like.data``.
        like: the scan; its qform, sform, codes and units are kept bit for bit.
    """
    header = like.header.copy()
    header.set_data_dtype(np.uint8)
    header.set_data_shape(labels.shape)
    header.set_slope_inter(1, 0)
    header.set_intent("label", name="cervjax muscles")
    header["descrip"] = b"cervjax: labels of Weber et al. 2021, Table 1"
    header["cal_min"], header["cal_max"], header["aux_file"] = 0, 0, b""
    stored = np.ascontiguousarray(to_stored_orientation(labels, like))
    image = type(like.header)  # Nifti1 or Nifti2: the labels' file is of the same kind
    make = nib.Nifti2Image if image is nib.Nifti2Header else nib.Nifti1Image
    content = make(stored.astype(np.uint8), None, header).to_bytes()
    if str(path).endswith(".gz"):
        content = gzip.compress(content, 6, mtime=0)
    write_atomically(path, lambda part: part.write_bytes(content))


def _load(path: Path) -> tuple[Any, Any]:
    """The image, and its header as stored (nibabel repairs bad headers silently).

    Any, because nibabel's annotations do not know what a NIfTI image has.
    """
    try:
        image = nib.load(path)
    except FileNotFoundError:
        raise NiftiError(f"{path}: no such file") from None
    except _UNREADABLE as error:
        raise NiftiError(
            f"{path}: not readable as NIfTI ({_first_line(error)}); "
            "convert it again from DICOM, or copy it again"
        ) from error
    if not isinstance(image, nib.Nifti1Image):
        raise NiftiError(
            f"{path}: must be NIfTI (.nii, .nii.gz), got {type(image).__name__}"
        )
    with ImageOpener(str(path)) as stream:
        header = type(image.header).from_fileobj(stream, check=False)
    return image, header


def _checked_data(image: Any, path: Path) -> np.ndarray:
    shape = image.shape
    if len(shape) < 3 or any(n != 1 for n in shape[3:]):
        raise NiftiError(
            f"{path}: must be a 3-D volume, got shape {shape}; "
            "a 4-D file must be split into one file per echo or contrast"
        )
    if min(shape[:3]) < 2:
        raise NiftiError(
            f"{path}: every axis needs at least 2 voxels, got shape {shape}"
        )
    if image.get_data_dtype().kind not in "iuf":
        raise NiftiError(
            f"{path}: must hold real numbers, got {image.get_data_dtype()}; "
            "give magnitude images"
        )
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            data = np.asanyarray(image.dataobj).astype(np.float32)
    except _UNREADABLE as error:
        raise NiftiError(
            f"{path}: its data cannot be read, the file is probably cut short "
            f"({_first_line(error)}); copy or convert it again"
        ) from error
    data = data.reshape(shape[:3])
    bad = data.size - int(np.isfinite(data).sum())
    if bad:
        raise NiftiError(
            f"{path}: values must be finite, {bad} of {data.size} voxels are NaN, "
            "infinite or too large; look at the scale factors (scl_slope, scl_inter)"
        )
    return data


def _checked_affine(image: Any, header: Any, path: Path) -> np.ndarray:
    sizes = header["pixdim"][1:4].astype(float)
    low, high = VOXEL_SIZE_LIMITS_MM
    if not np.all((sizes >= low) & (sizes <= high)):
        raise NiftiError(
            f"{path}: voxel size must lie within {low:g}-{high:g} mm, "
            f"the header says {_triple(sizes)}"
        )
    extent = np.array(image.shape[:3]) * sizes[: len(image.shape[:3])]
    if extent.max() > FIELD_OF_VIEW_LIMIT_MM:
        raise NiftiError(
            f"{path}: field of view of {_triple(extent)} mm is not a scan; "
            "look at the voxel size in the header"
        )
    if header["qform_code"] <= 0 and header["sform_code"] <= 0:
        raise NiftiError(
            f"{path}: the header has no orientation (qform_code and sform_code are "
            "0), so left and right cannot be known; convert again from DICOM"
        )
    affine = image.affine
    columns = affine[:3, :3]
    norms = np.linalg.norm(columns, axis=0)
    if not np.all(np.isfinite(affine)) or np.any(norms < 1e-6):
        raise NiftiError(f"{path}: singular affine {columns.tolist()}")
    cosines = (columns / norms).T @ (columns / norms) - np.eye(3)
    if abs(np.linalg.det(columns / norms)) < 0.5 or np.abs(cosines).max() > SHEAR_LIMIT:
        raise NiftiError(
            f"{path}: singular or sheared affine (axes must be at right angles, cosine "
            f"up to {np.abs(cosines).max():.3f}, allowed {SHEAR_LIMIT}); resample the "
            "scan onto an orthogonal grid"
        )
    if np.abs(norms / sizes - 1).max() > SIZE_MISMATCH_LIMIT:
        raise NiftiError(
            f"{path}: voxel size is {_triple(sizes)} mm in the header but "
            f"{_triple(norms)} mm in the affine; volumes would be wrong, convert again"
        )
    if header["qform_code"] > 0 and header["sform_code"] > 0:
        codes = [
            nib.aff2axcodes(form)
            for form in (image.header.get_qform(), image.header.get_sform())
        ]
        if codes[0] != codes[1]:
            raise NiftiError(
                f"{path}: qform says {''.join(codes[0])}, sform says "
                f"{''.join(codes[1])}: left and right cannot be trusted; "
                "convert again from DICOM"
            )
    return affine


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _triple(values: np.ndarray) -> str:
    return " x ".join(f"{v:g}" for v in values)
