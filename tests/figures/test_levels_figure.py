import zlib

import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.text import Text

from cervjax import NOTICE
from cervjax.anatomy import MUSCLES
from cervjax.figures.levels import LEVELS, LevelSlice
from cervjax.figures.outlines import levels_figure
from cervjax.figures.style import save_figure

SLICES = tuple(LevelSlice(level, 3 - i) for i, level in enumerate(LEVELS))


def neck():
    """A grey image with all muscles in all slices, the right ones at larger x."""
    water = np.full((60, 50, 4), 100.0, np.float32)
    labels = np.zeros(water.shape, np.uint8)
    for m in MUSCLES:
        x = slice(36, 48) if m.side == "right" else slice(12, 24)
        y = 4 + 6 * ((m.label - 1) // 2)
        labels[x, y : y + 4] = m.label
    return water, labels


def draw(
    water, labels, slices=SLICES, spacing_mm=(1.5, 1.5, 3), width_mm=85.0, **options
):
    return levels_figure(
        water, labels, slices, spacing_mm=spacing_mm, width_mm=width_mm, **options
    )


def panels(figure):
    """Pixels of each slice's axes, ``(row, column, rgb)``, row 0 on top."""
    figure.canvas.draw()
    picture = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)
    parts = []
    for ax in figure.axes[1:]:
        box = ax.get_window_extent()
        rows = slice(*np.round(len(picture) - box.intervaly[::-1]).astype(int))
        parts.append(picture[rows, slice(*np.round(box.intervalx).astype(int))])
    return parts


def colored(picture, muscle):
    return np.abs(picture - muscle.color_rgb).max(-1) <= 6


def place(text, box):
    extent = text.get_window_extent()
    x, y = (extent.x0 + extent.x1) / 2, (extent.y0 + extent.y1) / 2
    return (x - box.x0) / box.width, (y - box.y0) / box.height


def test_right_muscles_are_on_the_left_and_anterior_is_up():
    for part in panels(draw(*neck())):
        heights = {}
        for m in MUSCLES:
            rows, columns = np.nonzero(colored(part, m))
            middle = columns.mean() / part.shape[1]
            assert middle < 0.45 if m.side == "right" else middle > 0.55
            heights[m.label] = rows.mean()
        assert (np.diff([heights[k] for k in range(1, 15, 2)]) < 0).all()
        assert (np.diff([heights[k] for k in range(2, 15, 2)]) < 0).all()


def test_tissue_is_where_its_outline_is():
    water, labels = neck()
    labels[...] = 0
    labels[40:46, 30:38], labels[12, 10] = 9, 2  # right anterior, left posterior
    water[labels == 9] = 1000
    for part in panels(draw(water, labels)):
        rows, columns = np.nonzero(colored(part, MUSCLES[8]))
        assert rows.mean() < 0.4 * part.shape[0] and columns.mean() < 0.4 * len(part[0])
        inside = part[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        bright = (inside > 240).all(-1)
        assert bright[8:-8, 8:-8].mean() > 0.98
        outside = (part > 240).all(-1).sum() - bright.sum()
        assert outside < 2500  # letters and the scale bar


def test_letters_stand_at_the_patients_sides():
    figure = draw(*neck())
    figure.canvas.draw()
    for ax in figure.axes[1:]:
        box = ax.get_window_extent()
        at = {t.get_text(): place(t, box) for t in ax.texts if len(t.get_text()) == 1}
        assert set(at) == set("RLAP")
        assert at["R"] == pytest.approx((0.05, 0.5), abs=0.04)
        assert at["L"] == pytest.approx((0.95, 0.5), abs=0.04)
        assert at["A"] == pytest.approx((0.5, 0.95), abs=0.04)
        assert at["P"] == pytest.approx((0.5, 0.05), abs=0.04)


def test_each_panel_shows_its_level():
    water, labels = neck()
    for i, m in enumerate(MUSCLES[:4]):
        labels[..., i] = np.where(labels[..., i] == m.label, m.label, 0)
    figure = draw(water, labels)
    shown = [[m.label for m in MUSCLES if colored(p, m).any()] for p in panels(figure)]
    assert shown == [[4], [3], [2], [1]]
    heads = [t.get_text() for t in figure.axes[0].texts[:12]]
    assert heads[:6] == ["a", "C3", "slice 3", "b", "C4", "slice 2"]


def test_neighbours_keep_their_own_lines():
    water, labels = neck()
    labels[...] = 0
    labels[20:30, 10:30], labels[30:40, 10:30] = 5, 7
    part = panels(draw(water, labels))[0]
    for label in (5, 7):
        columns = np.flatnonzero(colored(part, MUSCLES[label - 1]).sum(0) > 60)
        assert np.diff(columns).max() > 60  # a left and a right line
        assert 4 <= len(columns) <= 12


def test_an_outline_has_its_size_in_millimetres():
    water, labels = neck()
    labels[...] = 0
    labels[20:40, 10:30] = 1
    figure = draw(water, labels, spacing_mm=(1.5, 0.5, 3))
    (line,) = [p for p in figure.axes[1].patches if p.get_gid() == "MFSS_R"]
    box = line.get_path().get_extents()
    assert (box.x0, box.x1, box.y0, box.y1) == (30, 60, 5, 15)
    ax = figure.axes[1]
    (x0, x1), (y0, y1) = ax.get_xlim(), ax.get_ylim()
    pixels = ax.get_window_extent()
    assert (x0 - x1) / pixels.width == pytest.approx((y1 - y0) / pixels.height)
    bar = ax.patches[-1].get_window_extent().width / pixels.width * (x0 - x1)
    assert bar == pytest.approx(20)


def test_a_level_that_cannot_be_told_says_so():
    slices = (LevelSlice("C3", None, "no muscle ends above C3"), *SLICES[1:])
    figure = draw(*neck(), slices=slices)
    assert len(figure.axes) == 1 + 3
    texts = " ".join(t.get_text() for t in figure.findobj(Text)).replace("\n", " ")
    assert "This level is not known: no muscle ends above C3." in texts
    assert [len(ax.patches) for ax in figure.axes[1:]] == [15, 14, 14]  # a scale bar


@pytest.mark.parametrize("width_mm", [85, 180])
def test_the_page_is_fit_to_print(tmp_path, width_mm):
    figure = draw(*neck(), width_mm=width_mm, source="sub-1. Levels: from their map.")
    save_figure(figure, tmp_path / "a.png")
    assert imread(tmp_path / "a.png").shape[1] == int(width_mm / 25.4 * 300)
    texts = [t for t in figure.findobj(Text) if t.get_text()]
    assert NOTICE in [t.get_text() for t in texts]
    assert {m.abbreviation for m in MUSCLES} <= {t.get_text() for t in texts}
    assert {t.get_fontsize() for t in texts} == {6.0, 8.0}
    figure.canvas.draw()
    boxes = [t.get_window_extent() for t in texts]
    for i, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1
        assert not any(box.shrunk(0.9, 0.9).overlaps(other) for other in boxes[:i])


def test_pdf_has_vector_lines_and_the_same_bytes(tmp_path):
    for name in "ab":
        save_figure(draw(*neck()), tmp_path / f"{name}.pdf")
    pdf = (tmp_path / "a.pdf").read_bytes()
    assert pdf == (tmp_path / "b.pdf").read_bytes()
    assert pdf.count(b"/Subtype /Image") == 4 and b"/FontFile2" in pdf
    streams = []
    for part in pdf.split(b"stream\r\n" if b"stream\r\n" in pdf else b"stream\n")[1:]:
        try:
            streams.append(zlib.decompressobj().decompress(part))
        except zlib.error:
            continue
    page = max(streams, key=lambda stream: stream.count(b" l\n"))
    outline = 2 * (12 + 4) * 2  # voxel faces of one muscle's outline, more than this
    assert page.count(b" l\n") > 4 * 14 * outline / 2


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(ValueError, match="png or .pdf"):
        save_figure(draw(*neck()), tmp_path / "a.svg")


def test_both_sides_may_share_a_color():
    part = panels(draw(*neck(), palette="muscles"))[0]
    assert not colored(part, MUSCLES[0]).any()
    columns = np.nonzero(colored(part, MUSCLES[1]))[1] / part.shape[1]
    assert columns.min() < 0.45 and columns.max() > 0.55


@pytest.mark.parametrize("water", [0.0, 7.0, np.nan])
def test_an_image_without_contrast_is_drawn(water):
    _, labels = neck()
    panels(draw(np.full(labels.shape, water), labels))


BAD = {
    "shapes": ({"water": np.zeros((4, 4, 4))}, "one shape, got .*own grid"),
    "foreign": ({"labels": np.full((60, 50, 4), 15)}, "0-14 .*15 to 15"),
    "empty": ({"labels": np.zeros((60, 50, 4), int)}, "no muscle"),
    "spacing": ({"spacing_mm": (1, 0, 1)}, "positive"),
    "outside": ({"slices": [LevelSlice("C3", 4)]}, "slice 4 of C3"),
    "unknown": ({"slices": [LevelSlice("C3", None, "no idea")]}, "no idea"),
    "palette": ({"palette": "grey"}, "palette"),
    "width": ({"width_mm": 1}, "width_mm"),
}


@pytest.mark.parametrize("changes, message", BAD.values(), ids=BAD)
def test_refuses(changes, message):
    water, labels = neck()
    with pytest.raises(ValueError, match=message):
        draw(**({"water": water, "labels": labels} | changes))
