"""One scan's result: labels, measurements, and how they came about."""

import base64
import html
import io
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, UInt8

from cervjax.about import NOTICE, __version__
from cervjax.inference import results, scan_tables, sidecar, standing
from cervjax.inference.levels import Level, levels_found
from cervjax.inference.origin import Origin, versions
from cervjax.inference.types import Segmentation
from cervjax.io.dixon import DixonImages
from cervjax.io.files import sha256_of_file, write_atomically
from cervjax.io.nifti import labels_file, to_stored_orientation
from cervjax.measurement.composition import Rows
from cervjax.measurement.maps import fat_fraction_percent, write_maps
from cervjax.measurement.statistics import histogram
from cervjax.measurement.swaps import swapped_region

EXTRAS = ("maps", "histogram")
"""What is written only where it is asked for."""


@dataclass(frozen=True, eq=False)
class Source:
    """Where a scan came from: its name, and by role the files and their digests."""

    name: str
    files: Mapping[str, str]
    sha256: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Result:
    """The labels of a scan, and what was measured in them.

    Attributes:
        source: the scan's name and files.
        images: the scan, in RAS.
        segmentation: labels and confidence, in RAS.
        origin: who drew the labels, and how.
        rows: per muscle, as in ``measurements.csv``.
        slice_rows: per muscle and slice, as in ``measurements_slices.csv``.
        level_rows: per muscle and vertebral level, as in ``measurements_levels.csv``.
        warnings: what a reader of the numbers should know.
        seconds: by stage.
    """

    source: Source
    images: DixonImages
    segmentation: Segmentation
    origin: Origin
    rows: Rows
    slice_rows: Rows
    level_rows: Rows
    warnings: tuple[str, ...]
    seconds: Mapping[str, float]

    @property
    def labels(self) -> UInt8[np.ndarray, "i j k"]:
        """0-14 on the scan's own grid, its axes as they are stored."""
        return self._stored(self.segmentation.labels)

    @property
    def confidence(self) -> Float32[np.ndarray, "i j k"]:
        """The largest class probability, like `labels`; from 1 / classes to 1.

        1 where the scan was cut off as air.
        """
        return self._stored(self.segmentation.confidence)

    @property
    def levels(self) -> tuple[Level, ...] | None:
        """The vertebral levels that were found, from C2 down.

        Axial slices are counted from the lowest, 0, as in ``measurements_slices.csv``.
        None for weights that find no levels.
        """
        levels = self.segmentation.levels
        return None if levels is None else levels_found(levels)

    @property
    def fat_fraction(self) -> Float32[np.ndarray, "i j k"]:
        """``100 F / (F + W)`` in percent, like `labels`; NaN where F + W <= 0."""
        return self._stored(fat_fraction_percent(self.images.fat_water))

    @property
    def histogram(self) -> Rows:
        """Voxels per muscle and fat fraction, as in ``measurements_histogram.csv``."""
        both = self.images.fat_water
        rows = histogram(self.segmentation.labels, both.fat, both.water)
        return [{"scan": self.source.name} | row for row in rows]

    @property
    def affine(self) -> Float[np.ndarray, "4 4"]:
        """Voxel index of `labels` to scanner mm (RAS+)."""
        return self.images.grid.stored_affine

    @property
    def table(self) -> Any:
        """`rows` as a pandas DataFrame; as they are where there is no pandas."""
        return as_table(self.rows)

    def save(self, out: str | Path, extras: Collection[str] = ()) -> None:
        """Writes the files that ``cervjax infer`` writes.

        Args:
            out: folder, made if need be; a result of the same scan is replaced.
            extras: of `EXTRAS`.

        Raises:
            ResultError: it holds results of other weights, settings or versions, or a
                mask of this name that was not written by cervjax, or edited since.
        """
        out, name = Path(out), self.source.name
        out.mkdir(parents=True, exist_ok=True)
        identity = self.origin.identity
        results.check_folder(out, identity, replaced=[name])
        self.write(out, extras=extras)
        results.write_label_tables(out)
        results.write_tables(out, identity)
        if not (out / results.FAILURES).exists():
            results.write_failures(out, [])

    def write(
        self, out: Path, *, discard_edits: bool = False, extras: Collection[str] = ()
    ) -> float:
        """Writes mask, picture and tables, then the side-car: it marks them complete.

        Args:
            out: folder.
            discard_edits: replace a mask that was edited.
            extras: of `EXTRAS`.

        Returns:
            The seconds that took.

        Raises:
            ResultError: a file is there that must not be replaced.
            OthersFileError: so is a map.
        """
        started = time.perf_counter()
        files = sidecar.paths(out, self.source.name)
        digests = {}
        if self.origin.mask is None or self.origin.mask.resolve() != (
            files.labels.resolve()
        ):
            content = labels_file(self.segmentation.labels, self.images.grid)
            standing.replace_mask(
                out, self.source.name, content, discard_edits=discard_edits
            )
            digests[files.labels.name] = sha256_of_file(files.labels)
        else:
            standing.check_others(files)
            if self.origin.mask_source == standing.EDITED:
                digests[files.labels.name] = sha256_of_file(files.labels)
        pictures().save_png(self.figure(), files.qc)
        digests[files.qc.name] = sha256_of_file(files.qc)
        if "maps" in extras:
            write_maps(out, self.source.name, self.images)
        packed = scan_tables.pack(self._tables(extras))
        write_atomically(files.tables, lambda part: part.write_bytes(packed))
        digests[files.tables.name] = sha256_of_file(files.tables)
        seconds = {**self.seconds, "write": time.perf_counter() - started}
        written = self._sidecar(digests) | {
            "Seconds": {stage: round(s, 3) for stage, s in seconds.items()}
        }
        sidecar.write_sidecar(out, self.source.name, written)
        return seconds["write"]

    def figure(self):
        """The picture to check the labels by, a matplotlib figure."""
        return pictures().qc_figure(
            self.images.fat_water.water,
            self.segmentation.labels,
            spacing_mm=self.images.grid.spacing_mm,
            title=self.source.name,
            subtitle="; ".join(self.warnings),
            swapped=swapped_region(self.segmentation.labels, self.images),
        )

    def _stored(self, volume: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(to_stored_orientation(volume, self.images.grid))

    def _sidecar(self, files: Mapping[str, str]) -> dict[str, Any]:
        levels = self.levels
        return {
            "Description": "14 neck muscles of Weber et al. 2021 (Table 1)",
            "Limits": NOTICE,
            "GeneratedBy": [{"Name": "cervjax", "Version": __version__, **versions()}],
            "Scan": self.source.name,
            "Sources": self.source.files,
            "FatWaterSource": self.images.fat_water.source,
            "Identity": asdict(self.origin.identity),
            "Files": files,
            **self.origin.sidecar(),
            "Warnings": self.warnings,
            "Levels": None if levels is None else [v._asdict() for v in levels],
        }

    def _tables(self, extras: Collection[str]) -> dict[str, Rows]:
        return {
            scan_tables.MEASUREMENTS: self.rows,
            scan_tables.SLICES: self.slice_rows,
            scan_tables.LEVELS: self.level_rows,
            scan_tables.HISTOGRAM: self.histogram if "histogram" in extras else [],
        }

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.figure().savefig(stream, format="png", dpi=80)
        return stream.getvalue()

    def _repr_html_(self) -> str:
        picture = base64.b64encode(self._repr_png_()).decode()
        rows = "".join(
            f"<tr><td>{row['muscle']} {row['side']}</td>"
            f"<td>{row['mfi_percent']:.1f}</td><td>{row['volume_ml']:.1f}</td></tr>"
            for row in self.rows
        )
        lines = (self.source.name, *self.warnings, NOTICE)
        return (
            "".join(f"<p>{html.escape(line)}</p>" for line in lines)
            + f'<img src="data:image/png;base64,{picture}">'
            + "<table><tr><th>muscle</th><th>MFI (%)</th><th>volume (ml)</th></tr>"
            + f"{rows}</table>"
        )


def pictures() -> Any:
    """The module that draws, imported late: matplotlib takes a second to come."""
    from cervjax.figures import quality

    return quality


def as_table(rows: Rows) -> Any:
    """Rows as a pandas DataFrame; as they are where there is no pandas."""
    try:
        import pandas
    except ImportError:
        return rows
    return pandas.DataFrame(rows)
