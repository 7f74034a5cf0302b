"""Figures 1 and 2 of the paper for every scan that has a mask.

One bad scan never stops the others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cervjax.anatomy import MUSCLES
from cervjax.figures.checks import check_installed
from cervjax.figures.inputs import Masked, find_masks, levels_of, read_masked
from cervjax.figures.interactive import (
    PAGE_RESOLUTION_MM,
    interactive_page,
    save_html,
)
from cervjax.figures.meshes import Mesh, muscle_meshes
from cervjax.figures.outlines import levels_figure
from cervjax.figures.page import PAGE_MM, new_page
from cervjax.figures.rendering import rendering_figure
from cervjax.figures.style import Palette, muscle_color, save_figure
from cervjax.io.pairing import find_scans
from cervjax.io.scans import Scan
from cervjax.io.written import check_ours, written_together

_PAGE_VERTICES = 30_000  # a page of 6 MB
_EXPECTED = (ValueError, OSError, MemoryError)  # of one scan: the others go on


class Paths(NamedTuple):
    """The files of one scan's figures."""

    levels_png: Path
    levels_pdf: Path
    rendering: Path
    page: Path


class NotDrawn(NamedTuple):
    """What could not be drawn.

    Attributes:
        scan: name of the scan.
        message: what is wrong and what to do about it.
    """

    scan: str
    message: str


@dataclass(frozen=True)
class _Look:
    """Width of the page, palette, and whether there is an interactive page."""

    width_mm: float
    palette: Palette
    page: bool


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
) -> list[NotDrawn]:
    """Draws both figures for each scan of a folder that has a mask.

    A figure that cannot be drawn, such as figure 1 of a mask that does not tell the
    levels, keeps neither the scan's other figures nor the other scans from being
    drawn. Figures of an earlier run are replaced, other files
    never.

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
            scikit-image or plotly is not installed.
        OSError: the folder for the figures cannot be written to.
    """
    folder, masks, out = Path(folder), Path(masks), Path(out)
    look = _Look(width_mm, palette, page)
    _check(look)
    scans, unpaired = find_scans(folder)
    problems = [NotDrawn(p.scan, f"{p.message}; {p.hint}") for p in unpaired]
    found = find_masks(masks, scans)
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
        wrong = _draw(scan, found[scan.name], out, look)
        problems += [NotDrawn(scan.name, message) for message in wrong]
        for message in wrong or ["drawn"]:
            log(f"{scan.name}: {message}")
    return problems


def _check(look: _Look) -> None:
    """Refuses settings before any work is done."""
    new_page(look.width_mm, look.width_mm)
    muscle_color(MUSCLES[0], look.palette)
    check_installed("skimage", *(["plotly"] if look.page else []))


def _draw(scan: Scan, candidates: Sequence[Path], out: Path, look: _Look) -> list[str]:
    """Draws what can be drawn of one scan; returns why the rest cannot."""
    steps = [_draw_levels, _draw_rendering, *([_draw_page] if look.page else [])]
    problems = []
    try:
        check_ours(out, [path.name for path in paths(out, scan.name)])
        masked = read_masked(scan, candidates)
        with written_together(out) as new:
            for step in steps:
                try:
                    step(masked, paths(new, scan.name), look)
                except _EXPECTED as error:
                    problems.append(_reason(error))
    except _EXPECTED as error:
        return [_reason(error)]
    return problems


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _draw_levels(scan: Masked, files: Paths, look: _Look) -> None:
    """Figure 1."""
    slices, source = levels_of(scan)
    try:
        figure = levels_figure(
            scan.water,
            scan.labels,
            slices,
            spacing_mm=scan.grid.spacing_mm,
            source=f"{scan.name}. {source}",
            width_mm=look.width_mm,
            palette=look.palette,
        )
    except ValueError as error:
        raise ValueError(f"{scan.mask}: figure 1: {error}") from error
    save_figure(figure, files.levels_png)
    save_figure(figure, files.levels_pdf)


def _draw_rendering(scan: Masked, files: Paths, look: _Look) -> None:
    """Figure 2, a still picture."""
    figure = rendering_figure(
        muscle_meshes(scan.labels, scan.grid.affine),
        remark=f"{scan.name}. Parallel projection.",
        width_mm=look.width_mm,
        palette=look.palette,
    )
    save_figure(figure, files.rendering)


def _draw_page(scan: Masked, files: Paths, look: _Look) -> None:
    """Figure 2, to be turned."""
    meshes = _light_meshes(scan.labels, scan.grid.affine)
    html = interactive_page(meshes, title=scan.name, palette=look.palette)
    save_html(html, files.page)


def _light_meshes(labels: np.ndarray, affine: np.ndarray) -> list[Mesh]:
    """Meshes for a page that does not grow too large."""
    meshes = muscle_meshes(labels, affine, resolution_mm=PAGE_RESOLUTION_MM)
    count = sum(len(mesh.vertices) for mesh in meshes)
    if count <= _PAGE_VERTICES:
        return meshes
    coarser = PAGE_RESOLUTION_MM * (count / _PAGE_VERTICES) ** 0.5
    return muscle_meshes(labels, affine, resolution_mm=coarser)
