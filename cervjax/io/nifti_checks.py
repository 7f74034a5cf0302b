"""What a NIfTI file must be like to be measured; every refusal tells what to do."""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

import nibabel as nib
import numpy as np
from jaxtyping import Float, Float32
from nibabel.filebasedimages import ImageFileError
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError

VOXEL_SIZE_LIMITS_MM = (0.05, 50.0)
FIELD_OF_VIEW_LIMIT_MM = 2000.0
SHEAR_LIMIT = 0.01
SIZE_MISMATCH_LIMIT = 0.01

LARGEST_VOXELS = 200_000_000
"""More are no scan of a neck, and would not fit into memory either."""
_GZIP_AT_MOST = 1032  # times its size, a gzip file can hold
_PIECE = 1 << 20
_MM = ("unknown", "mm")

UNREADABLE = (
    ImageFileError,
    HeaderDataError,
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    TypeError,
    KeyError,
    MemoryError,
    ExpatError,
    np.linalg.LinAlgError,
    zlib.error,
    struct.error,
)
"""What nibabel and NumPy raise of damaged files."""


class NiftiError(ValueError):
    """A file that cannot be measured; the message names it, the rule and the hint."""


def load(path: Path) -> tuple[Any, Any]:
    """The image, and its header as stored (nibabel repairs bad headers silently).

    Any, because nibabel's annotations do not know what a NIfTI image has.

    Raises:
        NiftiError: there is no such file, or it is not NIfTI.
    """
    try:
        image = nib.load(path)
    except FileNotFoundError:
        raise NiftiError(f"{path}: no such file") from None
    except UNREADABLE as error:
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


def checked_data(image: Any, path: Path) -> Float32[np.ndarray, "x y z"]:
    """The voxels, scaled: float32 (x, y, z) along the stored axes.

    Raises:
        NiftiError: not 3-D, one voxel along an axis, not real numbers, cut short, not
            finite.
    """
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
    _check_size(image, path)
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            data = np.asanyarray(image.dataobj).astype(np.float32)
        _check_sum(image, path)
    except UNREADABLE as error:
        raise NiftiError(
            f"{path}: its data cannot be read, the file is probably cut short or "
            f"damaged ({_first_line(error)}); copy or convert it again"
        ) from error
    data = data.reshape(shape[:3])
    bad = data.size - int(np.isfinite(data).sum())
    if bad:
        raise NiftiError(
            f"{path}: values must be finite, {bad} of {data.size} voxels are NaN, "
            "infinite or too large; look at the scale factors (scl_slope, scl_inter)"
        )
    return data


def _check_sum(image: Any, path: Path) -> None:
    """Reads a gzip file to its end, where its check sum is; nibabel does not.

    Raises:
        OSError: the sum is another: a voxel, at least, has changed. Also EOFError and
            zlib.error.
    """
    if path.suffix.lower() != ".gz" or not nib.is_proxy(image.dataobj):
        return
    left = _promised(image) + _PIECE  # not all that else may be in it
    with gzip.open(path) as stream:
        try:
            while left > 0 and (piece := stream.read(_PIECE)):
                left -= len(piece)
        except gzip.BadGzipFile as error:
            if not str(error).startswith("Not a gzipped file"):  # garbage at the end
                raise


def _check_size(image: Any, path: Path) -> None:
    """Refuses what is too large, or promises more than the file holds, unread."""
    shape = image.shape[:3]
    count = math.prod(map(int, shape))
    if count > LARGEST_VOXELS:
        raise NiftiError(
            f"{path}: {_triple(np.array(shape))} voxels, more than {LARGEST_VOXELS:,}: "
            "no scan of a neck; look at the header"
        )
    if not nib.is_proxy(image.dataobj):  # an image in memory
        return
    needed = _promised(image)
    held = path.stat().st_size
    if path.suffix.lower() in (".gz", ".bz2"):
        held *= _GZIP_AT_MOST
    if needed > held:
        raise NiftiError(
            f"{path}: the header promises {needed:,} bytes, the file holds fewer; "
            "it is probably cut short; copy or convert it again"
        )


def _promised(image: Any) -> int:
    """Bytes of the file, unpacked, up to its last voxel."""
    count = math.prod(map(int, image.shape))
    return int(image.dataobj.offset) + count * image.get_data_dtype().itemsize


def checked_affine(image: Any, header: Any, path: Path) -> Float[np.ndarray, "4 4"]:
    """The affine, (4, 4), from stored voxel index to scanner mm.

    Raises:
        NiftiError: voxel size or field of view is no scan's; the affine is missing,
            singular, sheared, or of another voxel size than the header; qform and sform
            disagree on the directions.
    """
    unit = header.get_xyzt_units()[0]
    if unit not in _MM:
        raise NiftiError(
            f"{path}: the header says that its lengths are in {unit}; convert the file "
            "to mm, or correct the unit (xyzt_units)"
        )
    sizes = header["pixdim"][1:4].astype(float)
    low, high = VOXEL_SIZE_LIMITS_MM
    if not np.all((sizes >= low) & (sizes <= high)):
        raise NiftiError(
            f"{path}: voxel size must lie within {low:g}-{high:g} mm, "
            f"the header has {_triple(sizes)}"
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
    qform = _qform(image)
    if qform is not None and header["sform_code"] > 0:
        codes = [nib.aff2axcodes(form) for form in (qform, image.header.get_sform())]
        if codes[0] != codes[1]:
            raise NiftiError(
                f"{path}: qform has {''.join(codes[0])}, sform has "
                f"{''.join(codes[1])}: left and right cannot be trusted; "
                "convert again from DICOM"
            )
    return affine


def _qform(image: Any) -> np.ndarray | None:
    """None where it is not set, or its quaternion is longer than 1 by rounding."""
    try:
        return image.header.get_qform(coded=True)[0]
    except ValueError:
        return None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _triple(values: np.ndarray) -> str:
    return " x ".join(f"{v:g}" for v in values)
