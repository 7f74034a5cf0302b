"""The packaged anatomies, people between them, and what is drawn from them."""

from dataclasses import replace

import numpy as np
import pytest
from outlines import cut, save

from cervjax.anatomy import MUSCLES
from cervjax.phantom.atlas import (
    LEVELS,
    anatomy_names,
    anatomy_sources,
    draw_anatomy,
    load_anatomy,
    mix,
)
from cervjax.phantom.structure import area_mm2

pytestmark = pytest.mark.xdist_group("phantom")
NAMES = ("gre_adult", "man_41", "standard", "woman_59")
# mm2, mean over the levels of Table 1: from slight women to muscular men
PLAUSIBLE_MM2 = {
    "MFSS": (120, 500),
    "LC": (40, 160),
    "SPCap": (90, 450),
    "SSCap": (80, 400),
    "SCM": (180, 700),
    "TR": (150, 1900),
    "LS": (120, 650),
}


def muscle(anatomy, m):
    return next(
        s for s in anatomy.structures if s.label == m.label and s.tissue == str(s.label)
    )


def test_names_of_what_is_packaged():
    assert tuple(anatomy_names()) == NAMES == anatomy_sources()


@pytest.mark.parametrize("name", NAMES)
def test_muscles_lie_on_their_sides_and_are_as_large_as_muscles(name):
    anatomy = load_anatomy(name)
    bounds = anatomy.level_bounds_mm
    for m in MUSCLES:
        z = np.arange(bounds[m.levels[-1]][0], bounds[m.levels[0]][1], 2.0)
        _, xy = muscle(anatomy, m).at(z)
        assert len(xy) == len(z), (m.key, "is not there at its levels")
        x = xy[..., 0].mean(1)
        assert ((x > 2) if m.side == "right" else (x < -2)).all(), m.key
        low, high = PLAUSIBLE_MM2[m.abbreviation]
        area = area_mm2(xy).mean()
        assert low < area < high, (m.key, area)


@pytest.mark.parametrize("name", NAMES)
def test_levels_go_down_and_c5_is_the_origin(name):
    anatomy = load_anatomy(name)
    heights = -np.diff(anatomy.borders_mm)
    assert len(heights) == 7 and (heights > 12).all() and (heights < 28).all()
    assert list(anatomy.level_bounds_mm) == list(LEVELS)
    low, high = anatomy.level_bounds_mm["C5"]
    assert low < -6 and high > 6


@pytest.mark.parametrize("name", NAMES)
def test_it_is_said_who_it_is(name):
    anatomy = load_anatomy(name)
    assert anatomy.name == name and anatomy.sha256 == ""
    assert len(anatomy.who) > 20 and "structures from" in anatomy.traced
    assert (len(anatomy.filled) > 0) == (name != "standard")


@pytest.mark.parametrize("name", NAMES)
def test_muscles_are_within_the_fascia(name):
    anatomy = load_anatomy(name)
    skin = next(s for s in anatomy.structures if s.name == "body_outline")
    widest = np.abs(skin.contours_mm).max()
    for m in MUSCLES:
        assert np.abs(muscle(anatomy, m).contours_mm).max() < widest


# --- people between


def contours(anatomy):
    return np.concatenate([s.contours_mm.ravel() for s in anatomy.structures])


@pytest.fixture(scope="module")
def two():
    return load_anatomy("man_41"), load_anatomy("woman_59")


def test_the_ends_of_a_mix_are_the_two_people(two):
    for share, whole in zip((0.0, 1.0), two, strict=True):
        ends = mix(*two, share)
        np.testing.assert_allclose(contours(ends), contours(whole), atol=1e-9)
        np.testing.assert_allclose(ends.borders_mm, whole.borders_mm)


def test_the_middle_is_the_mean_whoever_comes_first(two):
    one, other = (mix(*pair, 0.5) for pair in (two, two[::-1]))
    mean = (contours(two[0]) + contours(two[1])) / 2
    np.testing.assert_allclose(contours(one), mean, atol=1e-9)
    np.testing.assert_allclose(contours(other), contours(one), atol=1e-9)
    np.testing.assert_allclose(
        one.borders_mm, (two[0].borders_mm + two[1].borders_mm) / 2
    )
    assert one.name == "man_41*0.50+woman_59*0.50"
    assert [s.name for s in one.structures] == [s.name for s in two[0].structures]


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_muscles_of_a_mix_have_areas_between(two, share):
    between = mix(*two, share)
    for m in MUSCLES:
        a, b, c = (
            area_mm2(muscle(one, m).contours_mm).mean() for one in (*two, between)
        )
        assert 0.85 * min(a, b) < c < 1.1 * max(a, b), m.key


# --- drawn


def test_half_of_the_people_are_between_two():
    """Of four, a second draw hits the first one in a quarter: 1/2 + 1/2 * 1/4."""
    rng = np.random.default_rng(0)
    names = [draw_anatomy(rng).name for _ in range(400)]
    pure = [n for n in names if "+" not in n]
    assert len(pure) / len(names) == pytest.approx(5 / 8, abs=0.1)
    assert set(pure) == set(NAMES)
    shares = [float(n.split("*")[1].split("+")[0]) for n in names if "+" in n]
    assert 0.1 <= min(shares) < 0.2 and 0.8 < max(shares) <= 0.9


def test_only_those_named_are_drawn():
    rng = np.random.default_rng(0)
    names = {draw_anatomy(rng, ("standard",)).name for _ in range(20)}
    assert names == {"standard"}
    parts = "".join(draw_anatomy(rng, ("standard", "man_41")).name for _ in range(40))
    assert "woman" not in parts and "gre" not in parts and "+" in parts


def test_same_generator_same_person():
    one, other = (draw_anatomy(np.random.default_rng([3, 1])) for _ in range(2))
    assert one.name == other.name
    np.testing.assert_array_equal(contours(one), contours(other))


@pytest.mark.slow
def test_what_is_drawn_from_does_not_depend_on_order_or_folder(tmp_path):
    content = cut(-8, 40)
    (tmp_path / "z").mkdir()
    first = save(tmp_path / "mine.json", content)
    copy = save(tmp_path / "z" / "mine.json", content)
    sources = anatomy_sources(["standard", str(first), "man_41", "standard"])
    assert sources == ("man_41", str(first), "standard")
    again = anatomy_sources([str(copy), "man_41", "standard"])
    assert again == ("man_41", str(copy), "standard")


def test_a_neck_on_which_the_mix_is_named_once(two):
    nested = mix(replace(two[0], name="a"), two[1], 0.25)
    assert nested.name == "a*0.75+woman_59*0.25"
