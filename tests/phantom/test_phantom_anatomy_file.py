import gzip
import json
from importlib.resources import files

import numpy as np
import pytest
from outlines import cut, save

from cervjax.phantom.anatomy_file import AnatomyError, read_outlines
from cervjax.phantom.atlas import load_anatomy

pytestmark = pytest.mark.xdist_group("phantom")
SQUARE = [[10.0, 0.0], [20.0, 0.0], [20.0, 8.0], [10.0, 8.0]]


def row(**changed):
    content = {
        "name": "carotid",
        "side": "R",
        "label": 0,
        "tissue": "vessel",
        "order": 30,
        "sections": [{"z": 4.0, "contour": SQUARE}, {"z": -1.0, "contour": SQUARE}],
    }
    return content | changed


def content(*rows, **changed):
    whole = {
        "units": "mm",
        "who": "a person\nby hand",
        "levels": {"C4": 17.0, "C5": 0.0, "disc_C5/6": -9.0},
        "discs": {"C4/5": 8.5},
        "structures": list(rows) or [row()],
    }
    return whole | changed


def test_a_file_by_hand(tmp_path):
    found = read_outlines(save(tmp_path / "one.json", content()))
    assert found.levels_mm == {"C4": 17.0, "C5": 0.0}
    assert found.discs_mm == {"C4/5": 8.5, "C5/6": -9.0}
    assert found.who == "a person by hand"
    (one,) = found.structures
    assert (one.name, one.tissue, one.label, one.order) == (
        "carotid_R",
        "artery",
        0,
        30,
    )
    np.testing.assert_array_equal(one.z_mm, [-1, 4])  # as they go upwards
    np.testing.assert_array_equal(one.contours_mm, [SQUARE, SQUARE])


def test_compressed_files_are_the_same(tmp_path):
    plain = save(tmp_path / "one.json", content())
    packed = tmp_path / "one.json.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    one, other = (read_outlines(p).structures[0] for p in (plain, packed))
    np.testing.assert_array_equal(one.contours_mm, other.contours_mm)


def section(z=0.0, contour=SQUARE):
    return {"z": z, "contour": contour}


def sections(*given):
    return content(row(sections=list(given)))


LEFT = [[-x, y] for x, y in SQUARE]
BAD = {
    "centimetres": (content(units="cm"), '"units" must be "mm", got cm'),
    "no units": ({"structures": [row()]}, '"units" must be "mm", got None'),
    "no C5": (content(levels={"C3": 33.0, "C4": 17.0}), "C5 must be 0"),
    "origin elsewhere": (content(levels={"C4": 17, "C5": 4}), "C5 must be 0"),
    "levels a list": (content(levels=[17, 0]), '"levels" must map names'),
    "disc a text": (content(discs={"C4/5": "8"}), "'C4/5' must be mm, got '8'"),
    "level beyond": (content(levels={"C4": 10**400, "C5": 0}), "'C4' must be mm"),
    "nothing": (content(structures=[]), 'no "structures"'),
    "no rows": (content(structures={"a": 1}), 'no "structures"'),
    "row a number": (content(7), "'?': needs name"),
    "no name": (content({"side": "R"}), "'?': needs name"),
    "two lines": (content(row(name="a\nb")), r"'a\nb': needs name"),
    "side": (content(row(side="X")), "'carotid': needs name, side"),
    "order": (content(row(order="first")), "'carotid': needs name"),
    "order nan": (content(row(order=float("nan"))), "is not a number"),
    "exchanged": (sections(section(contour=LEFT)), "carotid_R lies at x = -15 mm"),
    "label": (content(row(label=3)), "carotid_R has label 3, expected 0"),
    "muscle": (
        content(row(name="SCM", tissue="muscle", label=10)),
        "SCM_R has label 10, expected 9",
    ),
    "truth": (content(row(name="MFSS", tissue="muscle", label=True)), "has label True"),
    "tissue": (
        content(row(name="wing", tissue="chitin")),
        "tissue 'chitin' is none of",
    ),
    "tissues": (content(row(name="wing", tissue=["fat"])), "tissue ['fat'] is none of"),
    "twice": (content(row(), row()), "carotid_R twice"),
    "no sections": (sections(), "carotid_R: contours must be"),
    "ragged": (
        sections(section(), section(1.0, SQUARE[:3])),
        "same number of vertices",
    ),
    "two vertices": (sections(section(contour=SQUARE[:2])), "contours must be x, y"),
    "three axes": (sections(section(contour=[[1, 2, 3]] * 4)), "contours must be x, y"),
    "nan": (
        sections(section(contour=[[float("nan"), 0], *SQUARE])),
        "a coordinate is not a number",
    ),
    "height nan": (sections(section(float("nan"))), "is not a number"),
    "whole number": (sections(section(10**400)), "'carotid': needs name"),
    "voxels": (sections(section(contour=[[500, 0], *SQUARE])), "beyond 400 mm"),
    "one height": (sections(section(1.0), section(1.0)), "two sections at one height"),
    "flat": (sections(section(contour=[[9, 0], [9, 1], [9, 2]])), "a contour of 0 mm2"),
    "list": ([1, 2], "not a file of outlines"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_said_in_one_line(tmp_path, name):
    bad, message = BAD[name]
    path = save(tmp_path / "bad.json", bad)
    with pytest.raises(AnatomyError) as caught:
        read_outlines(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and message in text
    assert "\n" not in text


def packed(raw: bytes) -> bytes:
    return gzip.compress(raw, 1)


FILES = {
    "text.json": (b"no outlines here", "not a file of outlines"),
    "nothing.json": (b"", "not a file of outlines"),
    "latin.json": (b'{"units": "\xff"}', "not a file of outlines"),
    "deep.json": (b"[" * 100_000, "not a file of outlines"),
    "plain.json.gz": (b'{"units": "mm"}', "cannot be read"),
    "truncated.json.gz": (
        packed(json.dumps(content()).encode())[:-20],
        "cannot be read",
    ),
    "damaged.json.gz": (packed(bytes(1000))[:20] + bytes(50), "cannot be read"),
    "bomb.json.gz": (packed(b" " * 40_000_000), "more than 20 MB of text"),
}


@pytest.mark.parametrize("name", FILES)
def test_damaged_and_foreign_files(tmp_path, name):
    raw, message = FILES[name]
    assert len(raw) < 1_000_000
    path = tmp_path / name
    path.write_bytes(raw)
    with pytest.raises(AnatomyError, match=message) as caught:
        read_outlines(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_no_such_file_tells_what_there_is():
    with pytest.raises(
        AnatomyError, match="nobody: no such anatomy; .*man_41, standard"
    ):
        load_anatomy("nobody")


def test_a_folder_is_no_anatomy(tmp_path):
    with pytest.raises(AnatomyError, match="no such anatomy"):
        load_anatomy(tmp_path)


LACKING = {
    "no muscle": (lambda: cut(-8, 40, ("SCM",)), "SCM_R, SCM_L missing"),
    "no skin": (lambda: cut(-8, 40, ("body_outline",)), "body_outline missing"),
    "one section": (lambda: cut(-1, 1), "body_outline needs two sections"),
    "one disc": (lambda: cut(-8, 40) | {"discs": {"C4/5": 8}}, '"discs" must give two'),
    "upside down": (
        lambda: cut(-8, 40) | {"discs": {"C3/4": 8, "C4/5": 24}},
        "not in order from above",
    ),
}


@pytest.mark.parametrize("name", LACKING)
def test_what_no_neck_can_be_built_from(tmp_path, name):
    lacking, message = LACKING[name]
    content = lacking()
    content["levels"] |= {"C5": 0.0, "C4": 16.0}
    path = save(tmp_path / "person.json", content)
    with pytest.raises(AnatomyError, match=message) as caught:
        load_anatomy(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_the_example_of_the_format_is_read(tmp_path):
    folder = files("cervjax.phantom") / "anatomies"
    text = (folder / "README.md").read_text("utf-8")
    example = text.split("```json\n")[1].split("```")[0]
    path = tmp_path / "example.json"
    path.write_text(example)
    found = read_outlines(path)
    assert [s.name for s in found.structures] == ["SCM_R"]
    assert set(found.discs_mm) == {"C2/3", "C3/4", "C4/5", "C5/6"}
