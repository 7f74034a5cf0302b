"""Masks of any program measured: the tables of ``cervjax measure``."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from cervjax.inference import results, standing
from cervjax.inference.failures import Failure, Listener, failure_of
from cervjax.inference.given import drawn, given_levels
from cervjax.inference.measured import Segmented, measured
from cervjax.inference.origin import MaskSource, Origin
from cervjax.inference.result import Result, Source
from cervjax.inference.sidecar import DamagedError, Identity, plain, read_sidecar
from cervjax.inference.stages import Stopwatch
from cervjax.io.dixon import Measured, read_scan
from cervjax.io.filenames import NIFTI
from cervjax.io.files import sha256_of_file
from cervjax.io.label_sets import LabelSet
from cervjax.io.labels import exchanged_sides, read_labels
from cervjax.io.level_files import levels_path
from cervjax.io.scans import Problem, Scan
from cervjax.measurement.calibration import Calibration


@dataclass(frozen=True, eq=False)
class GivenMasks:
    """How masks of other programs are measured.

    Attributes:
        label_set: what their numbers mean.
        measure_on: what fat is measured on where a scan has both, see `read_scan`.
        calibration: slopes, for calibrated values beside the measured ones.
        levels: file or folder of vertebral levels, see `level_files`.
    """

    label_set: LabelSet
    measure_on: Measured = "echoes"
    calibration: Calibration | None = None
    levels: Path | None = None

    def identity(self, inputs_sha256: dict[str, str]) -> Identity:
        """What a result depends on, beside images and mask of these digests."""
        settings = {"labels": self.label_set.muscles, "measure_on": self.measure_on}
        if self.calibration is not None:
            settings["calibration_sha256"] = self.calibration.sha256
        return Identity(inputs_sha256, "", plain(settings))


def measure_scans(
    pairs: Collection[tuple[Scan, Path]],
    problems: Collection[Problem],
    how: GivenMasks,
    out: Path,
    extras: Collection[str] = (),
    listener: Listener = Listener(),  # noqa: B008  frozen
) -> list[Failure]:
    """Measures masks that are there, and writes what `pipeline.segment_scans` writes.

    Each mask is written in the paper's labels, too, unless it is there already. A scan
    that fails is recorded and the others go on.

    Args:
        pairs: scans and their masks.
        problems: what is in the way of others; becomes failures.
        how: labels and settings.
        out: results folder; must exist.
        extras: of `result.EXTRAS`, to be written too.
        listener: what is told.

    Returns:
        All failures, in order.

    Raises:
        ResultError: the folder holds results of a network, or of other settings.
    """
    names = {scan.name for scan, _ in pairs} | {problem.scan for problem in problems}
    results.check_folder(out, how.identity({}), replaced=names)
    results.write_label_tables(out)
    failures: list[Failure] = []

    def fail(failure: Failure) -> None:
        failures.append(failure)
        listener.on_failure(failure)
        standing.mark_failed(out, failure.scan, failure.error)

    try:
        for p in problems:
            files = "; ".join(map(str, p.files))
            fail(Failure(p.scan, files, f"{p.message}; {p.hint}"))
        for scan, mask in pairs:
            try:
                result = measure_given(scan, mask, how)
                listener.on_stage(scan.name, "write")
                seconds = {**result.seconds, "write": result.write(out, extras=extras)}
            except Exception as error:  # of this scan; the others go on
                fail(failure_of(scan, error))
                listener.on_finished(scan.name, {})
                continue
            for line in result.warnings:
                listener.log(f"{scan.name}: {line}")
            listener.on_finished(scan.name, seconds)
    finally:
        failed = {failure.scan for failure in failures}
        results.write_tables(out, how.identity({}), without=failed)
        results.write_failures(out, [failure.row() for failure in failures], names)
    return failures


def measure_given(scan: Scan, mask: Path, how: GivenMasks) -> Result:
    """Measures the mask of one scan.

    Raises:
        ValueError: images or mask cannot be used, or its sides are exchanged.
    """
    watch = Stopwatch()
    watch.begin("read")
    images = read_scan(scan, measure_on=how.measure_on)
    labels = read_labels(mask, images.grid, label_set=how.label_set)
    if wrong := exchanged_sides(labels):
        raise ValueError(
            f"{mask}: {wrong}; say what the numbers mean with --labels, or flip the "
            "mask"
        )
    files = {role: str(path) for role, path in scan.files.items()} | {"mask": str(mask)}
    levels = None
    digests = {role: sha256_of_file(path) for role, path in scan.files.items()}
    digests["mask"] = sha256_of_file(mask)
    if how.levels is not None:
        path = levels_path(how.levels, scan.name)
        levels = given_levels(path, images, scan.name)
        files["levels"], digests["levels"] = str(path), sha256_of_file(path)
    source = Source(scan.name, files, digests)
    who, weights_sha256 = _who_drew(mask, digests["mask"])
    origin = Origin(who, how.identity(digests), {}, weights_sha256, mask=mask)
    found = drawn(labels, levels)
    segmented = Segmented(found, origin, list(images.warnings), watch.stop())
    return measured(source, images, segmented, how.calibration)


def _who_drew(mask: Path, digest: str) -> tuple[MaskSource, str]:
    """Told by the side-car of ``cervjax infer`` beside a mask, if there is one."""
    nifti = NIFTI.fullmatch(mask.name)
    path = mask.with_name(f"{nifti['stem'] if nifti else mask.stem}.json")
    try:
        content = read_sidecar(path) if path.is_file() else None
    except DamagedError:
        content = None
    written = None if content is None else content["Files"].get(mask.name)
    if content is None or written is None or not content.get("DrawnBy"):
        return "given", ""
    same = written == digest and content.get("MaskSource") == "network"
    return ("network" if same else "edited"), content["DrawnBy"]
