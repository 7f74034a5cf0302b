"""NIfTI files in and out: geometry, validation, and the way back to the scan's grid.

Inside the package a volume is a float32 array ``(x, y, z)`` in RAS: the index grows
towards the patient's right, front and head. Axes are only flipped and exchanged to
get there, to the closest anatomical direction; an oblique scan is never rotated or
resampled (as NiftyNet).
"""

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from jaxtyping import Float, Float32, Real, UInt8, UInt16
from nibabel import Nifti1Image
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)

from cervjax.io.files import write_atomically
from cervjax.io.label_names import names_extension
from cervjax.io.nifti_checks import (
    UNREADABLE,
    NiftiError,
    checked_affine,
    checked_data,
    load,
)

CORNER_TOLERANCE_MM = 0.1

NiftiInput = str | Path | Nifti1Image
"""What is read: a file, or an image of nibabel's."""

_RAS = axcodes2ornt(("R", "A", "S"))


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

    data: Float32[np.ndarray, "x y z"]
    spacing_mm: tuple[float, float, float]
    affine: Float[np.ndarray, "4 4"]
    orientation: np.ndarray
    header: Any
    path: Path

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

    @property
    def stored_affine(self) -> Float[np.ndarray, "4 4"]:
        """(4, 4) voxel index of the stored axes to scanner mm."""
        stored = tuple(np.array(self.data.shape)[self.orientation[:, 0].astype(int)])
        return self.affine @ np.linalg.inv(inv_ornt_aff(self.orientation, stored))

    @property
    def oblique_degrees(self) -> float:
        """Largest angle between a voxel axis and its anatomical axis."""
        directions = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(np.degrees(np.arccos(np.clip(np.diag(directions), -1, 1)).max()))


def image_of_array(
    data: Real[np.ndarray, "..."], affine: Real[np.ndarray, "4 4"]
) -> Nifti1Image:
    """An image in memory, for `read_nifti`.

    Args:
        data: real numbers along any axes.
        affine: (4, 4) voxel index to scanner mm (RAS+).
    """
    image = Nifti1Image(np.asarray(data, np.float32), np.asarray(affine, float))
    image.header.set_xyzt_units("mm")
    image.set_qform(image.affine, 1)
    image.set_sform(image.affine, 1)
    return image


def read_nifti(source: NiftiInput, *, may_be_constant: bool = False) -> NiftiImage:
    """Reads a 3-D NIfTI scan into RAS float32.

    Scale factors are applied; a slope of 0 or NaN means none (legal NIfTI).

    Args:
        source: the file, or an image of nibabel's.
        may_be_constant: accept one value everywhere, such as a mask without a muscle.

    Raises:
        NiftiError: unreadable or truncated; not NIfTI; not 3-D; complex or colour;
            NaN or Inf; constant; voxel size outside 0.05-50 mm or not as
            the affine says; affine missing, singular or sheared; qform and sform
            that disagree on orientation.
    """
    in_memory = isinstance(source, Nifti1Image)
    path = Path(source.get_filename() or "image in memory" if in_memory else source)
    try:
        image, header = (source, source.header) if in_memory else load(path)
        return _checked(image, header, path, may_be_constant)
    except NiftiError:
        raise
    except UNREADABLE as error:
        raise NiftiError(
            f"{path}: not usable as NIfTI ({type(error).__name__}: {error}); "
            "convert it again from DICOM, or copy it again"
        ) from error


def _checked(image: Any, header: Any, path: Path, may_be_constant: bool) -> NiftiImage:
    affine = checked_affine(image, header, path)
    data = checked_data(image, path)
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


def to_stored_orientation(
    data: Real[np.ndarray, "x y z"], like: NiftiImage
) -> Real[np.ndarray, "i j k"]:
    """Brings a RAS array back to the axes of the file ``like`` was read from."""
    return apply_orientation(data, ornt_transform(_RAS, like.orientation))


def write_labels(
    path: str | Path, labels: UInt8[np.ndarray, "x y z"], like: NiftiImage
) -> None:
    """Writes `labels_file`, atomically; ``path`` is ``.nii`` or ``.nii.gz``."""
    content = labels_file(labels, like, compressed=str(path).endswith(".gz"))
    write_atomically(path, lambda part: part.write_bytes(content))


def labels_file(
    labels: UInt8[np.ndarray, "x y z"], like: NiftiImage, *, compressed: bool = True
) -> bytes:
    """A RAS label map as a NIfTI file of uint8 on the grid of the scan.

    The names of the muscles are in its header, see `label_names`.

    Args:
        labels: uint8 (x, y, z), RAS, the shape of ``like.data``.
        like: the scan; its qform, sform, codes and units are kept bit for bit.
        compressed: with gzip.

    Returns:
        The bytes; the same labels give the same ones.
    """
    header = like.header.copy()
    header.set_intent("label", name="cervjax muscles")
    header["descrip"] = b"cervjax: labels of Weber et al. 2021, Table 1"
    values = labels.astype(np.uint8)
    return _file_like(values, like, header, compressed, (names_extension(),))


def write_values(
    path: str | Path, values: UInt16[np.ndarray, "x y z"], like: NiftiImage
) -> None:
    """Writes a RAS label map of another program's values, atomically; without names.

    Args:
        path: ``.nii`` or ``.nii.gz``.
        values: uint16 (x, y, z), RAS, the shape of ``like.data``.
        like: the scan; its qform, sform, codes and units are kept bit for bit.
    """
    header = like.header.copy()
    header.set_intent("label")
    header["descrip"] = b"cervjax"
    content = _file_like(values, like, header, str(path).endswith(".gz"))
    write_atomically(path, lambda part: part.write_bytes(content))


def write_map(
    path: str | Path, values: Real[np.ndarray, "x y z"], like: NiftiImage
) -> None:
    """Writes a RAS map as float32 on the grid of the scan, atomically.

    Args:
        path: ``.nii`` or ``.nii.gz``.
        values: (x, y, z), RAS, the shape of ``like.data``.
        like: the scan; its qform, sform, codes and units are kept bit for bit.
    """
    header = like.header.copy()
    header.set_intent("none")
    header["descrip"] = b"cervjax"
    compressed = str(path).endswith(".gz")
    content = _file_like(values.astype(np.float32), like, header, compressed)
    write_atomically(path, lambda part: part.write_bytes(content))


def _file_like(
    data: np.ndarray,
    like: NiftiImage,
    header: Any,
    compressed: bool,
    extensions: tuple = (),
) -> bytes:
    """A NIfTI file of the same kind and grid as the scan's."""
    header.set_data_dtype(data.dtype)
    header.extensions[:] = extensions  # the scan's may name the patient
    header["vox_offset"] = 0  # as the extensions make it
    if "db_name" in header:  # may do so, too; NIfTI-2 has none
        header["db_name"] = b""
    header.set_data_shape(data.shape)
    header.set_slope_inter(1, 0)
    header["cal_min"], header["cal_max"], header["aux_file"] = 0, 0, b""
    stored = np.ascontiguousarray(to_stored_orientation(data, like))
    two = type(like.header) is nib.Nifti2Header
    image = (nib.Nifti2Image if two else Nifti1Image)(stored, None, header)
    return _bytes(image, compressed, 6 if data.dtype.kind == "u" else 1)


def write_volume(
    path: str | Path,
    data: Real[np.ndarray, "x y z"],
    affine: Float[np.ndarray, "4 4"],
    stored_axes: str = "RAS",
) -> None:
    """Writes a volume with qform and sform, in mm, atomically.

    Args:
        path: ``.nii`` or ``.nii.gz``.
        data: (x, y, z) in RAS, of a type that NIfTI has.
        affine: (4, 4) voxel index to scanner mm, for ``data`` as it lies here.
        stored_axes: directions in which the indices are to grow in the file, such as
            "LPS"; no voxel moves.
    """
    turn = ornt_transform(_RAS, axcodes2ornt(stored_axes))
    affine = affine @ inv_ornt_aff(turn, data.shape)
    image = Nifti1Image(np.asarray(apply_orientation(data, turn)), affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    # Noise hardly shrinks more at higher levels, and takes longer.
    content = _bytes(image, str(path).endswith(".gz"), 1)
    write_atomically(path, lambda part: part.write_bytes(content))


def _bytes(image: Any, compressed: bool, level: int) -> bytes:
    """Without the time: the same image, the same bytes."""
    content = image.to_bytes()
    return gzip.compress(content, level, mtime=0) if compressed else content
