"""Figures 1 and 2 of the paper for every scan that has a mask.

Masks are found by name: ``<scan>_dseg.nii.gz``, as `cervjax infer` and
`cervjax phantom` write them; a map of levels beside one is
``<scan>_levels.nii.gz``. One bad scan never stops the others.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cervjax.anatomy import MUSCLES
from cervjax.figures.interactive import (
    PAGE_RESOLUTION_MM,
    check_plotly,
    interactive_page,
    save_html,
)
from cervjax.figures.levels import LevelSlice, slices_of_map, slices_of_muscles
from cervjax.figures.meshes import Mesh, muscle_meshes
from cervjax.figures.outlines import levels_figure
from cervjax.figures.page import PAGE_MM, new_page
from cervjax.figures.rendering import rendering_figure
from cervjax.figures.style import Palette, muscle_color, save_figure
from cervjax.io.dixon import read_scan
from cervjax.io.labels import exchanged_sides, read_labels
from cervjax.io.nifti import NiftiError, NiftiImage, check_same_grid, read_nifti
from cervjax.io.pairing import find_scans
from cervjax.io.scans import Scan

_EXTENSIONS = (".nii.gz", ".nii")
_PAGE_VERTICES = 30_000  # a page of 6 MB


class Paths(NamedTuple):
    """The files of one scan's figures."""

    levels_png: Path
    levels_pdf: Path
    rendering: Path
    page: Path


class Problem(NamedTuple):
    """What could not be drawn.

    Attributes:
        scan: name of the scan.
        message: what is wrong and what to do about it.
    """

    scan: str
    message: str


def paths(out: Path, name: str) -> Paths:
    """Names of a scan's figures."""
    return Paths(
        out / f"{name}_figure1.png",
        out / f"{name}_figure1.pdf",
        out / f"{name}_figure2.png",
        out / f"{name}_figure2.html",
    )


def write_figures(
    folder: str | Path,
    masks: str | Path,
    out: str | Path,
    *,
    width_mm: float = PAGE_MM,
    palette: Palette = "sides",
    page: bool = True,
    log: Callable[[str], object] = print,
) -> list[Problem]:
    """Draws both figures for each scan of a folder that has a mask.

    A figure that cannot be drawn, such as figure 1 of a mask that does not tell the
    levels, keeps neither the scan's other figures nor the other scans from being
    drawn. Figures that are there already are replaced.

    Args:
        folder: of scans, as for `scans.find_scans`.
        masks: folder that is searched with its sub-folders; or one mask, for a folder
            of one scan.
        out: folder for the figures, made if need be.
        width_mm: 180 for a page, 85 for a column.
        palette: whether sides differ in colour.
        page: whether the interactive page is written, which needs plotly.
        log: takes a line for each scan, and for each problem.

    Returns:
        What could not be drawn, and the images that form no scan.

    Raises:
        ValueError: no folder, no scan in it has a mask, a setting is unknown, or
            plotly is not installed.
        OSError: the folder for the figures cannot be written to.
    """
    folder, masks, out = Path(folder), Path(masks), Path(out)
    new_page(width_mm, width_mm)  # settings are refused before any work is done
    muscle_color(MUSCLES[0], palette)
    if page:
        check_plotly()
    scans, unpaired = find_scans(folder)
    problems = [Problem(p.scan, f"{p.message}; {p.hint}") for p in unpaired]
    found = _find_masks(masks, scans)
    without = [scan.name for scan in scans if not found[scan.name]]
    if len(without) == len(scans):
        names = ", ".join(f"{name}_dseg.nii.gz" for name in without[:3])
        raise ValueError(
            f"{masks}: no mask of a scan in {folder}, looked for "
            f"{names or 'none, as there is no scan'}; give the folder that cervjax "
            "infer wrote to"
        )
    out.mkdir(parents=True, exist_ok=True)
    for problem in problems:
        log(f"{problem.scan}: {problem.message}")
    for scan in scans:
        if scan.name in without:
            log(f"{scan.name}: no mask, left out")
            continue
        wrong = _draw(scan, found[scan.name], out, width_mm, palette, page)
        problems += wrong
        for problem in wrong:
            log(f"{scan.name}: {problem.message}")
        if not wrong:
            log(f"{scan.name}: drawn")
    return problems


def _find_masks(masks: Path, scans: Sequence[Scan]) -> dict[str, list[Path]]:
    """The candidates for each scan's mask."""
    if masks.is_file():
        if len(scans) != 1:
            raise ValueError(
                f"{masks} is one mask, but there are {len(scans)} scans; give a folder "
                "of masks named <scan>_dseg.nii.gz"
            )
        return {scans[0].name: [masks]}
    if not masks.is_dir():
        raise ValueError(f"{masks} does not exist; give a mask or a folder of masks")
    by_name: dict[str, list[Path]] = {scan.name: [] for scan in scans}
    for path in sorted(masks.rglob("*_dseg.nii*")):
        for extension in _EXTENSIONS:
            name = path.name.removesuffix(f"_dseg{extension}")
            if name in by_name and not path.name.startswith("."):
                by_name[name].append(path)
    return by_name


def _draw(
    scan: Scan,
    candidates: Sequence[Path],
    out: Path,
    width_mm: float,
    palette: Palette,
    page: bool,
) -> list[Problem]:
    """Draws what can be drawn of one scan; returns what cannot."""
    files = paths(out, scan.name)
    problems = []

    def attempt(draw: Callable[[], object]) -> bool:
        try:
            draw()
        except (ValueError, OSError, MemoryError) as error:
            problems.append(Problem(scan.name, str(error) or type(error).__name__))
        return not problems

    read: list[tuple[np.ndarray, np.ndarray, NiftiImage]] = []
    if not attempt(lambda: read.append(_read(scan, candidates))):
        return problems
    water, labels, grid = read[0]

    def first() -> None:
        slices, source = _levels(candidates[0], labels, grid)
        try:
            figure = levels_figure(
                water,
                labels,
                slices,
                spacing_mm=grid.spacing_mm,
                source=f"{scan.name}. {source}",
                width_mm=width_mm,
                palette=palette,
            )
        except ValueError as error:
            raise ValueError(f"{candidates[0]}: figure 1: {error}") from error
        save_figure(figure, files.levels_png)
        save_figure(figure, files.levels_pdf)

    def second() -> None:
        meshes = muscle_meshes(labels, grid.affine)
        options = {"width_mm": width_mm, "palette": palette}
        remark = f"{scan.name}. Parallel projection."
        figure = rendering_figure(meshes, remark=remark, **options)
        save_figure(figure, files.rendering)

    def third() -> None:
        meshes = _light_meshes(labels, grid.affine)
        html = interactive_page(meshes, title=scan.name, palette=palette)
        save_html(html, files.page)

    for draw in (first, second, third) if page else (first, second):
        attempt(draw)
    return problems


def _read(
    scan: Scan, candidates: Sequence[Path]
) -> tuple[np.ndarray, np.ndarray, NiftiImage]:
    """Water image, labels and grid; refuses a mask that would be drawn wrongly."""
    if len(candidates) > 1:
        names = ", ".join(map(str, candidates))
        raise ValueError(f"{len(candidates)} masks: {names}; keep one of them")
    images = read_scan(scan)
    try:
        labels = read_labels(candidates[0], images.grid)
    except NiftiError as error:
        raise ValueError(
            f"{error}. A mask has labels 0-14 on the scan's own grid, and at least one "
            "muscle, as cervjax infer writes it"
        ) from error
    at = {int(k): np.argwhere(labels == k) for k in np.unique(labels[labels > 0])}
    if wrong := exchanged_sides(at):
        raise ValueError(
            f"{candidates[0]}: {wrong}; a figure of it would show the wrong sides, "
            "renumber the labels"
        )
    return images.fat_water.water, labels, images.grid


def _levels(
    mask: Path, labels: np.ndarray, grid: NiftiImage
) -> tuple[tuple[LevelSlice, ...], str]:
    """The levels' slices, and how they were told."""
    stem = mask.name.removesuffix(".gz").removesuffix(".nii").removesuffix("_dseg")
    for extension in _EXTENSIONS:
        path = mask.with_name(f"{stem}_levels{extension}")
        if path.is_file():
            volume = read_nifti(path)
            check_same_grid(grid, volume)
            return slices_of_map(np.rint(volume.data)), "Levels: from their map."
    slices = slices_of_muscles(labels, grid.spacing_mm[2])
    return slices, "Levels: where muscles end (Table 1)."


def _light_meshes(labels: np.ndarray, affine: np.ndarray) -> list[Mesh]:
    """Meshes for a page that does not grow too large."""
    meshes = muscle_meshes(labels, affine, resolution_mm=PAGE_RESOLUTION_MM)
    count = sum(len(mesh.vertices) for mesh in meshes)
    if count <= _PAGE_VERTICES:
        return meshes
    coarser = PAGE_RESOLUTION_MM * (count / _PAGE_VERTICES) ** 0.5
    return muscle_meshes(labels, affine, resolution_mm=coarser)
