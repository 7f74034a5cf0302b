"""Masks as DICOM SEG, on the slices of the series that they were drawn on.

Of the series only positions and, with ``keep_ids``, who it is of are read; what is not
on the list cannot leak.
"""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from nibabel.affines import apply_affine

from cervjax.about import __version__
from cervjax.anatomy import MUSCLES
from cervjax.io.anatomy_codes import CATEGORY, NECK, SIDES, Code, muscle_code
from cervjax.io.dicom_frames import DicomError, Frame, silent
from cervjax.io.dicom_scans import DicomScan, Stack
from cervjax.io.files import write_atomically
from cervjax.io.labels import read_labels
from cervjax.io.nifti import read_nifti
from cervjax.io.pseudonyms import hashed_uid

SegmentationKind = Literal["binary", "labelmap"]
_TOLERANCE_MM = 0.1
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
_ENHANCED = "1.2.840.10008.5.1.4.1.1.4.1"
_PERSON = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "SpecificCharacterSet"),
)
"""Kept with ``keep_ids``, so that the object belongs to the visit; else empty."""
_TYPES = {"network": "AUTOMATIC", "edited": "SEMIAUTOMATIC", "given": "SEMIAUTOMATIC"}


class Drawn(NamedTuple):
    """Who drew a mask.

    Attributes:
        by: network, edited (a network's, changed since) or given (any other).
        version: of cervjax.
        weights_sha256: of the network's weights, "" if there was none.
    """

    by: str
    version: str = __version__
    weights_sha256: str = ""


def require_highdicom() -> None:
    """Raises ModuleNotFoundError where it is not installed: before any work."""
    import highdicom  # noqa: F401


def write_seg(
    path: Path,
    mask: Path,
    scan: DicomScan,
    key: bytes,
    drawn: Drawn,
    *,
    kind: SegmentationKind = "binary",
    keep_ids: bool = False,
) -> None:
    """Writes the mask of a scan as a DICOM segmentation, atomically.

    Args:
        path: ``.dcm`` file.
        mask: NIfTI file of labels 0-14.
        scan: the images that the mask is of, in DICOM.
        key: of the pseudonyms.
        drawn: who drew the mask.
        kind: one bit a voxel and segment, which every program reads, or a label map,
            which new ones do.
        keep_ids: the visit's own names, dates and UIDs, so that the object belongs to
            it; else pseudonyms, and UIDs that the key hides.

    Raises:
        ValueError: the mask cannot be read, or does not lie on the slices of the scan.
        OSError: a file cannot be read or written.
    """
    stack = next(iter(scan.stacks.values()))
    image = read_nifti(mask, may_be_constant=True)
    labels = read_labels(mask, image, may_be_empty=True)
    try:
        frames = _on_slices(labels, image.affine, stack)
    except DicomError as error:
        raise DicomError(f"{mask}: {error}") from None
    with silent():
        sources = _sources(stack, scan.name, key, keep_ids)
        segmentation = _segmentation(sources, frames, drawn, kind)
        segmentation.ContentCreatorName = ""  # must be there, and nobody is
        _refer(segmentation, stack, sources, None if keep_ids else key)
        write_atomically(path, lambda part: segmentation.save_as(part))


def _on_slices(
    labels: UInt8[np.ndarray, "x y z"], affine: Float[np.ndarray, "4 4"], stack: Stack
) -> UInt8[np.ndarray, "slice row column"]:
    """The label of each pixel, by the formula of DICOM PS3.3 C.7.6.2.1.1.

    Raises:
        DicomError: a pixel lies on no voxel, or a labelled voxel on no pixel.
    """
    to_voxel = np.linalg.inv(affine)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    found = []
    for frame in stack.frames:
        row, column = np.reshape(frame.orientation, (2, 3))
        down, across = frame.spacing_mm[:2]
        rows, columns = np.indices(frame.shape)
        places = (
            np.array(frame.position_mm)
            + columns[..., None] * (row * across)
            + rows[..., None] * (column * down)
        )
        index = apply_affine(to_voxel, places @ _LPS_TO_RAS)
        nearest = np.rint(index).astype(int)
        inside = (nearest >= 0).all() and (nearest < labels.shape).all()
        if not inside or (np.abs(index - nearest) * spacing).max() > _TOLERANCE_MM:
            raise DicomError(
                "does not lie on the slices of the series; give the results of these "
                "DICOM files"
            )
        found.append(labels[tuple(np.moveaxis(nearest, -1, 0))])
    frames = np.stack(found)
    if np.count_nonzero(frames) != np.count_nonzero(labels):
        raise DicomError(
            "has muscles where the series has no slice; give the whole series"
        )
    return frames


def _sources(stack: Stack, name: str, key: bytes, keep_ids: bool) -> list[Any]:
    """Images as `highdicom` wants them: geometry and whose they are, no pixels."""
    from pydicom import dcmread
    from pydicom.dataset import Dataset

    wanted = [*_PERSON, "FrameOfReferenceUID", "SOPClassUID"]
    header = dcmread(
        stack.frames[0].path, stop_before_pixels=True, specific_tags=wanted
    )
    person: Mapping[str, Any] = {tag: header.get(tag, "") for tag in _PERSON}
    if not keep_ids:
        who = name.partition("_")[0]
        person = dict.fromkeys(_PERSON, "")
        person |= {"PatientID": who, "PatientName": f"{who}^"}
    if not person.get("SpecificCharacterSet"):
        person = {**person, "SpecificCharacterSet": "ISO_IR 192"}
    place = header.get("FrameOfReferenceUID") or stack.frames[0].study

    def known(uid: str) -> str:
        return uid if keep_ids else hashed_uid(key, uid)

    images = []
    for k, frame in enumerate(stack.frames):
        image = Dataset()
        for tag, value in person.items():
            setattr(image, tag, value)
        image.Modality = "MR"
        image.StudyInstanceUID = known(frame.study)
        image.SeriesInstanceUID = known(frame.series)
        image.FrameOfReferenceUID = known(place)
        image.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        image.SOPInstanceUID = hashed_uid(secrets.token_bytes(16), frame.uid)
        image.InstanceNumber = k + 1
        image.Rows, image.Columns = frame.shape
        image.ImagePositionPatient = [f"{x:.10g}" for x in frame.position_mm]
        image.ImageOrientationPatient = [f"{x:.10g}" for x in frame.orientation]
        image.PixelSpacing = [f"{x:.10g}" for x in frame.spacing_mm[:2]]
        image.SliceThickness = f"{frame.spacing_mm[2]:.10g}"
        image.PositionReferenceIndicator = ""
        images.append(image)
    return images


def _segmentation(
    sources: list[Any], frames: np.ndarray, drawn: Drawn, kind: SegmentationKind
) -> Any:
    from highdicom.seg import Segmentation, SegmentationTypeValues
    from pydicom.uid import generate_uid

    return Segmentation(
        sources,
        frames,
        segmentation_type=SegmentationTypeValues[kind.upper()],
        segment_descriptions=_descriptions(drawn),
        series_instance_uid=generate_uid(),
        series_number=9001,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="cervjax",
        manufacturer_model_name="cervjax",
        software_versions=drawn.version,
        device_serial_number=drawn.weights_sha256[:12] or "none",
        content_label="NECK_MUSCLES",
        content_description="14 neck muscles, Weber et al. 2021; research use only",
        series_description="cervjax neck muscles (research use only)",
    )


def _descriptions(drawn: Drawn) -> list[Any]:
    """Of the 14 segments, in order of the labels."""
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import codes

    known = drawn.by != "given"
    algorithm = AlgorithmIdentificationSequence(
        name="cervjax" if known else "not known, given to cervjax",
        family=codes.cid7162.ArtificialIntelligence,
        version=drawn.version if known else "unknown",
        parameters={"weights_sha256": drawn.weights_sha256} if known else None,
    )
    found = []
    for muscle in MUSCLES:
        description = SegmentDescription(
            segment_number=muscle.label,
            segment_label=f"{muscle.name} {muscle.side} ({muscle.key})",
            segmented_property_category=_coded(CATEGORY),
            segmented_property_type=_coded(muscle_code(muscle)),
            algorithm_type=_TYPES[drawn.by],
            algorithm_identification=algorithm,
            anatomic_regions=[_coded(NECK)],
            display_color=CIELabColor.from_rgb(*muscle.color_rgb),
        )
        side = _coded(SIDES[muscle.side])
        kind = description.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [side]
        found.append(description)
    return found


def _coded(code: Code) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, "SCT", code.meaning)


def _refer(segmentation: Any, stack: Stack, sources: list[Any], key: Any) -> None:
    """Names the images that the segments were drawn on, where their UIDs are kept.

    With a key, nothing is referred to but by UIDs that it hides.
    """
    frames = {
        image.SOPInstanceUID: frame
        for image, frame in zip(sources, stack.frames, strict=True)
    }
    for series in segmentation.ReferencedSeriesSequence:
        items = {}
        for item in series.ReferencedInstanceSequence:
            _point(item, frames, key)
            items[item.ReferencedSOPInstanceUID] = item
            if "ReferencedFrameNumber" in item:
                del item.ReferencedFrameNumber
        series.ReferencedInstanceSequence = list(items.values())
    for group in segmentation.PerFrameFunctionalGroupsSequence:
        for derivation in group.get("DerivationImageSequence", ()):
            for item in derivation.SourceImageSequence:
                _point(item, frames, key)


def _point(item: Any, frames: Mapping[str, Frame], key: Any) -> None:
    frame = frames.get(item.ReferencedSOPInstanceUID)
    if frame is None:  # items are shared, and this one is done
        return
    uid = frame.uid.rpartition("/")[0]
    item.ReferencedSOPInstanceUID = uid if key is None else hashed_uid(key, uid)
    if frame.index is not None:
        item.ReferencedSOPClassUID = _ENHANCED
        item.ReferencedFrameNumber = frame.index + 1
