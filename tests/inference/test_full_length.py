"""Networks that find levels: muscles in full length, cut at their levels, and told.

The network is made by hand: it tells structures apart by their pair of intensities.
"""

import csv
import json
from dataclasses import replace
from typing import NamedTuple

import jax
import nibabel as nib
import numpy as np
import pytest
from conftest import SMALL, network_variables, save_nifti

import cervjax
from cervjax.anatomy import LEFT_RIGHT_PERMUTATION, LEVEL_CLASSES, MUSCLES, NUM_CLASSES
from cervjax.cli.main import main
from cervjax.inference.method import Method
from cervjax.inference.segment import prepare_images
from cervjax.inference.types import Settings
from cervjax.io.dixon import dixon_images
from cervjax.io.nifti import image_of_array, read_nifti
from cervjax.model.card import ModelCard
from cervjax.model.weights import Weights, load_weights, save_weights
from cervjax.preprocessing.pipeline import Recipe, prepare

pytestmark = pytest.mark.usefixtures("no_pictures")

BODY, DISC, FIRST = 6, 4, 4  # slices
SPACING_MM = (2.0, 2.0, 3.0)
SHAPE = (41, 36, 74)
MUSCLES_AT = {
    9: np.s_[30:36, 24:30],
    10: np.s_[5:11, 24:30],
    11: np.s_[30:36, 4:10],
    12: np.s_[5:11, 4:10],
}
LEVEL_RECIPE = Recipe(
    spacing_mm=SPACING_MM,
    padding=(8, 6, 4),
    padding_mode="zero",
    keep_last_plane=True,
    skip_fitting_grid=True,
    normalisation="foreground",
)
ARCHITECTURE = replace(SMALL, classes=NUM_CLASSES + len(LEVEL_CLASSES))
CARD = ModelCard(
    "levels", "made up", "nothing", "none", "whole", LEVEL_RECIPE, 1, "", ARCHITECTURE
)
BODIES = {  # slices of each, T1 the lowest
    name: (FIRST + i * (BODY + DISC), FIRST + i * (BODY + DISC) + BODY)
    for i, name in enumerate(reversed(LEVEL_CLASSES))
}
ALL = list(LEVEL_CLASSES)


class Scene(NamedTuple):
    """A scan in RAS, and the classes that it is made of."""

    in_phase: np.ndarray
    out_phase: np.ndarray
    classes: np.ndarray

    def map(self, change):
        return Scene(*map(change, self))


@pytest.fixture(scope="module")
def scene():
    """Four muscles from end to end, and a spine, in a block of tissue in air."""
    classes = np.zeros(SHAPE, np.uint8)
    for label, box in MUSCLES_AT.items():
        classes[box] = label
    for name, (low, high) in BODIES.items():
        classes[16:24, 14:22, low:high] = LEVEL_CLASSES[name]
    # On an arc about the tissue's pair, away from that of air.
    drawn = [*MUSCLES_AT, *LEVEL_CLASSES.values()]
    at = np.radians(np.linspace(-30, 120, len(drawn)))
    table = np.full((ARCHITECTURE.classes, 2), 500.0)
    table[drawn] += 300 * np.stack([np.cos(at), np.sin(at)], -1)
    images = np.zeros((*SHAPE, 2))
    images[3:38, 2:34] = table[classes[3:38, 2:34]]
    images += np.random.default_rng(0).uniform(0, 4, images.shape)
    return Scene(*np.moveaxis(images.astype(np.float32), -1, 0), classes)


@pytest.fixture(scope="module")
def weights(scene, tmp_path_factory):
    """The class whose pair of intensities is nearest."""
    image, *_ = prepare(*scene[:2], SPACING_MM, LEVEL_RECIPE)
    tissue, air = image[8 + 14, 6 + 18, 30], image[0, 0, 0]
    scale = 500 / (tissue - air)  # of the scan over that of the network's input
    variables = jax.tree.map(np.zeros_like, network_variables(0, ARCHITECTURE))
    params, stats = variables["params"], variables["batch_stats"]
    params["pool_norm"]["scale"][:] = stats["pool_norm"]["var"][:] = 1
    params["head_bias"][1:] = -1000
    for k in np.unique(scene.classes[scene.classes > 0]):
        away = np.stack([v[scene.classes == k].mean() - 500 for v in scene[:2]])
        params["head_kernel"][1, 1, 1, :2, k] = 0.01 * away * scale
        params["head_bias"][k] = -0.01 * away @ (tissue * scale + away / 2)
    path = tmp_path_factory.mktemp("weights") / "levels.safetensors"
    save_weights(path, variables, CARD)
    return path


def segment(scene, weights, spacing_mm=SPACING_MM, **settings):
    affine = np.diag([*spacing_mm, 1.0])
    return cervjax.segment(
        scene.in_phase, scene.out_phase, affine=affine, weights=weights, **settings
    )


def assert_levels(levels, bodies=BODIES):
    """From the middle of one disc to that of the next, within a slice."""
    assert [v.level for v in levels] == [name for name in ALL if name in bodies]
    for v in levels:
        low, high = bodies[v.level]
        assert abs(v.first_slice - (low - DISC / 2)) <= 1 + (v is levels[-1])
        assert abs(v.last_slice - (high - 1 + DISC / 2)) <= 1 + (v is levels[0])
        assert 0.9 < v.confidence <= 1
    for upper, lower in zip(levels, levels[1:], strict=False):
        assert upper.first_slice == lower.last_slice + 1


def dice(labels, reference, label):
    one, other = labels == label, reference == label
    return 2 * np.sum(one & other) / (one.sum() + other.sum())


def test_muscles_have_their_full_length_or_end_with_their_levels(scene, weights):
    full = segment(scene, weights, levels_rule="none")
    cut = segment(scene, weights)
    assert cut.labels.dtype == full.labels.dtype == np.uint8
    assert set(np.unique(full.labels)) == {0, *MUSCLES_AT}
    assert all(dice(full.labels, scene.classes, k) > 0.6 for k in MUSCLES_AT)
    assert_levels(full.levels)
    assert cut.levels == full.levels
    np.testing.assert_array_equal(cut.confidence, full.confidence)
    slices = {v.level: np.arange(v.first_slice, v.last_slice + 1) for v in cut.levels}
    for label in MUSCLES_AT:
        own = np.concatenate([slices[name] for name in MUSCLES[label - 1].levels])
        kept = np.isin(np.arange(SHAPE[2]), own)
        area = (full.labels == label).sum((0, 1))
        assert np.all(area[:-3] > 0)  # the network leans downwards
        np.testing.assert_array_equal((cut.labels == label).sum((0, 1)), area * kept)
    assert not any("vertebral" in w for w in (*cut.warnings, *full.warnings))


def test_levels_that_are_missing_are_told(scene, weights):
    low, _ = BODIES["C4"]
    result = segment(scene.map(lambda v: v[..., low - 1 :]), weights)
    bodies = {
        name: (a - low + 1, b - low + 1)
        for name, (a, b) in BODIES.items()
        if name in ("C2", "C3", "C4")
    }
    assert_levels(result.levels, bodies)
    (warning,) = [w for w in result.warnings if "vertebral" in w]
    assert "level(s) C5, C6 were not found" in warning
    assert set(np.unique(result.labels)) == {0, 9, 10}  # TR is at C6 only


@pytest.mark.parametrize(
    "how",
    [
        {"mode": "whole"},
        pytest.param(
            {"mode": "sliding_window", "window": (48, 40, 88), "border": (4, 4, 4)},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"mode": "sliding_window", "window": (32, 32, 88), "stitch": "labels"}
            | {"border": (4, 4, 4), "predict_border": True},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["whole", "logits", "labels"],
)
def test_air_around_the_body_changes_nothing(scene, weights, how):
    """It is cut off, and the mask lies where the body is."""
    x, y = (30, 17), (5, 24)
    wide = scene.map(lambda v: np.pad(v, [x, y, (0, 0)]))
    alone = segment(scene, weights, **how)
    result = segment(wide, weights, **how)
    inner = np.s_[x[0] : -x[1], y[0] : -y[1]]
    assert result.labels.shape == wide.in_phase.shape
    assert result.labels.max() <= 14 and alone.labels.max() <= 14
    assert np.mean(alone.labels > 0) > 0.01
    assert np.mean(result.labels[inner] != alone.labels) < 1e-3
    assert (result.labels > 0).sum() == (result.labels[inner] > 0).sum()
    assert np.all(result.confidence[: x[0] - 4] == 1)
    assert result.levels == alone.levels


def test_the_network_sees_the_body_only(scene):
    wide = scene.map(lambda v: np.pad(v, [(30, 17), (5, 24), (0, 0)]))
    prepared = []
    for pair in (scene, wide):
        files = {
            role: read_nifti(image_of_array(v, np.diag([*SPACING_MM, 1.0])))
            for role, v in zip(("in_phase", "out_phase"), pair[:2], strict=True)
        }
        images = dixon_images(files)
        prepared.append(prepare_images(images, LEVEL_RECIPE, Settings("whole")))
    first, second = (p.image.shape[:3] for p in prepared)
    assert abs(np.subtract(first, second)).max() <= 4  # of margins
    x, y, _ = prepared[1].box
    assert (x.start, x.stop) == (33 - 4, 68 + 4) and (y.start, y.stop) == (7 - 4, 43)


@pytest.mark.parametrize(
    "orientation",
    [[(0, 1), (1, 1), (2, -1)], [(2, -1), (0, 1), (1, 1)], [(1, 1), (2, -1), (0, -1)]],
)
def test_scans_stored_otherwise_have_the_same_mask_and_levels(
    scene, weights, orientation
):
    """Slices of levels are counted from the lowest, however the file has them."""
    affine, turn = np.diag([*SPACING_MM, 1.0]), np.array(orientation)
    first, second = (nib.Nifti1Image(v, affine).as_reoriented(turn) for v in scene[:2])
    result = cervjax.segment(first, second, weights=weights)
    plain = segment(scene, weights)
    assert result.levels == plain.levels
    expected = nib.Nifti1Image(plain.labels, affine).as_reoriented(turn)
    np.testing.assert_array_equal(result.labels, np.asarray(expected.dataobj))
    np.testing.assert_allclose(result.affine, expected.affine)
    assert result.labels.shape == first.shape != plain.labels.shape or turn[2, 0] == 2


@pytest.mark.slow
def test_thick_slices_and_narrow_voxels(scene, weights):
    fine = scene.map(lambda v: np.repeat(v, 2, axis=0)[..., ::2])
    result = segment(fine, weights, (1.0, 2.0, 6.0), levels_rule="none")
    assert all(dice(result.labels, fine.classes, k) > 0.6 for k in MUSCLES_AT)
    assert [v.level for v in result.levels] == ALL
    for v in result.levels:
        low, high = BODIES[v.level]
        assert abs((v.first_slice + v.last_slice) / 2 - (low + high - 2) / 4) <= 1


@pytest.mark.slow
def test_a_mirrored_scan_has_the_mirrored_mask_with_sides_exchanged(scene):
    """With a network that is not symmetric: the mean over both sides makes it so."""
    rng = np.random.default_rng(1)
    change = np.repeat(rng.uniform(0.3, 2, (11, *SHAPE[1:])), 4, axis=0)[:41]
    scan = scene._replace(in_phase=(scene.in_phase * change).astype(np.float32))
    random = Weights(network_variables(3, ARCHITECTURE), CARD, "0" * 64)
    plain, mirrored = (
        segment(s, random, tta=2, levels_rule="none", padding=(40, 6, 4)).labels
        for s in (scan, scan.map(lambda v: v[::-1].copy()))
    )
    exchanged = LEFT_RIGHT_PERMUTATION[mirrored[::-1]]
    assert np.mean(exchanged != plain) < 0.01
    found = np.bincount(plain.ravel(), minlength=15)
    assert np.sum(found > 50) > 6 and np.mean(mirrored[::-1] != plain) > 0.2


def infer(*arguments):
    return main(["infer", *map(str, arguments)])


def test_the_side_car_and_the_output_tell_of_levels(scene, weights, tmp_path, capsys):
    low = BODIES["C7"][0]
    part = scene.map(lambda v: v[..., low - 1 :])
    turned = np.diag([2.0, 2.0, -3.0, 1.0])  # the highest slice is stored first
    for name, volume in zip(("inphase", "outphase"), part[:2], strict=True):
        file = tmp_path / "in" / f"sub-1_{name}.nii.gz"
        save_nifti(file, np.ascontiguousarray(volume[..., ::-1]), turned)
    where = (tmp_path / "in", "-o", tmp_path / "out", "--weights", weights)
    assert infer(*where) == 1  # blocks in no neck's places: nothing to be used
    assert "sub-1: levels C2-C7 found; T1 not\n" in capsys.readouterr().out
    sidecar = json.loads((tmp_path / "out" / "sub-1_dseg.json").read_text())
    levels = sidecar["Levels"]
    assert [v["level"] for v in levels] == ["C2", "C3", "C4", "C5", "C6", "C7"]
    assert list(levels[0]) == ["level", "first_slice", "last_slice", "confidence"]
    by_name = {v["level"]: v for v in levels}
    with (tmp_path / "out" / "measurements_slices.csv").open(newline="") as stream:
        trapezius = [r for r in csv.DictReader(stream) if r["label"] == "11"]
    own = [int(r["slice"]) for r in trapezius if int(r["voxels"])]
    c6 = by_name["C6"]
    assert own == [*range(c6["first_slice"], c6["last_slice"] + 1)]
    assert by_name["C7"]["first_slice"] < 3  # 0 is the lowest
    assert sidecar["Identity"]["settings"]["levels_rule"] == "paper"
    assert infer(*where, "--levels-rule", "none") == 2
    assert "other settings (levels_rule)" in capsys.readouterr().err
    assert infer(*where, "--levels-rule", "none", "--overwrite") == 1
    sidecar = json.loads((tmp_path / "out" / "sub-1_dseg.json").read_text())
    assert sidecar["Executed"]["levels_rule"] == "none"
    assert sidecar["Levels"] == levels


def write_levels(path, bodies, move=0):
    """A table of levels, each from the middle of a disc to the next."""
    rows = [
        f"{name},{low - DISC // 2 + move},{high + DISC // 2 - 1 + move}"
        for name, (low, high) in bodies.items()
    ]
    path.write_text("\n".join(["level,first_slice,last_slice", *rows]) + "\n")
    return path


def test_levels_that_are_given_stand_above_those_found(scene, weights, tmp_path):
    for name, volume in zip(("inphase", "outphase"), scene[:2], strict=True):
        file = tmp_path / "in" / f"sub-1_{name}.nii.gz"
        save_nifti(file, volume, np.diag([*SPACING_MM, 1.0]))
    given = {k: v for k, v in BODIES.items() if k in ("C3", "C4", "C6")}
    table = write_levels(tmp_path / "levels.csv", given, move=3)
    out = tmp_path / "out"
    where = (tmp_path / "in", "-o", out, "--weights", weights)
    infer(*where, "--levels", table)
    sidecar = json.loads((out / "sub-1_dseg.json").read_text())
    low, high = BODIES["C6"]
    c6 = range(low - 2 + 3, high + 2 + 3)
    found = {v["level"]: v for v in sidecar["Levels"]}
    assert set(found) == set(given) and found["C6"]["confidence"] == 1
    assert found["C6"]["first_slice"] == c6[0] and found["C6"]["last_slice"] == c6[-1]
    with (out / "measurements_slices.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    own = [int(r["slice"]) for r in rows if r["label"] == "11" and int(r["voxels"])]
    assert own == list(c6)  # TR is at C6 only
    assert sidecar["Sources"]["levels"] == str(table)
    before = (out / "sub-1_dseg.nii.gz").read_bytes()
    write_levels(table, given, move=1)
    infer(*where, "--levels", table)
    assert "made with other inputs" in (out / "failures.csv").read_text()
    assert (out / "sub-1_dseg.nii.gz").read_bytes() == before


def test_levels_that_are_not_there_are_one_line(scene, weights, tmp_path, capsys):
    for name, volume in zip(("inphase", "outphase"), scene[:2], strict=True):
        file = tmp_path / "in" / f"sub-1_{name}.nii.gz"
        save_nifti(file, volume, np.diag([*SPACING_MM, 1.0]))
    where = (tmp_path / "in", "-o", tmp_path / "out", "--weights", weights)
    assert infer(*where, "--levels", tmp_path / "none.csv") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "none.csv: no such file" in said
    (tmp_path / "maps").mkdir()
    assert infer(*where, "--levels", tmp_path / "maps") == 1
    failures = (tmp_path / "out" / "failures.csv").read_text()
    assert "no map of levels of sub-1" in failures


def test_weights_without_levels_have_no_full_length(
    two_blobs, threshold_weights, tmp_path, capsys
):
    where = ("-o", tmp_path / "out", "--weights", threshold_weights)
    assert infer(tmp_path, *where, "--levels-rule", "none") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert (
        "the weights threshold have learnt muscles at the paper's levels only" in said
    )
    with pytest.raises(ValueError, match="leave --levels-rule out"):
        Method.of_weights(load_weights(threshold_weights), levels_rule="none")
    pair = two_blobs.in_phase, two_blobs.out_phase
    result = cervjax.segment(
        *pair, affine=two_blobs.affine, weights=threshold_weights, levels_rule="paper"
    )
    assert result.levels is None
    assert not any("level" in warning for warning in result.warnings)
    result.save(tmp_path / "results")
    sidecar = json.loads((tmp_path / "results" / "scan_dseg.json").read_text())
    assert sidecar["Levels"] is None
