"""What the numbers in a mask mean."""

import json

import numpy as np
import pytest

from cervjax.anatomy import IGNORED, LEFT_RIGHT_PERMUTATION, MUSCLES
from cervjax.io.label_sets import (
    MUSCLEMAP,
    PAPER,
    muscle_named,
    read_label_set,
    to_papers,
)

LABELS = {m.key: m.label for m in MUSCLES}


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("LS_L", "LS_L"),
        ("SSCap_R", "SSCap_R"),
        ("lc-l", "LC_L"),
        ("Levator scapulae, right (LS_R)", "LS_R"),
        ("SemispinalisCapitisLeft", "SSCap_L"),
        ("left_splenius_capitis", "SPCap_L"),
        ("Semispinalis cervicis and multifidus R", "MFSS_R"),
        ("SCM (left)", "SCM_L"),
        ("right trapezius muscle", "TR_R"),
        ("spinal cord", None),
        ("C3", None),
    ],
)
def test_muscles_are_known_by_name(name, key):
    assert muscle_named(name) == (key and LABELS[key])


def test_a_muscle_without_a_side_is_refused():
    with pytest.raises(ValueError, match="does not tell its side; call it TR_L or"):
        muscle_named("trapezius")


def test_musclemap_numbers_sides_the_other_way_round():
    """Its ids: odd is left. Lumbar muscles and bones are none of ours."""
    values = np.array([[[1101, 1102, 1161, 1162, 2101, 7000, 0]]])
    labels, foreign = to_papers(values, MUSCLEMAP)
    named = [LABELS[k] for k in ("LS_L", "LS_R", "TR_L", "TR_R")]
    assert labels.ravel().tolist() == [*named, 0, 0, 0] and not foreign
    assert sorted(MUSCLEMAP.muscles.values()) == list(range(1, 15))


def test_nnunet_in_any_order_and_both_versions(tmp_path):
    """Left and right exchanged against the paper's, a region, another structure."""
    names = {m.key: int(LEFT_RIGHT_PERMUTATION[m.label]) for m in MUSCLES}
    labels = {"background": 0, **names, "spinal cord": 15, "ignore": 16}
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"labels": labels}))
    found = read_label_set("", tmp_path)  # beside the masks
    assert found.muscles == {int(LEFT_RIGHT_PERMUTATION[i]): i for i in range(1, 15)}
    papers, foreign = to_papers(np.array([[[15, 16, 17]]]), found)
    assert foreign == {17: 1} and papers.tolist() == [[[0, IGNORED, 0]]]
    path.write_text(json.dumps({"labels": {str(v): k for k, v in labels.items()}}))
    (tmp_path / "labelsTr").mkdir()
    assert read_label_set("", tmp_path / "labelsTr").muscles == found.muscles
    path.write_text(json.dumps({"labels": {"background": 0, "LC_L": [1, 2]}}))
    assert read_label_set(str(path)).muscles == {1: LABELS["LC_L"], 2: LABELS["LC_L"]}


def test_an_ignore_label_is_no_background_and_no_muscle(tmp_path):
    found = PAPER.with_ignored(99)
    papers, foreign = to_papers(np.array([[[3, 0, 99, 98]]]), found)
    assert papers.tolist() == [[[3, 0, IGNORED, 0]]] and foreign == {98: 1}
    assert PAPER.with_ignored(-1) is PAPER
    for value in (0, 14):
        with pytest.raises(ValueError, match=f"ignore label {value} is background or"):
            PAPER.with_ignored(value)
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"labels": {"LC_L": 1, "LC_R": 2, "ignore": 2}}))
    with pytest.raises(ValueError, match="value 2 is LC_R and ignore"):
        read_label_set("", tmp_path)


def test_a_table_and_the_default(tmp_path):
    assert read_label_set("", tmp_path) is PAPER
    path = tmp_path / "labels.csv"
    path.write_text("value,muscle,side\n7,longus colli,left\n8,LC,right\n")
    assert read_label_set(str(path)).muscles == {7: LABELS["LC_L"], 8: LABELS["LC_R"]}
    path = tmp_path / "labels.tsv"
    path.write_text("value\tname\n70\tLC_L\n")
    assert read_label_set(str(path)).muscles == {70: LABELS["LC_L"]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.json", "[" * 100_000, "no (labels|dataset.json) of nnU-Net"),
        ("x.json", '{"labels": 3}', "no labels of nnU-Net"),
        ("x.json", '{"labels": {"a": 1}}', "names none of the paper's muscles"),
        ("x.json", '{"labels": {"LC": 1}}', "does not tell its side"),
        ("x.csv", "value,name\n1.5,LC_L\n", "line 2: give a whole number"),
        ("x.csv", "value,name\n1,LC_L\n1,LC_R\n", "value 1 is LC_L and LC_R"),
        ("x.csv", "number,name\n1,LC_L\n", "lacks the column value"),
    ],
)
def test_what_is_no_label_set_names_the_file(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        read_label_set(str(path))
    assert str(path) in str(error.value)
    with pytest.raises(ValueError, match="--labels gone: not a file"):
        read_label_set("gone")
