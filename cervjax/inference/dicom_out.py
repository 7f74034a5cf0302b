"""Results of scans that were read from DICOM, as DICOM segmentations."""

from pathlib import Path

from cervjax.inference.sidecar import DamagedError, paths, read_sidecar
from cervjax.io.dicom_scans import DicomScan, find_dicom_scans
from cervjax.io.dicom_seg import Drawn, SegmentationKind, write_seg
from cervjax.io.files import sha256_of_file
from cervjax.io.written import written_together


def write_segs(
    results: Path,
    dicom: Path,
    key: bytes,
    *,
    kind: SegmentationKind = "binary",
    keep_ids: bool = False,
) -> tuple[list[Path], list[str]]:
    """Writes ``NAME_seg.dcm`` beside the mask of each scan that is in DICOM.

    Args:
        results: folder of results.
        dicom: folder of the DICOM files that they are of.
        key: of the pseudonyms, as when the scans were read.
        kind: of segmentation, see `write_seg`.
        keep_ids: the patients' own identifiers, as when the scans were read.

    Returns:
        The files written, and a line on each scan that has none.
    """
    scans, _, _ = find_dicom_scans(dicom, key, keep_ids=keep_ids)
    written, failed = [], []
    for scan in scans:
        target = results / f"{scan.name}_seg.dcm"
        try:
            mask, drawn = _mask(results, scan)
            with written_together(results) as new:
                file = new / target.name
                write_seg(file, mask, scan, key, drawn, kind=kind, keep_ids=keep_ids)
            written.append(target)
        except (ValueError, OSError) as error:
            failed.append(f"{scan.name}: {error}")
    return written, failed


def _mask(results: Path, scan: DicomScan) -> tuple[Path, Drawn]:
    files = paths(results, scan.name)
    content = read_sidecar(files.sidecar) if files.sidecar.is_file() else None
    if content is None or not files.labels.is_file():
        raise DamagedError(
            f"no result in {results}; give --keep-ids and --pseudonym-key as they were "
            "when the scans were read"
        )
    source, who = content.get("MaskSource"), content["GeneratedBy"][0]
    same = content["Files"].get(files.labels.name) == sha256_of_file(files.labels)
    by = source if source in ("network", "given") and same else "edited"
    digest = str(content.get("DrawnBy") or "")
    return files.labels, Drawn(by, str(who.get("Version", "")), digest)
