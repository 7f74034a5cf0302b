"""Damaged files for every reader: `python benchmarks/fuzz.py` (some 10 minutes).

A reader may give a value, or raise its documented error with the file's name in it; all
else is a failure, and so are ten seconds, or half a gigabyte more of resident memory
than the process had before. `tests/test_fuzz.py` runs the short form.
"""

import argparse
import dataclasses
import gzip
import json
import logging
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from nibabel.nifti1 import Nifti1Extension
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from cervjax.cohort.inputs import read_measurements, read_participants
from cervjax.data.entry import read_record
from cervjax.inference.scan_tables import Packed, pack, read_texts
from cervjax.inference.sidecar import DamagedError, read_sidecar
from cervjax.io.dicom_frames import DicomError, frames_of
from cervjax.io.dicom_scans import find_dicom_scans
from cervjax.io.echo_checks import read_sidecars
from cervjax.io.files import sha256_of_file
from cervjax.io.label_sets import read_label_set
from cervjax.io.labels import read_labels
from cervjax.io.level_files import read_levels
from cervjax.io.nifti import read_nifti
from cervjax.io.review_list import names_in
from cervjax.io.scan_list import read_scan_list
from cervjax.measurement.calibration import read_calibration
from cervjax.model.card import ModelCard, card_from_json, card_to_json
from cervjax.model.dense_vnet import Architecture
from cervjax.model.tensor_bundle import read_checkpoint, write_checkpoint
from cervjax.model.weights import load_weights, save_weights
from cervjax.phantom.anatomy_file import read_outlines
from cervjax.preprocessing.histogram import read_landmarks
from cervjax.preprocessing.pipeline import Recipe
from cervjax.training.config import ConfigError, load_config
from cervjax.training.config_checks import check
from cervjax.training.metrics_log import COLUMNS, open_table

SECONDS = 10.0
"""Longer is a failure."""
MEGABYTES = 500
"""More of peak resident memory by the files of one reader is a failure."""

TINY = Architecture((1, 1, 1), (1, 1, 1), (1, 1, 1), 1, (1, 1))
LANDMARKS = {c: tuple(8.0 * i for i in range(13)) for c in ("in_phase", "out_phase")}
CARD = ModelCard("a", "b", "c", "d", "whole", Recipe(LANDMARKS), architecture=TINY)


@dataclasses.dataclass(frozen=True)
class Reader:
    """A reader to be tried.

    Attributes:
        name: of the kind of file.
        sample: a file that it reads.
        read: of a path.
        allowed: documented errors.
        names_file: whether their message must name the file.
    """

    name: str
    sample: Path
    read: Callable[[Path], object]
    allowed: tuple[type[Exception], ...] = (ValueError,)
    names_file: bool = True


def readers(folder: Path) -> list[Reader]:
    """All, with samples written into a folder."""
    grid = read_nifti(_nifti(folder / "grid.nii", np.arange(210).reshape(5, 6, 7)))
    mask = _nifti(folder / "mask.nii.gz", np.arange(210).reshape(5, 6, 7) % 15)
    texts = {
        "measurements.csv": "scan,label,muscle,side,volume_ml,mfi_percent,verdict\n"
        "a,9,SCM,right,12.5,17.25,use\n",
        "participants.tsv": "participant_id\tsex\tage\theight\tweight\n"
        "a\tF\t44\t1.7\t70\n",
        "scans.csv": "name,in_phase,out_phase,water,fat\na,x_in.nii,x_out.nii,,\n",
        "levels.csv": "level,first_slice,last_slice\nC3,0,3\nC2,4,6\n",
        "labels.csv": "value,muscle,side\n1,SCM,left\n2,SCM,right\n",
        "calibration.json": json.dumps({"slopes": {"SCM_L": {"mfi_percent": 1.1}}}),
        "dataset.json": json.dumps({"labels": {"background": 0, "SCM_L": 1}}),
        "metrics.csv": ",".join(COLUMNS)
        + "\n3,windows,0.5,1.25"
        + ",0.5" * (len(COLUMNS) - 4)
        + "\n",
        "landmarks.txt": "IP 0 8 16 24 32 40 48 56 64 72 80 88 96\n"
        "OP 0 8 16 24 32 40 48 56 64 72 80 88 96\n",
        "x_dseg.json": json.dumps(SIDECAR),
        "echo.json": json.dumps({"EchoTime": 0.0023, "MagneticFieldStrength": 3}),
        "card.json": card_to_json(CARD),
        "outlines.json": json.dumps(OUTLINES),
        "volume.json": json.dumps({"digests": {}, "key": "a", "digest": "b"}),
        "review.csv": "scan,review,note\na,pass,\nb,fail,moved\n",
        "overrides.txt": "--config.train.num_steps=300\n--config.seed=7\n"
        "--config.optimizer.learning_rate=3e-4\n--config.data.window=(64, 64, 16)\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    tensors = {"a/w": np.ones((2, 3), np.float32), "b": np.zeros(4, np.float32)}
    write_checkpoint(folder / "model.ckpt-1", tensors)
    save_weights(folder / "weights.safetensors", _variables(), CARD)
    (folder / "x_tables.json.gz").write_bytes(pack({"measurements.csv": [{"scan": 1}]}))
    (folder / "dicom").mkdir()
    image = _dicom(folder / "dicom" / "1.dcm")
    path = folder.__truediv__
    return [
        Reader("NIfTI", path("grid.nii"), read_nifti),
        Reader("NIfTI, gzip", mask, read_nifti),
        Reader("labels", mask, lambda p: read_labels(p, grid)),
        Reader("level map", mask, lambda p: read_levels(p, grid, "a")),
        Reader("level table", path("levels.csv"), lambda p: read_levels(p, grid, "a")),
        Reader("measurements", path("measurements.csv"), read_measurements),
        Reader("participants", path("participants.tsv"), read_participants),
        Reader("list of scans", path("scans.csv"), read_scan_list),
        Reader("table of labels", path("labels.csv"), _labels),
        Reader("dataset.json", path("dataset.json"), _labels),
        Reader("calibration", path("calibration.json"), read_calibration),
        Reader("metrics", path("metrics.csv"), lambda p: open_table(p.parent, 5)),
        Reader("landmarks", path("landmarks.txt"), read_landmarks),
        Reader("side-car", path("x_dseg.json"), read_sidecar, (DamagedError,), False),
        Reader("scan's side-car", path("echo.json"), _echo, ()),
        Reader("model card", path("card.json"), _card),
        Reader("anatomy", path("outlines.json"), read_outlines),
        Reader("prepared volume", path("volume.json"), lambda p: read_record(p.parent)),
        Reader("checkpoint", path("model.ckpt-1.index"), _checkpoint),
        Reader("weights", path("weights.safetensors"), load_weights),
        Reader("list of reviews", path("review.csv"), lambda p: names_in(p, {"pass"})),
        Reader("scan's tables", path("x_tables.json.gz"), _tables, (DamagedError,)),
        Reader("DICOM image", image, frames_of, (DicomError,), False),
        Reader("DICOM folder", image, _dicom_scans, (), False),
        Reader(
            "config overrides", path("overrides.txt"), _config, (ConfigError,), False
        ),
    ]


SIDECAR = {
    "GeneratedBy": [{"Name": "cervjax"}],
    **dict.fromkeys(("Identity", "Executed", "Files"), {}),
    "Scan": "x",
}
BOX = [[-60, -60], [-60, 60], [60, 60], [60, -60]]
OUTLINES = {
    "who": "nobody",
    "units": "mm",
    "levels": {"C4": 17, "C5": 0, "C6": -17},
    "discs": {"C5/6": -8},
    "structures": [
        {
            "name": "body_outline",
            "side": "M",
            "label": 0,
            "tissue": "skin",
            "order": 0,
            "sections": [{"z": z, "contour": BOX} for z in (-17, 17)],
        }
    ],
}


def _nifti(path: Path, data: np.ndarray) -> Path:
    image = nib.Nifti1Image(data.astype(np.int16), np.diag([1, 1, 3, 1.0]))
    image.header.set_xyzt_units("mm")
    image.header.extensions.append(Nifti1Extension("comment", b"note"))
    image.set_qform(image.affine, 1)
    image.set_sform(image.affine, 1)
    nib.save(image, path)
    return path


def _variables():
    import jax

    from cervjax.model.dense_vnet import DenseVNet

    shape = jax.ShapeDtypeStruct((1, 8, 8, 8, 2), np.float32)
    network = DenseVNet(TINY, lowering="plain")
    tree = jax.eval_shape(network.init, jax.random.key(0), shape)
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), dict(tree))


def _labels(path: Path) -> object:
    return read_label_set(str(path))


def _echo(path: Path) -> object:
    return read_sidecars({"in_phase": path.with_suffix(".nii")})


def _card(path: Path) -> object:
    from cervjax.model.card import FORMAT

    return card_from_json(path.read_text("utf-8", "replace"), FORMAT, path)


def _checkpoint(path: Path) -> object:
    return read_checkpoint(path.with_suffix(""))


def _tables(path: Path) -> object:
    return read_texts(Packed(path, sha256_of_file(path)))


def _dicom_scans(path: Path) -> object:
    return find_dicom_scans(path.parent, b"key")


def _config(path: Path) -> object:
    config = load_config("dixon_cpu", path.read_text("utf-8", "replace").splitlines())
    config.data.root = "somewhere"
    check(config)
    return config


def _dicom(path: Path) -> Path:
    """A small in-phase image of magnetic resonance."""
    image, meta = Dataset(), FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = image.SOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = "1.2.3.4"
    image.file_meta = meta
    values = {
        "Modality": "MR",
        "PatientID": "a",
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.1",
        "SeriesNumber": 5,
        "SeriesDescription": "t1_vibe_dixon_in",
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "IN_PHASE"],
        "AcquisitionDate": "20240506",
        "AcquisitionTime": "101500",
        "MagneticFieldStrength": 3.0,
        "EchoTime": 2.46,
        "ImagePositionPatient": [0.0, 0.0, 0.0],
        "ImageOrientationPatient": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        "PixelSpacing": [1.0, 1.0],
        "SliceThickness": 3.0,
        "Rows": 4,
        "Columns": 5,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "PixelData": np.arange(20, dtype=np.uint16).tobytes(),
    }
    for name, value in values.items():
        setattr(image, name, value)
    image.save_as(path, enforce_file_format=True)
    return path


WORDS = st.sampled_from(
    [b"", b"\0", b"\xff" * 8, b"nan", b"-1", b"1e999", b"9" * 400, b"[" * 5000, b"{}"]
    + [b'"', b"null", b"\\ud800", b",", b"\n", b"\t", b"=1+1", b"\x7f\xff\xff\xff"]
)
EDIT = st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 12), WORDS)
BIT = st.tuples(st.floats(0, 1, exclude_max=True), st.just(-1), st.integers(0, 7))


def edited(content: bytes, edits: list, cut: float) -> bytes:
    """A file with bits turned, parts replaced, and its end cut off."""
    found = bytearray(content)
    for place, length, what in edits:
        at = int(place * len(found))
        if length >= 0:
            found[at : at + length] = what
        elif found:
            found[at] ^= 1 << what
    return bytes(found[: int(np.ceil(cut * len(found)))])


def damaged(content: bytes, packed: bool) -> st.SearchStrategy[bytes]:
    """Damaged files; of packed ones also damaged content, packed again."""
    edits = st.lists(st.one_of(EDIT, BIT), min_size=1, max_size=4)
    cuts = st.one_of(st.just(1.0), st.floats(0, 1))
    found = st.builds(edited, st.just(content), edits, cuts)
    if not packed:
        return found
    inside = st.builds(edited, st.just(gzip.decompress(content)), edits, cuts)
    return st.one_of(found, inside.map(lambda c: gzip.compress(c, 1)))


def try_one(reader: Reader, path: Path, content: bytes) -> None:
    """Raises AssertionError unless a file is read, or refused as documented."""
    path.write_bytes(content)
    started = time.monotonic()
    try:
        reader.read(path)
    except reader.allowed as error:
        text = str(error)
        if reader.names_file and path.name.partition(".index")[0] not in text:
            raise AssertionError(f"{reader.name}: no file named: {text}") from error
    except Exception as error:
        raise AssertionError(f"{reader.name}: {error!r}") from error
    took = time.monotonic() - started
    assert took < SECONDS, f"{reader.name}: took {took:.1f} s"


def fuzz(reader: Reader, number: int) -> None:
    """Tries so many damaged files, and raises AssertionError with the smallest."""
    content = reader.sample.read_bytes()

    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(damaged(content, reader.sample.suffix == ".gz"))
    def run(changed: bytes) -> None:
        try_one(reader, reader.sample, changed)

    try:
        reader.read(reader.sample)
        reader.sample.write_bytes(content)  # a reader may write its table anew
        run()
    finally:
        reader.sample.write_bytes(content)


def peak_mb() -> float:
    """Of the process, resident, so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def main() -> int:
    """Prints, by reader, how many files were tried and what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--number", type=int, default=5000, help="files for each (5000)"
    )
    parser.add_argument("--only", nargs="+", metavar="READER", help="some, by name")
    flags = parser.parse_args()
    logging.disable()  # nibabel tells what it mends
    warnings.simplefilter("ignore")
    tried = failed = 0
    print("| reader | tried | seconds | MB more | found |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for reader in readers(Path(folder)):
            if flags.only and reader.name not in flags.only:
                continue
            started, before, found = time.monotonic(), peak_mb(), "nothing"
            try:
                fuzz(reader, flags.number)
            except AssertionError as error:
                found, failed = str(error).splitlines()[0], failed + 1
            took, more = time.monotonic() - started, peak_mb() - before
            if more > MEGABYTES:
                found, failed = f"{found}; too much memory", failed + 1
            tried += flags.number
            line = f"| {reader.name} | {flags.number:,} | {took:.0f} | {more:.0f} |"
            print(f"{line} {found} |", flush=True)
    print(f"{tried:,} files, {failed} failure(s); peak {peak_mb():.0f} MB")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
