import numpy as np
import pytest
from matplotlib.image import imread
from PIL import Image

from cervjax import NOTICE
from cervjax.figures.checks import check_labels, check_some_muscle, check_spacing
from cervjax.figures.style import axial_places, letters, new_figure, save_figure


def test_files_carry_the_notice_and_no_date(tmp_path):
    figure = new_figure(1, 0.5, dpi=50, color="black")
    save_figure(figure, tmp_path / "a.png", dpi=100)
    save_figure(figure, tmp_path / "a.pdf")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (100, 50) and picture.info["Description"] == NOTICE
        assert "Software" not in picture.info
    assert not imread(tmp_path / "a.png")[..., :3].any()
    pdf = (tmp_path / "a.pdf").read_bytes()
    assert NOTICE.encode() in pdf and b"CreationDate" not in pdf
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pdf", "a.png"]


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.png"
    path.write_text("old")
    figure = new_figure(1, 1)
    figure.savefig = lambda part, **_: part.write_text("half") and 1 / 0
    with pytest.raises(ZeroDivisionError):
        save_figure(figure, path)
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_letters_stand_on_the_patients_sides():
    places = axial_places(((10, 50), (0, 20)), 3)
    assert places == {"R": (47, 10), "L": (13, 10), "A": (30, 17), "P": (30, 3)}
    ax = new_figure(1, 1).add_subplot()
    letters(ax, {"R": places["R"]}, size_pt=5, halo_pt=0)
    (text,) = ax.texts
    assert (text.get_text(), *text.get_position()) == ("R", 47, 10)
    assert text.get_fontsize() == 5 and not text.get_path_effects()


def test_checks_say_what_was_received():
    labels = np.ones((2, 3, 4), int)
    check_labels(labels, labels)
    for bad, image, message in (
        (labels, labels[1:], r"\(1, 3, 4\) and \(2, 3, 4\); give"),
        (labels * 1.0, None, "float64"),
        (labels[0], None, r"3-D .* \(3, 4\)"),
        (labels - 2, None, "got -1 to -1; renumber"),
    ):
        with pytest.raises(ValueError, match=message):
            check_labels(bad, image)
    with pytest.raises(ValueError, match="no muscle here, every voxel"):
        check_some_muscle(0 * labels, " here")
    with pytest.raises(ValueError, match=r"got \(1, 0, 1\)"):
        check_spacing((1, 0, 1))
