"""Masks measured on images of one contrast: ``cervjax measure --method mixture2``."""

import json
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from cervjax.about import __version__
from cervjax.inference import results
from cervjax.inference.failures import Failure, Listener, failure_of
from cervjax.inference.result import pictures
from cervjax.io.label_sets import LabelSet
from cervjax.io.labels import exchanged_sides, read_labels
from cervjax.io.nifti import NiftiImage, read_nifti, write_map
from cervjax.io.scans import Problem, Scan
from cervjax.io.tables import read_rows, write_rows
from cervjax.io.written import check_ours, written_together
from cervjax.measurement.composition import Rows
from cervjax.measurement.dictionary import as_bids
from cervjax.measurement.mixture import Components, measure_mixture

TABLE = "measurements_mixture.csv"


@dataclass(frozen=True, eq=False)
class ByMixture:
    """How they are measured.

    Attributes:
        label_set: what the masks' numbers mean.
        components: of the mixture.
        maps: whether maps of the tissues are written.
    """

    label_set: LabelSet
    components: Components
    maps: bool = False

    @property
    def method(self) -> str:
        """As the table names it."""
        return f"mixture{self.components}"


def measure_images(
    pairs: Collection[tuple[Scan, Path]],
    problems: Collection[Problem],
    how: ByMixture,
    out: Path,
    listener: Listener = Listener(),  # noqa: B008  frozen
) -> tuple[list[Failure], Rows]:
    """Measures masks on images of one contrast; writes a table, pictures and maps.

    Rows of other scans, which an earlier run of the same method has written, stay. A
    scan that fails is recorded and the others go on.

    Args:
        pairs: scans of one image, and their masks.
        problems: what is in the way of others; becomes failures.
        how: labels and method.
        out: folder; must exist.
        listener: what is told.

    Returns:
        All failures, and the rows of this run.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
        ValueError: a table of another method is there, or one of somebody else.
    """
    import sklearn.mixture  # noqa: F401  before any work

    check_ours(out, (TABLE, results.DICTIONARY, results.FAILURES))
    names = {scan.name for scan, _ in pairs} | {problem.scan for problem in problems}
    before = _rows_of_others(out / TABLE, how, names)
    failures, rows = [], []
    for p in problems:
        files = "; ".join(map(str, p.files))
        failures.append(Failure(p.scan, files, f"{p.message}; {p.hint}"))
        listener.on_failure(failures[-1])
    for scan, mask in pairs:
        started = time.perf_counter()
        listener.on_stage(scan.name, "measure")
        try:
            rows += _measure(scan, mask, how, out)
        except Exception as error:  # of this scan; the others go on
            failures.append(failure_of(scan, error))
            listener.on_failure(failures[-1])
            listener.on_finished(scan.name, {})
            continue
        listener.on_finished(scan.name, {"measure": time.perf_counter() - started})
    with written_together(out) as new:
        write_rows(new / TABLE, [*before, *rows])
        text = json.dumps(as_bids(), indent=1) + "\n"
        (new / results.DICTIONARY).write_text(text, "utf-8")
    results.write_failures(out, [failure.row() for failure in failures], names)
    return failures, rows


def _rows_of_others(path: Path, how: ByMixture, names: set[str]) -> list[dict]:
    if not path.exists():
        return []
    rows = [row for _, row in read_rows(path, required=["scan", "method"])]
    for row in rows:
        if row["method"] != how.method and row["scan"] not in names:
            raise ValueError(
                f"{path} has {row['scan']} by {row['method']}, this run is by "
                f"{how.method}; give another folder with -o"
            )
    return [row for row in rows if row["scan"] not in names]


def _measure(scan: Scan, mask: Path, how: ByMixture, out: Path) -> Rows:
    """The rows of one scan; its files are written.

    Raises:
        ValueError: image or mask cannot be used, or its sides are exchanged.
    """
    (path,) = scan.files.values()
    image = read_nifti(path)
    labels = read_labels(mask, image, label_set=how.label_set)
    if wrong := exchanged_sides(labels):
        raise ValueError(
            f"{mask}: {wrong}; say what the numbers mean with --labels, or flip the "
            "mask"
        )
    rows, tissues = measure_mixture(
        labels,
        image.data,
        voxel_volume_ml=image.voxel_volume_ml,
        components=how.components,
    )
    with written_together(out) as new:
        if how.maps:
            write_map(new / f"{scan.name}_mixture.nii.gz", tissues, image)
        _draw(new / f"{scan.name}_mixture_qc.png", image, labels, scan.name, how)
    told = {"method": how.method, "image": path.name, "cervjax_version": __version__}
    return [{"scan": scan.name} | row | told for row in rows]


def _draw(path: Path, image: NiftiImage, labels, name: str, how: ByMixture) -> None:
    figure = pictures().qc_figure(
        image.data,
        labels,
        spacing_mm=image.spacing_mm,
        title=name,
        subtitle=f"{image.path.name if image.path else name}, {how.method}",
    )
    pictures().save_png(figure, path)
