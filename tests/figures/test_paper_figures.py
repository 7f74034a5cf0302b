import gzip

import nibabel as nib
import numpy as np
import pytest
from conftest import save_nifti
from matplotlib.image import imread
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from cervjax.anatomy import LEFT_RIGHT_PERMUTATION, MUSCLES
from cervjax.figures import checks, paper
from cervjax.figures.paper import paths, write_figures

SPACING = np.array((2.0, 2.0, 3.0))
BY_SLICE = np.repeat(np.arange(7, 1, -1), 5)  # C7 to C2, 15 mm each
STRAIGHT = np.eye(3)
OBLIQUE = np.array([[0.97, -0.17, 0.17], [0.19, 0.98, -0.07], [-0.15, 0.1, 0.98]])


def neck(mirrored=False):
    """Water, fat and labels in RAS; the right SCM is bright, and twice as deep."""
    labels = np.zeros((66, 50, len(BY_SLICE)), np.uint8)
    for m in MUSCLES:
        inside = np.isin(BY_SLICE, [int(level[1]) for level in m.levels])
        x = slice(36, 48) if m.side == "right" else slice(18, 30)
        y = 5 + 6 * ((m.label - 1) // 2)
        deep = 5 if m.key == "SCM_R" else 3
        labels[x, y : y + deep, inside] = m.label
    if mirrored:
        labels = LEFT_RIGHT_PERMUTATION[labels[::-1]]
    water = np.full(labels.shape, 300, np.float32)
    water[33:] += 60 if not mirrored else -60
    water[labels == (10 if mirrored else 9)] = 2000
    return water, water / 4, labels


def affine(turn=STRAIGHT):
    turn, _ = np.linalg.qr(turn)
    turn = turn * np.sign(np.diag(turn))
    full = np.eye(4)
    full[:3, :3] = turn * SPACING
    full[:3, 3] = -70, -50, 20
    return full


def save(path, data, at, axes="RAS"):
    """Writes RAS data with its axes stored another way."""
    image = nib.Nifti1Image(data, at)
    image = image.as_reoriented(ornt_transform(io_orientation(at), axcodes2ornt(axes)))
    save_nifti(path, np.asarray(image.dataobj), image.affine)


def save_scan(folder, name="sub-1", axes="RAS", turn=STRAIGHT, mirrored=False):
    water, fat, labels = neck(mirrored)
    for role, data in (("water", water), ("fat", fat)):
        save(folder / f"scans/{name}_{role}.nii.gz", data, affine(turn), axes)
    save(folder / f"masks/{name}_dseg.nii.gz", labels, affine(turn), axes)
    return labels


def draw(folder, **options):
    said = []
    problems = write_figures(
        folder / "scans", folder / "masks", folder / "out", log=said.append, **options
    )
    return problems, said


def colored(picture, label):
    rgb = (255 * picture[..., :3]).round().astype(int)
    return np.abs(rgb - MUSCLES[label - 1].color_rgb).max(-1) <= 6


@pytest.mark.parametrize(
    "axes, turn, mirrored",
    [
        ("LAS", STRAIGHT, True),
        ("PSR", OBLIQUE, False),
        ("ILP", OBLIQUE, True),
    ],
    ids=["LAS mirrored", "PSR oblique", "ILP oblique mirrored"],
)
def test_sides_whatever_the_storage(tmp_path, axes, turn, mirrored):
    save_scan(tmp_path, axes=axes, turn=turn, mirrored=mirrored)
    problems, _ = draw(tmp_path, page=False, width_mm=85)
    assert problems == []
    files = paths(tmp_path / "out", "sub-1")
    picture = imread(files.levels_png)
    height, width = picture.shape[:2]
    panel = picture[: height // 2, width // 2 :]  # C4, right of C3
    key = 0.86 * panel.shape[0]
    for m in MUSCLES:
        rows, columns = np.nonzero(colored(panel, m.label))
        columns = columns[rows < key]
        if "C4" in m.levels:
            middle = columns.mean() / panel.shape[1]
            assert middle < 0.5 if m.side == "right" else middle > 0.5
    wide = colored(panel, 10 if mirrored else 9)
    deep, thin = (
        np.ptp(np.nonzero(colored(panel, k))[0])
        for k in ((10, 9) if mirrored else (9, 10))
    )
    assert deep > 1.4 * thin
    rows, columns = np.nonzero(wide)
    inside = panel[rows.min() : rows.max(), columns.min() : columns.max(), :3]
    assert (inside > 0.95).all(-1).mean() > 0.5  # the image agrees with the outline

    three_d = imread(files.rendering)  # from the front, upper left
    front = three_d[: int(0.33 * len(three_d)), : three_d.shape[1] // 2, :3]
    red, green, blue = np.moveaxis(front, -1, 0)
    yellow = (red - blue > 0.3) & (np.abs(red - green) < 0.15)  # SCM, foremost
    pale = yellow & (blue / np.maximum(red, 1e-6) > 0.3)  # the left one
    at = [np.nonzero(mask)[1].mean() for mask in (yellow & ~pale, pale)]
    assert at[0] < at[1]


def test_writes_the_four_files_atomically(tmp_path):
    pytest.importorskip("plotly")
    save_scan(tmp_path)
    assert draw(tmp_path) == ([], ["sub-1: drawn"])
    names = {path.name for path in (tmp_path / "out").glob("[a-z]*")}
    assert names == {
        "sub-1_figure1.png",
        "sub-1_figure1.pdf",
        "sub-1_figure2.png",
        "sub-1_figure2.html",
    }
    assert "sub-1" in (tmp_path / "out/sub-1_figure2.html").read_text("utf-8")[:300]


def test_a_map_of_levels_is_preferred(tmp_path, monkeypatch):
    labels = save_scan(tmp_path, axes="LAS")
    levels = np.broadcast_to(BY_SLICE, labels.shape).astype(np.uint8)
    levels = np.roll(levels, 1, 2)
    save(tmp_path / "masks/sub-1_levels.nii.gz", levels, affine(), "PSR")
    seen = []

    def keep(water, labels, slices, **options):
        seen.append(([s.index for s in slices], options["source"]))
        raise ValueError("enough")

    monkeypatch.setattr(paper, "levels_figure", keep)
    monkeypatch.setattr(paper, "rendering_figure", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        draw(tmp_path, page=False)
    (tmp_path / "masks/sub-1_levels.nii.gz").unlink()
    with pytest.raises(ZeroDivisionError):
        draw(tmp_path, page=False)
    assert seen[0] == ([23, 18, 13, 8], "sub-1. Levels: from their map.")
    assert seen[1][0] == [22, 17, 12, 7] and "Table 1" in seen[1][1]


def test_one_bad_scan_stops_no_other(tmp_path):
    for name in "abcdefgh":
        labels = save_scan(tmp_path, f"sub-{name}")
    masks = tmp_path / "masks"
    save(masks / "sub-a_dseg.nii.gz", labels[:-2], affine())
    save(masks / "sub-b_dseg.nii.gz", 0 * labels, affine())
    save(masks / "sub-c_dseg.nii.gz", labels + 3, affine())
    save(masks / "sub-d_dseg.nii.gz", LEFT_RIGHT_PERMUTATION[labels], affine())
    (masks / "sub-e_dseg.nii.gz").write_bytes(gzip.compress(b"no image"))
    save(masks / "again/sub-f_dseg.nii.gz", labels, affine())
    everywhere = np.broadcast_to(labels.max(2, keepdims=True), labels.shape)
    save(masks / "sub-g_dseg.nii.gz", np.ascontiguousarray(everywhere), affine())
    save_scan(tmp_path, "sub-i")
    (masks / "sub-i_dseg.nii.gz").unlink()
    (tmp_path / "scans/sub-j_water.nii.gz").write_bytes(b"")

    problems, said = draw(tmp_path, page=False, width_mm=85)
    messages = {p.scan: p.message for p in problems}
    for scan, parts in {
        "sub-a": ("sub-a_dseg.nii.gz", "(64, 50, 30)", "own grid"),
        "sub-b": ("sub-b_dseg.nii.gz", "every voxel is 0", "at least one muscle"),
        "sub-c": ("sub-c_dseg.nii.gz", "15, 16, 17", "renumber"),
        "sub-d": ("sub-d_dseg.nii.gz", "exchanged", "renumber"),
        "sub-e": ("sub-e_dseg.nii.gz", "not readable"),
        "sub-f": ("2 masks", "keep one"),
        "sub-g": ("sub-g_dseg.nii.gz", "no level is known", "Give a map"),
        "sub-j": ("sub-j_fat", "partner"),
    }.items():
        assert all(part in messages.pop(scan) for part in [parts[0]]), scan
        assert all(
            part in next(p.message for p in problems if p.scan == scan)
            for part in parts
        ), scan
    assert messages == {}
    assert "sub-h: drawn" in said and "sub-i: no mask, left out" in said
    drawn = sorted(path.name for path in (tmp_path / "out").glob("[a-z]*"))
    assert drawn == [
        "sub-g_figure2.png",  # needs no levels
        "sub-h_figure1.pdf",
        "sub-h_figure1.png",
        "sub-h_figure2.png",
    ]


def test_a_single_mask_for_a_single_scan(tmp_path, monkeypatch):
    save_scan(tmp_path)
    mask = tmp_path / "masks/sub-1_dseg.nii.gz"
    mask = mask.rename(tmp_path / "by_hand.nii.gz")
    monkeypatch.setattr(paper, "save_figure", lambda figure, path: None)
    said = []
    write_figures(
        tmp_path / "scans", mask, tmp_path / "out", page=False, log=said.append
    )
    assert said == ["sub-1: drawn"]
    save_scan(tmp_path, "sub-2")
    with pytest.raises(ValueError, match="2 scans"):
        write_figures(tmp_path / "scans", mask, tmp_path / "out", page=False)


def test_a_large_page_is_made_coarser():
    labels = np.zeros((150, 150, 40), np.uint8)
    labels[5:145, 5:145, 5:35] = 1
    (mesh,) = paper._light_meshes(labels, np.diag([1, 1, 3, 1.0]))
    assert 20_000 < len(mesh.vertices) < 33_000
    assert mesh.volume_ml == pytest.approx(mesh.mask_volume_ml, rel=0.005)


def test_refuses_before_any_work(tmp_path, monkeypatch):
    save_scan(tmp_path)
    for options, message in (
        ({"palette": "grey"}, "palette"),
        ({"width_mm": 5}, "width_mm"),
    ):
        with pytest.raises(ValueError, match=message):
            draw(tmp_path, page=False, **options)
    with pytest.raises(ValueError, match="sub-1_dseg.nii.gz"):
        write_figures(tmp_path / "scans", tmp_path / "scans", tmp_path, page=False)
    with pytest.raises(ValueError, match="does not exist"):
        write_figures(tmp_path / "scans", tmp_path / "none", tmp_path, page=False)
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"cervjax\[figures\]"):
        draw(tmp_path)
    assert not (tmp_path / "out").exists()
