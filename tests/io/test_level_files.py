"""Vertebral levels of slices, from other programs' files."""

import numpy as np
import pytest
from conftest import save_nifti

from cervjax.io.level_files import levels_path, read_levels
from cervjax.io.nifti import read_nifti

SHAPE = (12, 12, 16)
AFFINE = np.diag([-2.0, 2.0, 3.0, 1.0])
AFFINE[2, 3] = -30  # the lowest slice
NUMBERS = [0, 8, 8, 7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 0]


@pytest.fixture
def grid(tmp_path):
    image = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    return read_nifti(save_nifti(tmp_path / "image.nii", image, AFFINE))


def cord():
    """SCT: the level of each slice in the voxels of the cord; C1 above."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[5:7, 5:7] = NUMBERS
    labels[5:7, 5:7, 15] = 1
    labels[5, 5, 2] = 7  # a border that leans
    return labels


def spine(discs=True):
    """TotalSpineSeg: bodies with gaps, processes that hang down, cord and canal."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[5, 5], labels[5, 6] = 1, 2
    values = {8: 21, **{n: 10 + n for n in range(2, 8)}}
    for z, n in enumerate(NUMBERS):
        if n:
            labels[2:8, 8:11, z] = values[n]
            if z > 1:
                labels[5, 2, z - 1] = values[n]
    if discs:
        for n, value in {3: 63, 4: 64, 5: 65, 6: 66, 7: 67, 8: 71}.items():
            top = max(z for z, k in enumerate(NUMBERS) if k == n)
            labels[2:8, 8:11, top] = value
    return labels


@pytest.mark.parametrize("labels", [cord(), spine(), spine(discs=False)])
@pytest.mark.parametrize("turned", [False, True])
def test_maps_give_the_level_of_each_slice(tmp_path, grid, labels, turned):
    affine = AFFINE
    if turned:  # stored from the top
        labels, affine = labels[..., ::-1], AFFINE @ np.diag([1, 1, -1, 1])
        affine[2, 3] = AFFINE[2, 3] + 3 * (SHAPE[2] - 1)
    path = save_nifti(tmp_path / "levels.nii.gz", labels, affine)
    assert read_levels(path, grid, "a").tolist() == NUMBERS


@pytest.mark.parametrize("with_mm", [False, True])
def test_a_table_of_many_scans(tmp_path, grid, with_mm):
    columns = "z_low_mm,z_high_mm" if with_mm else "first_slice,last_slice"
    lines = [f"scan,level,{columns}"]
    for i, level in enumerate(("T1", "C7", "C6", "C5", "C4", "C3", "C2")):
        first = 1 + 2 * i
        ends = (first, first + 1)
        low, high = (3 * z - 30 for z in ends) if with_mm else ends
        lines += [f"a,{level},{low},{high}", f"b,{level},1,1"]
    path = tmp_path / "levels.csv"
    path.write_text("\n".join(lines) + "\n")
    assert read_levels(path, grid, "a").tolist() == NUMBERS


def upside_down():
    return np.flip(cord(), 2)


@pytest.mark.parametrize(
    ("labels", "affine", "message"),
    [
        (cord(), np.diag([-2.0, 2.0, 2.0, 1.0]), "not on the grid of the scan"),
        (cord()[:-1], AFFINE, "not on the grid of the scan"),
        (cord() * np.float32(0.5), AFFINE, "whole numbers"),
        (np.zeros_like(cord()), AFFINE, "no level C2-T1"),
        (upside_down(), AFFINE, "upside down"),
    ],
)
def test_bad_maps_name_the_file(tmp_path, grid, labels, affine, message):
    path = save_nifti(tmp_path / "levels.nii", labels, affine)
    with pytest.raises(ValueError, match=message) as error:
        read_levels(path, grid, "a")
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("level,first_slice,last_slice\nL5,1,2\n", "line 2: level must be one of C2"),
        ("level,first_slice,last_slice\nC5,4,2\n", "the lower one first"),
        ("level,first_slice,last_slice\nC5,x,2\n", "give first_slice"),
        ("level,first_slice,last_slice\nC5,1,4\nC4,3,6\n", "slices of another level"),
        ("scan,level,first_slice,last_slice\nb,C5,1,4\n", "no level C2-T1 of a"),
        ("first_slice,last_slice\n1,4\n", "lacks the column level"),
    ],
)
def test_bad_tables_name_file_and_line(tmp_path, grid, text, message):
    path = tmp_path / "levels.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_levels(path, grid, "a")
    assert str(path) in str(error.value)


def test_a_folder_has_a_map_for_each_scan(tmp_path):
    for name in ("a_levels.nii.gz", "x/b_labeled.nii", "c.nii.gz"):
        path = tmp_path / "maps" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = {name: levels_path(tmp_path / "maps", name).name for name in "abc"}
    assert found == {"a": "a_levels.nii.gz", "b": "b_labeled.nii", "c": "c.nii.gz"}
    with pytest.raises(ValueError, match="no map of levels of d; name it d_levels"):
        levels_path(tmp_path / "maps", "d")
    with pytest.raises(ValueError, match="no such file"):
        levels_path(tmp_path / "gone", "a")
