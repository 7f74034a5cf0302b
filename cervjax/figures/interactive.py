"""The muscles in three dimensions as a page to turn: one HTML file, works offline.

Needs plotly, which comes with ``pip install "cervjax[figures]"``.
"""

import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cervjax.about import NOTICE
from cervjax.figures.checks import check_installed
from cervjax.figures.meshes import Mesh
from cervjax.figures.style import Palette, muscle_color
from cervjax.figures.views import FROM_BELOW, VIEWS, View
from cervjax.io.files import write_atomically

PAGE_RESOLUTION_MM = 1.75
"""Size of a triangle that keeps the page of a whole neck below 6 MB."""

_DISTANCE = 2.5  # of the camera, in sizes of the scene; nothing gets smaller by it
_ZOOM = 2.1
_RIM = 0.08  # from the muscles to the letters, of their extent
_LIGHTING = {
    "ambient": 0.4,
    "diffuse": 0.62,
    "specular": 0.25,
    "roughness": 0.5,
    "fresnel": 0.1,
}


# Plotly's light turns with the camera: x right, y up, z away from the viewer.
_LIGHT = {"x": -30_000, "y": 60_000, "z": -100_000}
# Named one by one, for plotly's own bar can send a chart to its maker's server.
_BUTTONS = [["toImage", "orbitRotation", "pan3d", "resetCameraDefault3d"]]


def interactive_page(
    meshes: Sequence[Mesh], *, title: str, palette: Palette = "sides"
) -> str:
    """A page that holds the muscles and all it needs to show them.

    Drag to turn, scroll to zoom; a click on a muscle's name hides or shows it, a
    double click shows it alone; pointing at a muscle names it with its volume.
    Buttons look from the sides of the patient. Coordinates are scanner millimetres,
    R, L, A, P, S, I stand at the patient's sides.

    Args:
        meshes: of `meshes.muscle_meshes`, at about `PAGE_RESOLUTION_MM`.
        title: such as the name of the scan.
        palette: whether sides differ in colour.

    Returns:
        HTML; the same for the same meshes.

    Raises:
        ValueError: plotly is not installed, or there is no mesh.
    """
    check_installed("plotly")
    if not meshes:
        raise ValueError("no mesh makes no page; give a mask with labels 1-14")
    import plotly.graph_objects as go

    points = np.concatenate([mesh.vertices for mesh in meshes])
    figure = go.Figure([_trace(mesh, palette) for mesh in meshes])
    low, high = points.min(0), points.max(0)
    rim = 2 * _RIM * float((high - low).max())  # holds the letters
    ranges = np.stack([low - rim, high + rim], 1)
    figure.add_trace(_letters(low, high))
    text = html.escape(title)
    figure.update_layout(
        title={"text": f"{text}<br><sub>{NOTICE}</sub>", "x": 0.01, "xanchor": "left"},
        font={"family": "Arial, Helvetica, sans-serif", "size": 14},
        margin={"l": 0, "r": 0, "t": 70, "b": 0},
        legend={"title": {"text": "click: hide or show"}, "itemsizing": "constant"},
        scene=_scene(ranges),
        updatemenus=[_buttons()],
    )
    body = figure.to_html(
        full_html=False,
        include_plotlyjs=True,
        div_id="muscles",
        default_height="100vh",
        config={
            "displaylogo": False,
            "modeBarButtons": _BUTTONS,
            "plotlyServerURL": "",
            "responsive": True,
        },
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{text}: neck muscles</title>\n"
        f"<style>body {{ margin: 0 }}</style>\n</head>\n<body>\n{body}\n"
        "</body>\n</html>\n"
    )


def save_html(page: str, path: str | Path) -> None:
    """Writes a page, atomically.

    Args:
        page: of `interactive_page`.
        path: the file, overwritten if it exists.
    """
    write_atomically(path, lambda part: part.write_text(page, "utf-8"))


def _trace(mesh: Mesh, palette: Palette) -> Any:
    """One muscle; numbers as short as they can be, for the size of the page."""
    import plotly.graph_objects as go

    m = mesh.muscle
    r, g, b = (round(255 * v) for v in muscle_color(m, palette))
    x, y, z = np.round(mesh.vertices, 2).astype(np.float32).T
    few = len(mesh.vertices) <= np.iinfo(np.uint16).max
    i, j, k = mesh.faces.astype(np.uint16 if few else np.int32).T
    return go.Mesh3d(
        x=x,
        y=y,
        z=z,
        i=i,
        j=j,
        k=k,
        name=f"{m.abbreviation} {m.side}",
        color=f"rgb({r}, {g}, {b})",
        showlegend=True,
        flatshading=False,
        lighting=_LIGHTING,
        lightposition=_LIGHT,
        hovertemplate=(
            f"<b>{m.name}, {m.side}</b><br>{mesh.mask_volume_ml:.1f} ml<extra></extra>"
        ),
    )


def _letters(low: np.ndarray, high: np.ndarray) -> Any:
    """R, L, A, P, S, I around the muscles."""
    import plotly.graph_objects as go

    middle, rim = (low + high) / 2, _RIM * float((high - low).max())
    places = np.repeat(middle[None], 6, 0)
    for axis in range(3):
        places[2 * axis, axis] = high[axis] + rim
        places[2 * axis + 1, axis] = low[axis] - rim
    x, y, z = np.round(places, 2).T.tolist()
    return go.Scatter3d(
        x=x,
        y=y,
        z=z,
        text=list("RLAPSI"),
        mode="text",
        textfont={"size": 18, "color": "#444"},
        hoverinfo="skip",
        showlegend=False,
        name="sides",
    )


def _scene(ranges: np.ndarray) -> dict[str, Any]:
    """Axes without lines, on one scale, seen from the front.

    Args:
        ranges: ``(3, 2)`` lowest and highest x, y, z in mm.
    """
    sizes = np.ptp(ranges, axis=1)
    return {
        "aspectmode": "manual",  # one scale for all axes: this sets the zoom
        "aspectratio": dict(zip("xyz", _ZOOM * sizes / sizes.max(), strict=True)),
        "camera": _camera(VIEWS[0]),
        **{
            f"{axis}axis": {"visible": False, "range": limits.tolist()}
            for axis, limits in zip("xyz", ranges, strict=True)
        },
    }


def _buttons() -> dict[str, Any]:
    """A row of buttons, one for each view."""
    buttons = [
        {
            "label": f"from {'' if view is FROM_BELOW else 'the '}{view.name}",
            "method": "relayout",
            "args": [{"scene.camera": _camera(view)}],
        }
        for view in (*VIEWS, FROM_BELOW)
    ]
    place = {"x": 0.01, "xanchor": "left", "y": 0.01, "yanchor": "bottom"}
    return {"type": "buttons", "direction": "right", **place, "buttons": buttons}


def _camera(view: View) -> dict[str, Any]:
    """Plotly's camera for a view; its axes are the scanner's, x to the right."""

    def vector(values: Iterable[float], factor: float = 1) -> dict[str, float]:
        return dict(zip("xyz", (float(factor * v) for v in values), strict=True))

    return {
        "eye": vector(view.toward, _DISTANCE),
        "up": vector(view.up),
        "center": vector((0, 0, 0)),
        "projection": {"type": "orthographic"},
    }
