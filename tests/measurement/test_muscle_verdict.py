"""May a muscle's numbers be used? A neck of blocks, and what can be wrong with it."""

import numpy as np
import pytest
from block_neck import SPACING_MM, block_neck, echoes

from cervjax.anatomy import LEFT_RIGHT_PERMUTATION, MUSCLES
from cervjax.io.dixon import dixon_images
from cervjax.io.nifti import image_of_array, read_nifti
from cervjax.measurement.composition import measure
from cervjax.measurement.limits import FEWEST, MOST
from cervjax.measurement.places import scm_slope
from cervjax.measurement.verdict import ScanFindings, judge_muscles, summary

NECK = block_neck()
ECHOES = echoes(NECK)
LABELS = {m.key: m.label for m in MUSCLES}


def judged(labels=NECK, pair=ECHOES, scan=None, spacing=SPACING_MM, sure=1.0):
    affine = np.diag([*spacing, 1.0])
    images = dixon_images(
        {
            role: read_nifti(image_of_array(image, affine))
            for role, image in zip(("in_phase", "out_phase"), pair, strict=True)
        }
    )
    rows = measure(
        labels,
        images.fat_water.fat,
        images.fat_water.water,
        voxel_volume_ml=float(np.prod(spacing)) / 1000,
        confidence=np.full(labels.shape, sure, np.float32),
    )
    return judge_muscles(rows, labels, images, scan or ScanFindings())


def of(key, found):
    return found[LABELS[key] - 1]


def test_a_sound_neck_may_be_used():
    found = judged()
    assert [j.verdict for j in found] == ["use"] * 14
    assert not any(j.reasons for j in found)
    assert summary(found) == "14 of 14 muscles to use"


def without(key, keep):
    """The muscle, but for what `keep` leaves of it."""
    labels = NECK.copy()
    inside = labels == LABELS[key]
    at = np.argwhere(inside)
    labels[inside] = 0
    kept = at[keep(at)]
    labels[tuple(kept.T)] = LABELS[key]
    return labels


@pytest.mark.parametrize(
    ("key", "keep", "verdict", "reason"),
    [
        ("LC_L", lambda at: at[:, 0] < 0, "do_not_use", "not found"),
        ("LC_L", lambda at: np.arange(len(at)) == 0, "do_not_use", "1 voxels"),
        ("LC_L", lambda at: at[:, 2] == 10, "look", "3 mm of its length"),
        ("LC_L", lambda at: at[:, 2] % 2 == 0, "look", "% of slices empty"),
        (
            "LC_L",
            lambda at: (at[:, 0] < 51) & (at[:, 1] == 70),
            "do_not_use",
            "times the usual",
        ),
        ("TR_R", lambda at: (at[:, 0] < 96) | (at[:, 0] > 104), "look", "in 2 pieces"),
        ("TR_R", lambda at: np.isin(at[:, 0] % 6, (0, 1)), "do_not_use", " pieces"),
        ("MFSS_R", lambda at: at[:, 0] < 70, "look", "sides differ by"),
    ],
)
def test_a_muscle_that_is_not_whole(key, keep, verdict, reason):
    found = judged(without(key, keep))
    own = of(key, found)
    assert own.verdict == verdict and any(reason in r for r in own.reasons)
    partner = found[LEFT_RIGHT_PERMUTATION[LABELS[key]] - 1]
    assert partner.verdict in ("use", "look")  # where only the sides differ
    others = [j for m, j in zip(MUSCLES, found, strict=True) if m.key[:-2] != key[:-2]]
    assert {j.verdict for j in others} == {"use"}
    assert key in summary(found)


def changed(key, to):
    """Echoes with other values in a muscle."""
    pair = [v.copy() for v in ECHOES]
    inside = NECK == LABELS[key]
    pair[0][inside], pair[1][inside] = to(*(v[inside] for v in ECHOES))
    return tuple(pair)


@pytest.mark.parametrize(
    ("to", "verdict", "reason"),
    [
        (lambda ip, op: (ip, 1.1 * ip), "do_not_use", "MFI -5.0 %"),
        (lambda ip, op: (ip, ip), "look", "MFI 0.0 %"),
        (lambda ip, op: (ip, 0.1 * ip), "look", "MFI 45.0 %"),
        (lambda ip, op: (ip, 0.14 * ip), "look", "where fractions fold"),
        (lambda ip, op: (0.1 * ip, 0.1 * op), "do_not_use", "hardly any signal"),
        (lambda ip, op: (0 * ip, 0 * op), "do_not_use", "no signal"),
        (lambda ip, op: (ip, 0.55 * ip), "look", "points in MFI"),
    ],
)
def test_images_that_cannot_be_of_muscle(to, verdict, reason):
    own = of("SCM_L", judged(pair=changed("SCM_L", to)))
    assert own.verdict == verdict and any(reason in r for r in own.reasons)


@pytest.mark.parametrize(
    "pair",
    [(ECHOES[0], ECHOES[0]), ECHOES[::-1], (ECHOES[0], 0.6 * ECHOES[1])],
    ids=["identical", "exchanged", "scaled"],
)
def test_a_wrong_pair_leaves_nothing_to_use(pair):
    assert {j.verdict for j in judged(pair=pair)} == {"do_not_use"}


@pytest.mark.parametrize("scale", [0.85, 1.2])
def test_a_scale_a_little_off_is_looked_at(scale):
    found = judged(pair=(ECHOES[0], scale * ECHOES[1]))
    assert "use" not in {j.verdict for j in found}


@pytest.mark.parametrize(
    "turn",
    [np.s_[::-1], np.s_[:, ::-1], np.s_[:, :, ::-1], np.s_[::-1, :, ::-1]],
    ids=["mirrored", "back to front", "upside down", "turned"],
)
def test_a_neck_turned_by_its_header_is_not_to_be_used(turn):
    found = judged(NECK[turn], [v[turn] for v in ECHOES])
    assert {j.verdict for j in found} == {"do_not_use"}


def test_upside_down_shows_in_the_sternocleidomastoids():
    """Also where every muscle is in full length, as networks and MuscleMap draw."""
    both = [LABELS["SCM_L"], LABELS["SCM_R"]]
    others = np.where(np.isin(NECK, both), 0, NECK).max(2)
    outline = np.where(np.isin(NECK[..., 14], both), NECK[..., 14], others)
    labels = np.repeat(outline[..., None], NECK.shape[2], 2)
    scm = np.isin(labels, both)
    sternum_below = np.zeros_like(labels)
    for z in range(labels.shape[2]):  # 0.5 mm forwards for each mm downwards
        moved = np.where(scm[..., z], labels[..., z], 0)
        shift = round(0.5 * 3 * (14 - z)) - 10
        sternum_below[..., z] = np.roll(moved, shift, 1)
    labels = np.where(scm, 0, labels)
    labels = np.where(sternum_below > 0, sternum_below, labels).astype(np.uint8)
    spacing = (1.0, 1.0, 3.0)
    assert scm_slope(labels, spacing) == pytest.approx(-0.5, abs=0.05)
    assert scm_slope(labels[..., ::-1], spacing) == pytest.approx(0.5, abs=0.05)
    assert np.isnan(scm_slope(labels[..., :3], spacing))
    found = judged(labels[..., ::-1], [v[..., ::-1] for v in ECHOES])
    assert {j.verdict for j in found} == {"do_not_use"}
    assert any("upside down" in r for r in found[0].reasons)
    assert not any("upside down" in r for j in judged(labels) for r in j.reasons)


def test_one_pair_exchanged_is_named():
    labels = NECK.copy()
    for key, other in (("LS_L", "LS_R"), ("LS_R", "LS_L")):
        labels[NECK == LABELS[key]] = LABELS[other]
    found = judged(labels)
    assert of("LS_L", found).verdict == of("LS_R", found).verdict == "do_not_use"
    assert of("TR_L", found).verdict == "use"


def test_half_a_neck():
    found = judged(np.where(np.isin(NECK, range(1, 15, 2)), NECK, 0).astype(np.uint8))
    assert [j.verdict for j in found] == ["use", "do_not_use"] * 7


def test_what_is_known_of_the_scan_counts():
    stranger = ScanFindings((("do_not_use", "not a neck"),))
    assert {j.verdict for j in judged(scan=stranger)} == {"do_not_use"}
    found = judged(scan=ScanFindings(levels={"C3", "C4", "C5"}))
    assert of("TR_L", found) == ("do_not_use", ("without C6",))
    assert of("LS_L", found).verdict == "look"
    assert of("SPCap_L", found).verdict == "use"
    full = ScanFindings(levels={"C3"}, full_length=True)
    assert of("TR_L", judged(scan=full)).verdict == "use"


def test_grids_and_confidence():
    thick = judged(spacing=(1, 1, 9))
    assert all("slices of 9 mm" in j.reasons for j in thick)
    assert {j.verdict for j in judged(sure=0.5)} == {"look"}
    assert {j.verdict for j in judged(sure=0.3)} == {"do_not_use"}


def test_a_cut_muscle_is_looked_at():
    part = np.s_[:, :, 4:]
    found = judged(NECK[part], [v[part] for v in ECHOES])
    assert "cut by the field of view" in of("TR_L", found).reasons


def test_every_limit_has_a_source_and_the_graver_one_lies_further():
    for table, sign in ((FEWEST, 1), (MOST, -1)):
        for limit in table.values():
            assert limit.why and (limit.look, limit.do_not_use) != (None, None)
            if limit.look is not None and limit.do_not_use is not None:
                assert sign * limit.look >= sign * limit.do_not_use
