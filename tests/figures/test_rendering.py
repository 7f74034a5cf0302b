import base64
import json
import re

import numpy as np
import pytest
from matplotlib.text import Text

from cervjax import NOTICE
from cervjax.anatomy import MUSCLES
from cervjax.figures import checks
from cervjax.figures.interactive import interactive_page, save_html
from cervjax.figures.meshes import muscle_meshes
from cervjax.figures.rendering import rendering_figure
from cervjax.figures.views import FROM_BELOW, VIEWS

# Where the viewer stands, and the patient's side at the picture's four sides.
SIDES = {
    "front": {"left": "R", "right": "L", "top": "S", "bottom": "I"},
    "back": {"left": "L", "right": "R", "top": "S", "bottom": "I"},
    "right side": {"left": "P", "right": "A", "top": "S", "bottom": "I"},
    "left side": {"left": "A", "right": "P", "top": "S", "bottom": "I"},
    "below": {"left": "R", "right": "L", "top": "A", "bottom": "P"},
}
# Six far balls, one towards each of the patient's sides, of hues that shading leaves
# apart: R orange, L blue, A green, P pink, S light blue, I yellow.
BALLS = {"R": 1, "L": 14, "A": 7, "P": 11, "S": 5, "I": 9}
DIRECTIONS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1)}
DIRECTIONS["I"] = (2, -1)


def balls():
    """Labels on a grid of 2 mm, x to the right, and its affine."""
    at = np.moveaxis(np.indices((45, 45, 45)), 0, -1) * 2.0 - 44
    labels = np.zeros(at.shape[:3], np.uint8)
    for side, (axis, sign) in DIRECTIONS.items():
        middle = np.zeros(3)
        middle[axis] = 34 * sign
        labels[np.linalg.norm(at - middle, axis=-1) < 7] = BALLS[side]
    affine = np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = -44
    return labels, affine


@pytest.fixture(scope="module")
def meshes():
    return muscle_meshes(*balls(), resolution_mm=2)


def centre(text, box):
    extent = text.get_window_extent()
    x, y = (extent.x0 + extent.x1) / 2, (extent.y0 + extent.y1) / 2
    return (x - box.x0) / box.width, (y - box.y0) / box.height


def hues(picture):
    """Hue (0-1) and saturation of pixels 0-255."""
    from matplotlib.colors import rgb_to_hsv

    hsv = rgb_to_hsv(picture / 255)
    return hsv[..., 0], hsv[..., 1]


@pytest.mark.parametrize("view", (*VIEWS, FROM_BELOW), ids=lambda v: v.name)
def test_views_face_the_patient(view):
    assert view.letters == SIDES[view.name]
    basis = np.array([view.right, view.up, view.toward])
    assert np.linalg.det(basis) == pytest.approx(1)  # never a mirror


@pytest.mark.parametrize("view", (*VIEWS, FROM_BELOW), ids=lambda v: v.name)
def test_muscles_and_letters_are_at_the_patients_sides(meshes, view):
    figure = rendering_figure(meshes, views=[view], width_mm=85)
    figure.canvas.draw()
    (paper, ax) = figure.axes
    picture = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    box = ax.get_window_extent()
    rows = slice(*np.round(len(picture) - box.intervaly[::-1]).astype(int))
    part = picture[rows, slice(*np.round(box.intervalx).astype(int))]
    hue, saturation = hues(part)
    letters = {t.get_text(): centre(t, box) for t in ax.texts if len(t.get_text()) == 1}
    for where, letter in SIDES[view.name].items():
        r, g, b = MUSCLES[BALLS[letter] - 1].color_rgb
        own = hues(np.array([[[r, g, b]]], float))[0].item()
        row, column = np.nonzero((np.abs(hue - own) < 0.03) & (saturation > 0.25))
        assert row.size > 300
        x, y = column.mean() / part.shape[1], 1 - row.mean() / part.shape[0]
        expected = (
            {"left": 0, "right": 1}.get(where),
            {"bottom": 0, "top": 1}.get(where),
        )
        for place, end, letters_place in zip(
            (x, y), expected, letters[letter], strict=True
        ):
            if end is None:
                assert place == pytest.approx(0.5, abs=0.05)
                assert letters_place == pytest.approx(0.5, abs=0.03)
            else:
                assert abs(place - end) < 0.25
                assert abs(letters_place - end) < 0.07


def test_what_is_near_hides_what_is_far(meshes):
    two = [m for m in meshes if m.muscle.label in (BALLS["A"], BALLS["P"])]
    for view, label in ((VIEWS[0], BALLS["A"]), (VIEWS[1], BALLS["P"])):
        figure = rendering_figure(two, views=[view], width_mm=85)
        figure.canvas.draw()
        picture = np.asarray(figure.canvas.buffer_rgba())[..., :3]
        box = figure.axes[1].get_window_extent()
        y, x = len(picture) - (box.y0 + box.y1) / 2, (box.x0 + box.x1) / 2
        pixel = picture[int(y), int(x)].astype(float)
        own = np.array([[MUSCLES[label - 1].color_rgb]], float)
        hue = hues(pixel[None, None])[0].item()
        assert hue == pytest.approx(hues(own)[0].item(), abs=0.03)
        assert pixel.max() > 0.75 * own.max()  # its lit side, not the inside


def test_the_still_is_to_scale(meshes):
    figure = rendering_figure(meshes, width_mm=180)
    figure.canvas.draw()
    for ax in figure.axes[1:]:
        box = ax.get_window_extent()
        per_mm = box.width / np.ptp(ax.get_xlim())
        assert per_mm == pytest.approx(box.height / np.ptp(ax.get_ylim()))
        (surface,) = ax.collections
        at = surface._triangulation
        assert np.ptp(at.x) == pytest.approx(82, abs=2)  # 68 and two radii of 7
        assert np.ptp(at.y) == pytest.approx(82, abs=2)
    bar = figure.axes[1].patches[0].get_window_extent().width
    first = figure.axes[1]
    assert bar / first.get_window_extent().width * np.ptp(
        first.get_xlim()
    ) == pytest.approx(20)


@pytest.mark.parametrize("width_mm", [85, 180])
def test_the_page_is_fit_to_print(meshes, width_mm):
    figure = rendering_figure(meshes, width_mm=width_mm, remark="sub-1.")
    texts = [t for t in figure.findobj(Text) if t.get_text()]
    written = [t.get_text() for t in texts]
    assert NOTICE in written and "sub-1." in written
    assert [w for w in written if w.startswith("from")] == [
        f"from the {view.name}" for view in VIEWS
    ]
    assert {t.get_fontsize() for t in texts} == {6.0, 8.0}
    figure.canvas.draw()
    boxes = [t.get_window_extent() for t in texts]
    for i, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        assert not any(box.shrunk(0.9, 0.9).overlaps(other) for other in boxes[:i])


def test_no_mesh_makes_no_picture(meshes):
    for given, views in (([], VIEWS), (meshes, [])):
        with pytest.raises(ValueError, match="no picture"):
            rendering_figure(given, views=views)


@pytest.fixture(scope="module")
def all_muscles():
    """Small blocks, right at larger x, at all labels."""
    labels = np.zeros((24, 72, 12), np.uint8)
    for m in MUSCLES:
        x = slice(14, 22) if m.side == "right" else slice(2, 10)
        y = 2 + 10 * ((m.label - 1) // 2)
        labels[x, y : y + 6, 3:9] = m.label
    return muscle_meshes(labels, np.diag([1, 1, 2, 1.0]))


def content(page):
    """Traces and layout of a page."""
    start = page.rindex("Plotly.newPlot(")
    start = page.index("[{", start)
    traces, end = json.JSONDecoder().raw_decode(page[start:])
    rest = page[start + end :]
    layout, _ = json.JSONDecoder().raw_decode(rest[rest.index("{") :])
    return traces, layout


def numbers(value):
    kinds = {"f4": np.float32, "u2": np.uint16, "i4": np.int32}
    return np.frombuffer(base64.b64decode(value["bdata"]), kinds[value["dtype"]])


def test_page_holds_every_muscle_where_it_is(all_muscles):
    pytest.importorskip("plotly")
    traces, _ = content(interactive_page(all_muscles, title="sub-1"))
    solids = [t for t in traces if t["type"] == "mesh3d"]
    assert [t["name"] for t in solids] == [
        f"{m.abbreviation} {m.side}" for m in MUSCLES
    ]
    for trace, mesh in zip(solids, all_muscles, strict=True):
        at = np.stack([numbers(trace[axis]) for axis in "xyz"], 1)
        np.testing.assert_allclose(at, mesh.vertices, atol=0.006)
        faces = np.stack([numbers(trace[axis]) for axis in "ijk"], 1)
        np.testing.assert_array_equal(faces, mesh.faces)
        assert trace["showlegend"] and mesh.muscle.name in trace["hovertemplate"]
        assert f"{mesh.mask_volume_ml:.1f} ml" in trace["hovertemplate"]
        r, g, b = mesh.muscle.color_rgb
        assert trace["color"] == f"rgb({r}, {g}, {b})"
    (letters,) = [t for t in traces if t["type"] == "scatter3d"]
    places = np.c_[letters["x"], letters["y"], letters["z"]]
    at = dict(zip(letters["text"], places, strict=True))
    assert at["R"][0] > 22 > 2 > at["L"][0]
    assert at["A"][1] > 68 > 2 > at["P"][1]
    assert at["S"][2] > 16 > 6 > at["I"][2]


def test_page_looks_from_the_patients_sides(all_muscles):
    pytest.importorskip("plotly")
    _, layout = content(interactive_page(all_muscles, title="sub-1"))
    buttons = layout["updatemenus"][0]["buttons"]
    toward = {
        "from the front": (0, 1, 0),
        "from the back": (0, -1, 0),
        "from the right side": (1, 0, 0),
        "from the left side": (-1, 0, 0),
        "from below": (0, 0, -1),
    }
    assert [b["label"] for b in buttons] == list(toward)
    for button in buttons:
        camera = button["args"][0]["scene.camera"]
        eye = np.array([camera["eye"][axis] for axis in "xyz"])
        assert tuple(np.sign(eye)) == toward[button["label"]]
        up = (0, 1, 0) if button["label"] == "from below" else (0, 0, 1)
        assert tuple(camera["up"][axis] for axis in "xyz") == up
    assert layout["scene"]["camera"] == buttons[0]["args"][0]["scene.camera"]
    scene = layout["scene"]
    per_mm = [
        scene["aspectratio"][axis] / np.ptp(scene[f"{axis}axis"]["range"])
        for axis in "xyz"
    ]
    np.testing.assert_allclose(per_mm, per_mm[0])  # no axis is stretched


def test_page_needs_nothing_from_outside(all_muscles, tmp_path):
    offline = pytest.importorskip("plotly.offline")
    page = interactive_page(all_muscles, title="<b>sub-1 & co</b>")
    save_html(page, tmp_path / "a.html")
    assert (tmp_path / "a.html").stat().st_size < 6e6
    assert page == interactive_page(all_muscles, title="<b>sub-1 & co</b>")
    own = page.replace(offline.get_plotlyjs(), "")
    assert len(own) < len(page) - 1e6
    assert not re.search(r"https?:|//[a-z]|\bsrc=|\bhref=|@import|<link", own)
    assert "<title>&lt;b&gt;sub-1 &amp; co&lt;/b&gt;" in own and "<b>sub-1" not in own
    assert NOTICE in own
    for m in MUSCLES:
        assert f"{m.abbreviation} {m.side}" in own and f"{m.name}, {m.side}" in own
    assert "Cloud" not in own  # the button that would upload it


def test_page_says_what_it_lacks(all_muscles, monkeypatch):
    with pytest.raises(ValueError, match="no mesh"):
        pytest.importorskip("plotly")
        interactive_page([], title="")
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'pip install "cervjax\[figures\]"'):
        interactive_page(all_muscles, title="sub-1")
