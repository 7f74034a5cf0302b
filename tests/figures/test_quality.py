import subprocess
import sys

import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.text import Text
from scipy import ndimage

from cervjax.anatomy import MUSCLES, NUM_CLASSES
from cervjax.figures import quality
from cervjax.figures.quality import qc_figure, save_png


def pixels(figure):
    """The rendered picture, ``(row, column, rgb)``, row 0 on top."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(np.int16)


def panels(figure):
    """The rendered pixels of every slice's axes, without the strip of the letters."""
    picture = pixels(figure)
    parts = []
    for ax in figure.axes:
        box = ax.get_window_extent()
        rows = slice(*np.round(len(picture) - box.intervaly[::-1]).astype(int))
        part = picture[rows, slice(*np.round(box.intervalx).astype(int))]
        strip = round(0.06 * part.shape[1] / 1.12)
        parts.append(part[strip:-strip, strip:-strip])
    return parts


def render(image, labels, spacing_mm=(1, 1, 1)):
    """The rendered pixels of the most superior slice."""
    return panels(qc_figure(image, labels, spacing_mm=spacing_mm, title="t"))[0]


def middle(mask):
    """Mean position of a mask as fractions of its height and width."""
    return np.argwhere(mask).mean(0) / mask.shape


def colored(picture, label):
    return np.abs(picture - MUSCLES[label - 1].color_rgb).max(-1) <= 6


def sketch(figure):
    """Draws the whole figure, small, for its warnings and errors."""
    figure.dpi = 40
    figure.canvas.draw()


def texts(figure):
    return [t.get_text() for t in figure.findobj(Text)]


def neck(shape=(40, 32, 3)):
    """A grey ellipse and background labels."""
    x, y = (np.linspace(-1, 1, n) for n in shape[:2])
    body = (x[:, None] ** 2 + y**2 < 0.9).astype(np.float32) * 100
    return np.repeat(body[..., None], shape[2], 2), np.zeros(shape, np.uint8)


@pytest.mark.parametrize(
    "x, y, row, column",
    [
        (slice(26, 32), slice(22, 26), "top", "left"),  # right anterior
        (slice(8, 14), slice(22, 26), "top", "right"),  # left anterior
        (slice(26, 32), slice(6, 10), "bottom", "left"),  # right posterior
    ],
)
def test_picture_is_radiological(x, y, row, column):
    image, labels = neck()
    image[x, y] = 1000
    labels[20, 16] = 1
    place = middle((render(image, labels) > 250).all(-1))
    assert place[0] < 0.4 if row == "top" else place[0] > 0.6
    assert place[1] < 0.4 if column == "left" else place[1] > 0.6


def test_outlines_lie_on_their_sides_in_their_colors():
    image, labels = neck()
    for m in MUSCLES:
        x = slice(26, 34) if m.side == "right" else slice(6, 14)
        y = 2 * m.label
        labels[x, y : y + 2] = m.label
    part = render(image, labels)
    heights = []
    for m in MUSCLES:
        lines = colored(part, m.label)
        columns = np.flatnonzero(lines.any(0)) / part.shape[1]
        assert columns.max() < 0.5 if m.side == "right" else columns.min() > 0.5
        heights.append(middle(lines)[0])
    assert (np.diff(heights) < 0).all()  # anterior is up


def test_outline_surrounds_the_tissue_it_marks():
    image, labels = neck()
    image[28:32, 10:16], labels[28:32, 10:16] = 500, 7
    labels[6, 6] = 2
    part = render(image, labels, (2, 1, 1))
    bright, lines = (part > 250).all(-1), colored(part, 7)
    rows, columns = (np.flatnonzero((bright | lines).any(a)) for a in (1, 0))
    box = np.ix_(
        np.arange(rows[0], rows[-1] + 1), np.arange(columns[0], columns[-1] + 1)
    )
    seen = bright[box]
    assert lines[box][[0, 1, -2, -1]].all() and lines[box][:, [0, 1, -2, -1]].all()
    assert seen[6:-6, 6:-6].all()  # not filled: the tissue stays in sight


def test_neighbours_keep_their_own_outlines():
    image, labels = neck()
    labels[24:28, 10:16], labels[28:32, 10:16] = 5, 7
    part = render(image, labels)
    for label in (5, 7):
        columns = np.flatnonzero(colored(part, label).sum(0) > 40)
        assert len(columns) == 4  # a line of two pixels on either side
        assert np.diff(columns).max() > 40


def test_letters_stand_at_the_patients_sides():
    image, labels = neck()
    figure = qc_figure(image, labels, spacing_mm=(1, 1, 1), title="t")
    figure.canvas.draw()
    for index, ax in enumerate(figure.axes):
        box = ax.get_window_extent()
        place = {}
        for text in ax.texts:
            extent = text.get_window_extent()
            x, y = (extent.x0 + extent.x1) / 2, (extent.y0 + extent.y1) / 2
            place[text.get_text()] = (
                (x - box.x0) / box.width,
                (y - box.y0) / box.height,
            )
        assert set(place) == (set("RLAP") if index == 0 else set("RL"))
        assert place["R"] == pytest.approx((0.03, 0.5), abs=0.03)
        assert place["L"] == pytest.approx((0.97, 0.5), abs=0.03)
        if index == 0:
            assert place["A"] == pytest.approx((0.5, 0.97), abs=0.03)
            assert place["P"] == pytest.approx((0.5, 0.03), abs=0.03)


def test_slices_run_from_superior_to_inferior_where_muscles_are():
    image, labels = neck((20, 16, 40))
    labels[5:8, 5:8, 10:31] = 2
    spacing_mm = (1, 1, 2.5)
    figure = qc_figure(image, labels, spacing_mm=spacing_mm, title="t", num_slices=5)
    assert [ax.get_title() for ax in figure.axes] == [
        f"slice {z}, z {2.5 * z:.1f} mm" for z in (30, 25, 20, 15, 10)
    ]
    assert "no muscle found" not in texts(figure)


def test_pictures_to_be_compared_show_the_same_slices_and_box():
    image, labels = neck((20, 16, 40))
    labels[5:8, 5:8, 10:31] = 2
    other = np.zeros_like(labels)
    other[9, 9, 20] = 1
    one, two = (
        qc_figure(image, v, spacing_mm=(1, 1, 1), title="t", num_slices=5, like=labels)
        for v in (labels, other)
    )
    for a, b in zip(one.axes, two.axes, strict=True):
        assert a.get_title() == b.get_title() and a.get_xlim() == b.get_xlim()
    assert "no muscle found" not in texts(two)


def test_a_single_slice_is_the_middle_of_the_muscles():
    image, labels = neck((20, 16, 40))
    labels[5, 5, [10, 30]] = 2  # nothing on slice 20
    figure = qc_figure(image, labels, spacing_mm=(1, 1, 1), title="t", num_slices=1)
    assert [ax.get_title() for ax in figure.axes] == ["slice 20, z 20.0 mm"]
    assert "no muscle found" not in texts(figure)


def test_each_panel_shows_its_own_slice():
    image, labels = neck((20, 16, 3))
    image[..., 2], image[..., 0] = 3 * image[..., 2], 2 * image[..., 0]
    labels[10, 8] = 3
    labels[..., 1] += np.eye(20, 16, dtype=np.uint8)
    parts = panels(qc_figure(image, labels, spacing_mm=(1, 1, 1), title="t"))
    brightness = [np.median(part) for part in parts]
    assert brightness[0] > brightness[2] > brightness[1]
    assert [colored(part, 1).any() for part in parts] == [False, True, False]


def test_no_muscle_is_said_in_the_picture():
    image, labels = neck((20, 16, 9))
    figure = qc_figure(image, labels, spacing_mm=(1, 1, 1), title="t", num_slices=3)
    assert "no muscle found" in texts(figure)
    assert [ax.get_title()[:8] for ax in figure.axes] == [
        "slice 8,",
        "slice 4,",
        "slice 0,",
    ]


def test_texts_of_the_page():
    image, labels = neck()
    figure = qc_figure(
        image,
        labels,
        spacing_mm=(1, 1, 1),
        title="scan_$_$.nii.gz",
        subtitle="TR left absent " * 20,
    )
    figure.canvas.draw()
    written = texts(figure)
    assert "scan_$_$.nii.gz" in written
    assert "Research use only. Not for clinical use." in written
    assert sum(t.count("TR left absent") for t in written) >= 18  # wrapped
    for muscle in MUSCLES:
        assert f"{muscle.abbreviation} {muscle.side}" in written
    for text in figure.texts:
        extent = text.get_window_extent()
        assert extent.x0 >= 0 and extent.x1 <= figure.bbox.width
        assert extent.y0 >= 0 and extent.y1 <= figure.bbox.height


def test_color_key_shows_the_outlines_colors():
    figure = qc_figure(*neck(), spacing_mm=(1, 1, 1), title="t")
    picture = pixels(figure)[-130:]
    assert all(colored(picture, label).any() for label in range(1, NUM_CLASSES))


def test_body_and_muscles_are_in_the_crop_and_the_air_is_not():
    image, labels = np.zeros((100, 90, 2)), np.zeros((100, 90, 2), np.uint8)
    image[:] = np.random.default_rng(0).uniform(0, 5, image.shape)
    image[30:60, 40:70] = 100
    labels[70:75, 50:55] = 6  # outside the body
    ax = qc_figure(image, labels, spacing_mm=(2, 1, 1), title="t").axes[0]
    margin = 0.06 * 90
    assert ax.get_xlim() == pytest.approx((150 + margin, 60 - margin))
    assert ax.get_ylim() == pytest.approx((40 - margin, 70 + margin))


def test_voxels_keep_their_shape_in_mm():
    image, labels = neck((20, 40, 3))
    labels[8:12, 16:24] = 9  # 4 x 8 voxels of 2 x 1 mm: a square
    part = render(image, labels, (2, 1, 1))
    rows, columns = (np.flatnonzero(colored(part, 9).any(a)) for a in (1, 0))
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=2)


def test_one_bright_voxel_does_not_darken_the_picture():
    image, labels = neck((60, 60, 3))
    image[30:] *= 2
    labels[30, 30] = 1
    image[31, 31, 2] = 1e6
    assert np.percentile(render(image, labels), 75) > 200


@pytest.mark.parametrize(
    "shape, spacing_mm",
    [
        ((5, 4, 3), (1, 1, 1)),
        ((1, 1, 1), (1, 1, 1)),
        ((30, 20, 1), (0.5, 0.5, 5)),
        ((1, 50, 4), (0.7, 0.7, 3)),
        ((50, 1, 4), (0.7, 0.7, 3)),
        ((20, 20, 12), (0.1, 4, 30)),
        ((512, 512, 100), (0.5, 0.5, 3)),
    ],
    ids=str,
)
def test_a_single_voxel_is_seen_in_any_shape(shape, spacing_mm):
    image = np.ones(shape, np.int16)
    image[: shape[0] // 2 + 1] = 100
    labels = np.zeros(shape, np.uint8)
    labels[tuple(n // 2 for n in shape)] = 14
    figure = qc_figure(image, labels, spacing_mm=spacing_mm, title="t")
    overlay = np.asarray(figure.axes[0].images[1].get_array())
    assert (overlay[..., 3] > 0).any()
    assert figure.bbox.width == 1800 and figure.bbox.height < 2500
    sketch(figure)


def test_no_voxel_is_lost_where_pixels_are_larger():
    labels = np.zeros((512, 512, 8), np.uint8)
    labels[4:500:7, 4:500:9] = 14
    figure = qc_figure(labels == 0, labels, spacing_mm=(1, 1, 1), title="t")
    overlay = np.asarray(figure.axes[0].images[1].get_array())
    _, count = ndimage.label(overlay[..., 3])  # pyright: ignore
    assert count == np.count_nonzero(labels[..., 0])


@pytest.mark.parametrize(
    "value, grey",
    [(0, 0), (7, 0.5), (-3, 0.5), (1e30, 0.5), (np.nan, 0), (np.inf, 0)],
)
def test_constant_images(value, grey):
    _, labels = neck()
    labels[20, 16] = 1
    image = np.full(labels.shape, value)
    figure = qc_figure(image, labels, spacing_mm=(1, 1, 1), title="")
    assert (np.asarray(figure.axes[0].images[0].get_array()) == grey).all()
    sketch(figure)


def test_png_is_the_figure(tmp_path):
    figure = qc_figure(*neck(), spacing_mm=(1, 1, 1), title="t")
    save_png(figure, tmp_path / "a.png")
    written = np.round(imread(tmp_path / "a.png")[..., :3] * 255)
    np.testing.assert_array_equal(written, pixels(figure))


def test_large_files_are_written_at_a_lower_resolution(tmp_path, monkeypatch):
    figure = qc_figure(*neck(), spacing_mm=(1, 1, 1), title="t")
    save_png(figure, tmp_path / "a.png")
    size = (tmp_path / "a.png").stat().st_size
    monkeypatch.setattr(quality, "_MAX_BYTES", size - 1)
    save_png(figure, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size < size
    assert imread(tmp_path / "a.png").shape[1] == 1320


def test_arguments_are_left_alone():
    image, labels = neck()
    labels[20, 16] = 1
    copies = image.copy(), labels.copy()
    sketch(qc_figure(image, labels, spacing_mm=(1, 1, 1), title="t"))
    np.testing.assert_array_equal(image, copies[0])
    np.testing.assert_array_equal(labels, copies[1])


def test_needs_matplotlib_alone_and_no_pyplot(tmp_path):
    code = f"""
import sys
sys.modules |= dict.fromkeys(("skimage", "plotly"))  # cannot be imported
import numpy as np
from cervjax.figures import paper, quality
image = np.ones((4, 4, 4))
figure = quality.qc_figure(image, image.astype(int), spacing_mm=(1, 1, 1), title="")
quality.save_png(figure, {str(tmp_path / "a.png")!r})
try:
    paper.write_figures("scans", "masks", "out", page=False)
except ValueError as error:
    print(error)
sys.exit("matplotlib.pyplot" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert imread(tmp_path / "a.png").shape[1] == 1800
    assert "scikit-image missing" in done.stdout and "cervjax[figures]" in done.stdout


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"image": np.ones((3, 3, 2))}, "one shape"),
        ({"image": np.ones((3, 3)), "labels": np.ones((3, 3), int)}, "3-D"),
        ({"image": np.ones((3, 3, 0)), "labels": np.ones((3, 3, 0), int)}, "not empty"),
        ({"labels": np.full((3, 3, 3), 15)}, "0-14"),
        ({"labels": np.full((3, 3, 3), -1)}, "0-14"),
        ({"labels": np.ones((3, 3, 3))}, "integers"),
        ({"spacing_mm": (1, 1, 0)}, "positive"),
        ({"spacing_mm": (1, 1)}, "three"),
        ({"spacing_mm": (1, 1, np.nan)}, "positive"),
        ({"num_slices": 0}, "at least 1"),
    ],
)
def test_bad_input(changed, message):
    good = {"image": np.ones((3, 3, 3)), "labels": np.ones((3, 3, 3), int)}
    good |= {"spacing_mm": (1, 1, 1), "title": "t"}
    with pytest.raises(ValueError, match=message):
        qc_figure(**(good | changed))


def test_exchanged_water_and_fat_are_striped_where_they_are():
    image, labels = neck((40, 32, 30))
    labels[8:14, 10:16, 5:25] = 1
    swapped = np.zeros(labels.shape, bool)
    swapped[30:36, 20:26, 11:13] = True  # the patient's right, in front
    options = {"spacing_mm": (1, 1, 1), "title": "t", "num_slices": 3}
    figure = qc_figure(image, labels, swapped=swapped, **options)
    assert any("slice 11" in text or "slice 12" in text for text in texts(figure))
    assert any("exchanged" in text for text in texts(figure))
    red = [np.abs(p - (255, 60, 60)).max(-1) <= 2 for p in panels(figure)]
    shares = [part.mean() for part in red]
    assert shares[0] == shares[2] == 0 < shares[1]
    row, column = middle(red[1])
    assert row < 0.5 and column < 0.5
    inside = np.argwhere(red[1])
    box = np.ptp(inside, 0) + 1
    assert 0.2 < len(inside) / box.prod() < 0.5  # the image is seen in between
    plain = qc_figure(image, labels, swapped=np.zeros_like(swapped), **options)
    assert not any("exchanged" in text for text in texts(plain))
