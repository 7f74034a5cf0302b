"""The cache of prepared volumes, and the windows cut from it."""

import errno
import itertools
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from absl import flags
from conftest import RECIPE, save_nifti
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    ornt_transform,
)
from scipy import ndimage

from cervjax.anatomy import IGNORED, LEFT_RIGHT_PERMUTATION, MUSCLES
from cervjax.data import cache
from cervjax.data import windows as data
from cervjax.data.cache import (
    CacheError,
    Volume,
    cache_volumes,
    learn_landmarks,
)
from cervjax.data.dataset import check_classes
from cervjax.data.windows import Cut, whole_volumes
from cervjax.io.dixon import read_scan
from cervjax.io.labels import LabelledScan, find_labelled
from cervjax.preprocessing.histogram import train_landmarks
from cervjax.preprocessing.pipeline import Recipe, prepare, unpad
from cervjax.preprocessing.resampling import resample

SHAPE, SPACING_MM = (40, 36, 16), (2.0, 2.0, 3.0)
BRIGHT = 9


class Scene(NamedTuple):
    """In RAS; in both phases label 9 is bright, and nothing else is."""

    in_phase: np.ndarray
    out_phase: np.ndarray
    labels: np.ndarray


def scene(seed: int, shape=SHAPE, labels=range(1, 15)) -> Scene:
    """A box of each label: the right muscle in the right half, at some height."""
    rng = np.random.default_rng(seed)
    drawn = np.zeros(shape, np.uint8)
    middle, last = shape[0] // 2, shape[0] - 9
    for label in labels:
        x = rng.integers(middle + 1, last) if label % 2 else rng.integers(3, middle - 7)
        y, z = (label - 1) // 2 * (shape[1] // 7), rng.integers(1, shape[2] - 8)
        drawn[x : x + 6, y + 1 : y + 4, z : z + 5] = label
    in_phase = rng.uniform(90, 110, shape)
    in_phase[drawn == BRIGHT] *= 10
    out_phase = in_phase * rng.uniform(0.8, 0.9, shape)
    return Scene(in_phase.astype(np.float32), out_phase.astype(np.float32), drawn)


def save(folder: Path, name: str, volumes, spacing=SPACING_MM, axes="RAS") -> None:
    """Writes a scan; axes are those it is stored along, of images and labels."""
    affine = np.diag([*spacing, 1.0])
    axes = (axes,) * 3 if isinstance(axes, str) else axes
    for role, stored, volume in zip(("in", "opp", "dseg"), axes, volumes, strict=True):
        turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(stored))
        moved = np.asarray(apply_orientation(volume, turn))
        path = folder / f"{name}_{role}.nii"
        save_nifti(path, moved, affine @ inv_ornt_aff(turn, volume.shape))


def labelled(folder: Path) -> list[LabelledScan]:
    scans, problems = find_labelled(folder)
    assert not problems
    return scans


def cached(folder: Path, recipe: Recipe = RECIPE, **options) -> list[Volume]:
    return cache_volumes(labelled(folder), recipe, folder / "cache", **options)


def loaded(volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    ((_, image, labels),) = whole_volumes([volume])
    return image, labels


def is_bright(image: np.ndarray) -> np.ndarray:
    """Between dark and bright; standardisation keeps the order of intensities."""
    return image[..., 0] > 3


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> list[Volume]:
    """Three scans of two participants, of different shapes."""
    folder = tmp_path_factory.mktemp("cohort")
    for i, name in enumerate(("sub-1_ses-1", "sub-1_ses-2", "sub-2")):
        save(folder, name, scene(i, (40 + i, 36 - i, 16 + i)))
    return cached(folder)


# The cache


def test_image_is_what_prepare_gives(tmp_path):
    save(tmp_path, "a", scene(0))
    (scan,), (volume,) = labelled(tmp_path), cached(tmp_path)
    images = read_scan(scan.scan)
    pair = images.in_phase, images.out_phase
    expected = prepare(*pair, images.grid.spacing_mm, RECIPE).image
    image, labels = loaded(volume)
    assert image.dtype == np.float32 and labels.dtype == np.uint8
    np.testing.assert_array_equal(image, expected)
    assert volume.shape == labels.shape == image.shape[:3] == (56, 48, 24)
    assert isinstance(image, np.memmap) and not image.flags.writeable


def test_labels_lie_on_their_image(cohort):
    for volume in cohort:
        image, labels = loaded(volume)
        np.testing.assert_array_equal(labels == BRIGHT, is_bright(image))
        inner = unpad(labels, RECIPE.padding)
        assert np.count_nonzero(inner) == np.count_nonzero(labels)
        assert volume.counts == tuple(np.bincount(labels.ravel(), minlength=15))
        assert np.count_nonzero(volume.counts) == 15


@pytest.mark.parametrize("axes", ["LPI", "PIR", ("SLA", "SLA", "RAS")])
def test_stored_axes_change_nothing(tmp_path, axes):
    """Right stays right, also where the labels are stored otherwise than the image."""
    for folder, stored in (("a", "RAS"), ("b", axes)):
        save(tmp_path / folder, "a", scene(0), axes=stored)
    (plain,), (turned,) = cached(tmp_path / "a"), cached(tmp_path / "b")
    assert plain.image.parent.name != turned.image.parent.name
    for a, b in zip(loaded(plain), loaded(turned), strict=True):
        np.testing.assert_array_equal(a, b)
    x = np.nonzero(loaded(turned)[1] == BRIGHT)[0]
    assert x.min() > plain.shape[0] // 2  # SCM right


def test_labels_follow_onto_another_grid(tmp_path):
    volumes = scene(0, (70, 63, 20))
    save(tmp_path, "a", volumes, spacing=(1.1, 1.2, 2.5))
    (volume,) = cached(tmp_path)
    image, labels = loaded(volume)
    inner = unpad(labels, RECIPE.padding)
    zooms = np.array([1.1, 1.2, 2.5], np.float32).astype(float)  # the header's
    factors = zooms / RECIPE.spacing_mm
    niftynet = ndimage.zoom(volumes.labels.astype(np.float32), factors, order=0)
    np.testing.assert_array_equal(inner, niftynet)
    bright, drawn = is_bright(image), labels == BRIGHT
    assert drawn.sum() > 20
    assert not (bright & ~ndimage.binary_dilation(drawn)).any()
    assert not (ndimage.binary_erosion(drawn) & ~bright).any()
    assert 2 * (bright & drawn).sum() > 0.8 * (bright.sum() + drawn.sum())


def test_labels_lose_the_plane_that_the_image_loses(tmp_path):
    """SciPy's zoom drops the last plane of 22 -> 20, unless the recipe keeps it."""
    volumes = scene(0, (22, 36, 16), labels=[9])
    volumes.labels[-1] = 5
    save(tmp_path, "a", volumes, spacing=(20 / 11, 2.0, 3.0))
    for keep in (False, True):
        recipe = replace(RECIPE, keep_last_plane=keep)
        (volume,) = cached(tmp_path, recipe)
        inner = unpad(loaded(volume)[1], RECIPE.padding)
        assert inner.shape[0] == 20
        assert (inner[-1] == 5).all() if keep else not inner[-1].any()


def test_zero_padding_is_cached_too(tmp_path):
    save(tmp_path, "a", scene(0))
    recipe = replace(RECIPE, padding_mode="zero")
    (volume,) = cached(tmp_path, recipe)
    images = read_scan(labelled(tmp_path)[0].scan)
    expected = prepare(images.in_phase, images.out_phase, SPACING_MM, recipe).image
    np.testing.assert_array_equal(loaded(volume)[0], expected)


def test_voxels_are_of_their_class(cohort, tmp_path):
    volumes = scene(0)
    volumes.labels[:] = 1
    volumes.labels[5, 5, 5] = 2
    save(tmp_path, "a", volumes)
    for volume in (*cohort, *cached(tmp_path)):
        labels = loaded(volume)[1]
        with np.load(volume.voxels) as voxels:
            assert voxels.files == [str(k) for k in range(1, 15)]
            for label in range(1, 15):
                at = voxels[str(label)]
                assert len(np.unique(at, axis=0)) == len(at)
                assert len(at) == min(volume.counts[label], 4000)
                assert (labels[tuple(at.T)] == label).all()
    assert volume.counts[1:3] == (40 * 36 * 16 - 1, 1)  # more than are kept
    with np.load(volume.voxels) as voxels:
        assert np.all(np.ptp(voxels["1"], axis=0) >= (38, 34, 15))  # from everywhere


def test_same_voxels_are_drawn_again(tmp_path):
    save(tmp_path, "a", scene(0))
    scans = labelled(tmp_path)
    contents = []
    for place in ("x", "y"):
        (volume,) = cache_volumes(scans, RECIPE, tmp_path / place)
        files = sorted(volume.image.parent.iterdir())
        contents.append([f.read_bytes() for f in files if f.suffix == ".npy"])
        with np.load(volume.voxels) as voxels:
            contents[-1] += [voxels[key].tobytes() for key in voxels.files]
    assert contents[0] == contents[1]


def stamps(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_entry_is_used_again(tmp_path, monkeypatch):
    save(tmp_path, "a", scene(0))
    first = cached(tmp_path)
    before = stamps(tmp_path / "cache")
    assert len(before) == 4
    monkeypatch.setattr(cache, "prepare", None)
    assert cached(tmp_path) == first
    assert stamps(tmp_path / "cache") == before


def test_landmarks_count_as_float32(tmp_path):
    """As they come back from a model card or NiftyNet's file."""
    save(tmp_path, "a", scene(0))
    third = tuple(float(v) for v in np.linspace(0, 100, 13) / 3)
    fine = {"in_phase": third, "out_phase": third}
    coarse = {k: tuple(np.float32(v).tolist()) for k, v in fine.items()}
    assert coarse != fine
    volumes = [
        cached(tmp_path, replace(RECIPE, landmarks=marks)) for marks in (fine, coarse)
    ]
    assert volumes[0] == volumes[1]


@pytest.mark.parametrize("name", ["image.npy", "labels.npy", "voxels.npz"])
@pytest.mark.parametrize("damage", ["cut", "gone", "bit"])
def test_damaged_entry_is_made_again(tmp_path, name, damage):
    save(tmp_path, "a", scene(0))
    (volume,) = cached(tmp_path)
    path = volume.image.parent / name
    whole = path.read_bytes()
    if damage == "cut":
        os.truncate(path, len(whole) - 1)
    elif damage == "gone":
        path.unlink()
    else:  # of the same size, and read without an error
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert cached(tmp_path) == [volume]
    assert path.stat().st_size == len(whole)
    if name != "voxels.npz":  # a zip has a date
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: "{}",
        lambda text: "[]",
        lambda text: '{"digests": 3, "digest": ""}',
        lambda text: "[" * 100_000,
        lambda text: text.replace('"counts": [', '"counts": [1'),
        lambda text: text.replace('"warnings"', '"warning"'),
    ],
)
def test_damaged_record_is_made_again(tmp_path, damage):
    save(tmp_path, "a", scene(0))
    (volume,) = cached(tmp_path)
    record = volume.image.parent / "volume.json"
    before = record.read_text()
    record.write_text(damage(before))
    assert cached(tmp_path) == [volume]
    assert json.loads(record.read_text())["counts"] == json.loads(before)["counts"]


def test_an_entry_under_anothers_name_is_made_again(tmp_path):
    for i, name in enumerate("ab"):
        save(tmp_path, name, scene(i))
    volumes = cached(tmp_path)
    one, other = (v.image.parent for v in volumes)
    whole = (other / "image.npy").read_bytes()
    shutil.rmtree(other)
    shutil.copytree(one, other)
    assert cached(tmp_path) == volumes
    assert (other / "image.npy").read_bytes() == whole


def test_changed_input_or_recipe_is_a_new_entry(tmp_path):
    save(tmp_path, "a", scene(0))
    entries = {cached(tmp_path)[0].image.parent}
    changes = (
        {"padding": (8, 6, 5)},
        {"cutoff": (0.002, 1.0)},
        {"landmarks": RECIPE.landmarks | {"out_phase": tuple(range(13))}},
    )
    for change in changes:
        entries.add(cached(tmp_path, replace(RECIPE, **change))[0].image.parent)
    for role, volume in zip(("in", "opp", "dseg"), scene(1), strict=True):
        save_nifti(tmp_path / f"a_{role}.nii", volume, np.diag([*SPACING_MM, 1.0]))
        entries.add(cached(tmp_path)[0].image.parent)
    assert len(entries) == 7
    assert len([*(tmp_path / "cache").iterdir()]) == 7


def test_workers_change_nothing(tmp_path):
    for i in range(5):
        save(tmp_path, f"s{i}", scene(i % 4, (30, 30, 14)))  # two are alike
    scans, seen = labelled(tmp_path), []
    results = []
    for workers in (1, 3):
        folder = tmp_path / f"cache{workers}"
        done = cache_volumes(
            scans, RECIPE, folder, on_progress=seen.append, workers=workers
        )
        results.append([(v.name, v.image.parent.name, v.counts) for v in done])
        assert not [p for p in folder.iterdir() if p.name.startswith(".")]
    assert results[0] == results[1]
    assert seen == 2 * [f"s{i}" for i in range(5)]
    for path in (tmp_path / "cache1").rglob("*.npy"):
        other = tmp_path / "cache3" / path.relative_to(tmp_path / "cache1")
        assert path.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("saved", [0, 1])
def test_full_disk_leaves_no_entry(tmp_path, monkeypatch, saved):
    for i in range(3):
        save(tmp_path, f"s{i}", scene(i))
    calls, save_array = itertools.count(), np.save

    def full(path, array):
        save_array(path, array)
        if next(calls) >= saved:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        match = "cache.*No space left on device.* 1 MB; free some space"
        with pytest.raises(CacheError, match=match):
            cached(tmp_path, workers=2)
    assert not [*(tmp_path / "cache").iterdir()]
    assert len(cached(tmp_path)) == 3


def test_another_run_may_be_quicker(tmp_path, monkeypatch):
    """Its entry, which is the same, is used."""
    save(tmp_path, "a", scene(0))
    rename = Path.rename

    def late(part: Path, entry: Path):
        shutil.copytree(part, entry)
        return rename(part, entry)

    monkeypatch.setattr(Path, "rename", late)
    (volume,) = cached(tmp_path)
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [
        volume.image.parent.name
    ]
    assert volume.counts[BRIGHT] == np.count_nonzero(loaded(volume)[1] == BRIGHT)


def test_folder_that_is_a_file(tmp_path):
    save(tmp_path, "a", scene(0))
    (tmp_path / "cache").touch()
    with pytest.raises(CacheError, match="cannot write into the cache .*another"):
        cached(tmp_path)


def test_all_unfit_scans_are_named_and_the_others_kept(tmp_path):
    foreign, empty, other, air = (scene(i) for i in range(4))
    foreign.labels[3, 3, 3] = 77
    empty.labels[:] = 0
    air.in_phase[:] *= -1
    air.out_phase[:] *= -1
    save(tmp_path, "foreign", foreign)
    save(tmp_path, "empty", empty)
    save(tmp_path, "other", (*other[:2], other.labels[1:]))
    save(tmp_path, "air", air)
    save(tmp_path, "fine", scene(0))
    with pytest.raises(ValueError) as caught:
        cached(tmp_path)
    first, *lines = str(caught.value).splitlines()
    assert first.startswith("4 of 5 scan(s) cannot be used; fix")
    for line, name, reason in zip(
        lines,
        ("air", "empty", "foreign", "other"),
        ("no foreground", "every voxel is 0", "77", "one shape"),
        strict=True,
    ):
        assert line.startswith(f"{name}: ") and reason in line
    assert len([*(tmp_path / "cache").iterdir()]) == 1


def test_labels_that_vanish_are_told(tmp_path):
    """Nearest neighbours of a grid three times as coarse pass by a single voxel."""
    volumes = scene(0, labels=[])
    volumes.labels[1, 1, 1] = 3
    save(tmp_path, "a", volumes, spacing=(0.7, 0.7, 3.0))
    with pytest.raises(ValueError, match="a_dseg.nii: no label is left on the grid"):
        cached(tmp_path)


def test_file_gone_since_the_search(tmp_path):
    save(tmp_path, "a", scene(0))
    scans = labelled(tmp_path)
    (tmp_path / "a_dseg.nii").unlink()
    with pytest.raises(ValueError, match="a_dseg.nii cannot be read .*No such file"):
        cache_volumes(scans, RECIPE, tmp_path / "cache")


def test_recipe_needs_landmarks(tmp_path):
    save(tmp_path, "a", scene(0))
    with pytest.raises(ValueError, match="no landmarks for in_phase and out_phase"):
        cached(tmp_path, Recipe())


def test_the_body_is_cut_out_and_whitened_where_the_recipe_says_so(tmp_path):
    """As inference prepares it, and no landmarks are needed; labels go along."""
    in_phase, out_phase, labels = (
        np.pad(v, [(9, 7), (8, 3), (0, 0)]) for v in scene(0)
    )
    save(tmp_path, "a", (in_phase, out_phase, labels))
    recipe = Recipe(
        spacing_mm=SPACING_MM, padding=(8, 6, 4), normalisation="foreground"
    )
    (volume,) = cached(tmp_path, recipe)
    image, drawn = loaded(volume)
    expected = prepare(in_phase, out_phase, SPACING_MM, recipe)
    np.testing.assert_array_equal(image, expected.image)
    assert image.shape[0] < in_phase.shape[0] + 16
    assert np.count_nonzero(drawn) == np.count_nonzero(labels)
    bright = image[..., 0] > image[..., 0][drawn == BRIGHT].min() - 0.01
    np.testing.assert_array_equal(drawn == BRIGHT, bright)


def test_ignored_voxels_stay_ignored(tmp_path):
    """By a value of the config, or by the name in nnU-Net's dataset.json."""
    volumes = scene(0)
    volumes.labels[30:, 30:] = 77
    save(tmp_path, "a", volumes)
    with pytest.raises(ValueError, match="values 77"):
        cached(tmp_path)
    (volume,) = cached(tmp_path, ignore_label=77)
    inner = unpad(loaded(volume)[1], RECIPE.padding)
    np.testing.assert_array_equal(inner == IGNORED, volumes.labels == 77)
    known = volumes.labels[volumes.labels != 77]
    np.testing.assert_array_equal(
        volume.counts[1:], np.bincount(known, minlength=15)[1:]
    )
    with pytest.raises(ValueError, match="ignore label 3 is background or a muscle"):
        cached(tmp_path, ignore_label=3)
    labels = {m.key: int(LEFT_RIGHT_PERMUTATION[m.label]) for m in MUSCLES}
    text = json.dumps({"labels": {"background": 0, **labels, "ignore": 77}})
    (tmp_path / "dataset.json").write_text(text)
    volumes.labels[:] = np.r_[LEFT_RIGHT_PERMUTATION, [77] * 63][volumes.labels]
    save(tmp_path, "a", volumes)
    (named,) = cached(tmp_path)
    np.testing.assert_array_equal(loaded(named)[1], loaded(volume)[1])
    assert named.image.parent != volume.image.parent


def test_exchanged_sides_and_channels_end_it(tmp_path):
    """A scan drawn by MuscleMap's numbers, and one with its phases exchanged."""
    swapped = scene(0)
    swapped.labels[:] = np.array(
        [0, *(k + 1 if k % 2 else k - 1 for k in range(1, 15))]
    )[swapped.labels]
    save(tmp_path, "a", swapped)
    in_phase, out_phase, labels = scene(1)
    save(tmp_path, "b", (out_phase, in_phase, labels))
    save(tmp_path, "c", scene(2))
    for _ in range(2):
        with pytest.raises(ValueError, match="2 of 3 scan") as error:
            cached(tmp_path)
        _, sides, phases = str(error.value).splitlines()
        assert re.match("a: .*a_dseg.*left and right are exchanged in 7 of 7", sides)
        assert re.match("b: .*b_in.*are probably exchanged.*exchange the names", phases)


def test_water_and_fat_are_read_only_where_needed(tmp_path):
    in_phase, out_phase, labels = scene(0)
    save(tmp_path, "a", (in_phase, out_phase, labels))
    affine = np.diag([*SPACING_MM, 1.0])
    (before,) = cached(tmp_path)
    for role in ("water", "fat"):
        save_nifti(tmp_path / f"a_{role}.nii", in_phase[1:], affine)  # another grid
    assert cached(tmp_path) == [before]
    only = tmp_path / "only"
    for role, sign in (("water", 1), ("fat", -1)):
        save_nifti(only / f"b_{role}.nii", (in_phase + sign * out_phase) / 2, affine)
    save_nifti(only / "b_dseg.nii", labels, affine)
    (volume,) = cached(only, log=lambda text: None)
    np.testing.assert_allclose(loaded(volume)[0], loaded(before)[0], atol=1e-3)


def test_absent_muscles_are_named(cohort, tmp_path):
    check_classes(cohort)
    save(tmp_path, "a", scene(0, labels=[1, 2, *range(4, 12), 13, 14]))
    volumes = cached(tmp_path)
    check_classes([*volumes, cohort[0]])
    match = r"3 \(longus colli, right\), 12 \(trapezius, left\)"
    with pytest.raises(ValueError, match=f"1 training scan.*{match}; add"):
        check_classes(volumes)
    with pytest.raises(ValueError, match=r"label 12 \(trapezius, left\);"):
        check_classes(volumes, allowed=[3])
    check_classes(volumes, allowed=[12, 3])


def test_landmarks_are_niftynets(tmp_path):
    """Denormal numbers, which `prepare` flushes to zero, count as foreground."""
    spacing, scenes = (1.5, 1.5, 3.0), [scene(0), scene(1)]
    for i, volumes in enumerate(scenes):
        for image in volumes[:2]:
            image[:15] = 1e-39
        save(tmp_path, f"s{i}", volumes, spacing=spacing)

    def expected(recipe: Recipe, flush: bool = False):
        grids = spacing, recipe.spacing_mm
        pairs = [
            [resample(v, *grids, flush_denormals=flush) for v in volumes[:2]]
            for volumes in scenes
        ]
        return train_landmarks(pairs, cutoff=recipe.cutoff)

    scans = labelled(tmp_path)
    same = replace(RECIPE, spacing_mm=spacing)
    assert expected(same) != expected(same, flush=True)
    for recipe in (same, RECIPE, replace(RECIPE, cutoff=(0.05, 0.95))):
        assert learn_landmarks(scans, recipe) == expected(recipe)
    with pytest.raises(ValueError, match="at least one pair"):
        learn_landmarks([], RECIPE)


def test_landmarks_leave_a_fitting_grid_alone(tmp_path):
    """As `prepare` does: else the spline's noise in zero air is foreground."""
    volumes = scene(0)
    for image in volumes[:2]:
        image[:15] = 0
    save(tmp_path, "a", volumes)
    recipe = replace(RECIPE, spacing_mm=(2.01, 2.0, 3.0))
    noisy = learn_landmarks(labelled(tmp_path), recipe)
    recipe = replace(recipe, skip_fitting_grid=True)
    quiet = learn_landmarks(labelled(tmp_path), recipe)
    assert quiet == train_landmarks([volumes[:2]]) != noisy


# Windows


def made_up(folder: Path, shape, number: int, labels: np.ndarray) -> Volume:
    """A volume whose voxels tell their place (channel 0) and its number (channel 1)."""
    folder = folder / str(number)
    folder.mkdir()
    image = np.zeros((*shape, 2), np.float32)
    image[..., 0] = np.arange(np.prod(shape)).reshape(shape)
    image[..., 1] = number
    np.save(folder / "image.npy", image)
    np.save(folder / "labels.npy", labels.astype(np.uint8))
    voxels = {str(k): np.argwhere(labels == k).astype(np.uint16) for k in range(1, 15)}
    np.savez(folder / "voxels.npz", **voxels)
    counts = tuple(np.bincount(labels.ravel(), minlength=15).tolist())
    files = (folder / n for n in ("image.npy", "labels.npy", "voxels.npz"))
    return Volume(f"scan-{number}", "p", *files, shape, counts)


def starts_of(batch, volume: Volume) -> np.ndarray:
    """First voxels of the windows of a batch, (b, 3)."""
    first = batch["image"][:, 0, 0, 0, 0].astype(int)
    return np.stack(np.unravel_index(first, volume.shape), -1)


MANY = 500
"""Windows of an epoch where a test needs many; grain shuffles few items slowly."""


def take(dataset, number: int):
    """The first elements."""
    iterator = iter(dataset)
    batches = [next(iterator) for _ in range(number)]
    iterator.close()
    return batches


def assert_equal(got, expected) -> None:
    for a, b in zip(got, expected, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


def same(a, b) -> bool:
    return all(np.array_equal(a[key], b[key]) for key in a)


def windows(volumes, **options):
    """`data.windows`, with the fields of `Cut` among the options."""
    cut = {k: options.pop(k) for k in Cut.__dataclass_fields__ if k in options}
    return data.windows(volumes, Cut(**cut), **options)


def test_windows_are_cut_from_the_volumes(cohort):
    dataset = windows(cohort, window=(16, 24, 8), batch_size=3, seed=0)
    seen = 0
    for batch in take(dataset, 12):
        assert batch.keys() == {"image", "labels"}
        image, labels = batch["image"], batch["labels"]
        assert type(image) is type(labels) is np.ndarray
        assert image.shape == (3, 16, 24, 8, 2) and image.dtype == np.float32
        assert labels.shape == (3, 16, 24, 8) and labels.dtype == np.uint8
        np.testing.assert_array_equal(labels == BRIGHT, is_bright(image))
        seen += np.count_nonzero(labels == BRIGHT)
    assert seen


def test_starts_are_uniform(tmp_path):
    shape, window = (10, 9, 8), (4, 4, 8)
    volume = made_up(tmp_path, shape, 0, np.ones(shape, int))
    options = {"window": window, "batch_size": 90, "samples_per_volume": MANY}
    batches = take(windows([volume], seed=1, **options), 28)
    starts = np.concatenate([starts_of(batch, volume) for batch in batches])
    table = np.zeros((7, 6, 1), int)  # IndexError if a window lies outside
    np.add.at(table, tuple(starts.T), 1)
    expected = len(starts) / table.size
    assert expected == 60
    assert ((table - expected) ** 2 / expected).sum() < 75  # chi2, 41 degrees: 0.1 %


def test_windows_may_fill_the_volume(tmp_path):
    volume = made_up(tmp_path, (4, 5, 6), 0, np.ones((4, 5, 6), int))
    for share in (0.0, 1.0):
        (batch,) = take(
            windows(
                [volume],
                window=(4, 5, 6),
                batch_size=1,
                seed=0,
                foreground_share=share,
            ),
            1,
        )
        np.testing.assert_array_equal(batch["image"][0], np.load(volume.image))


def test_foreground_windows_hold_a_label(cohort):
    options = {"window": (8, 8, 8), "batch_size": 10, "samples_per_volume": MANY}
    held = {
        share: np.concatenate(
            [
                batch["labels"].any((1, 2, 3))
                for batch in take(
                    windows(cohort, seed=0, foreground_share=share, **options), 10
                )
            ]
        ).mean()
        for share in (0.0, 0.5, 1.0)
    }
    assert held[1.0] == 1
    assert held[0.0] < 0.6
    middle = (held[0.0] + 1) / 2
    assert abs(held[0.5] - middle) < 0.12


def test_foreground_classes_are_drawn_alike(tmp_path):
    """A muscle of one voxel is met as often as one of hundreds."""
    shape, window = (30, 12, 12), (4, 5, 6)
    labels = np.zeros(shape, int)
    labels[20:] = 3
    labels[6, 5, 7] = 8
    volume = made_up(tmp_path, shape, 0, labels)
    batches = take(
        windows(
            [volume],
            window=window,
            batch_size=100,
            seed=0,
            samples_per_volume=MANY,
            foreground_share=1.0,
        ),
        4,
    )
    met = np.concatenate([(b["labels"] == 8).any((1, 2, 3)) for b in batches])
    assert abs(met.mean() - 0.5) < 0.1
    starts = np.concatenate([starts_of(b, volume) for b in batches])
    np.testing.assert_array_equal(np.unique(starts[met], axis=0), [[4, 3, 4]])
    others = starts[~met]  # about every voxel of the other, shifted into the volume
    assert others[:, 0].min() == 18 and others[:, 0].max() == 26
    assert others[:, 1].min() == 0 and others[:, 1].max() == 7


def test_margin_is_a_bigger_cut(tmp_path):
    shape, window, margin = (12, 10, 8), (8, 4, 8), (2, 9, 1)
    labels = np.random.default_rng(0).integers(1, 15, shape)
    volume = made_up(tmp_path, shape, 0, labels)
    options = {"window": window, "batch_size": 5, "foreground_share": 0.5, "seed": 3}
    plain = take(windows([volume], **options), 6)
    wide = take(windows([volume], margin=margin, **options), 6)
    widths = [(m, m) for m in margin]
    image = np.pad(np.load(volume.image), [*widths, (0, 0)], mode="edge")
    label_map = np.pad(labels, widths)
    for small, large in zip(plain, wide, strict=True):
        assert large["image"].shape == (5, 12, 22, 10, 2)
        for i, start in enumerate(starts_of(small, volume)):
            box = tuple(
                slice(s, s + w + 2 * m)
                for s, w, m in zip(start, window, margin, strict=True)
            )
            np.testing.assert_array_equal(large["image"][i], image[box])
            np.testing.assert_array_equal(large["labels"][i], label_map[box])
        inside = (slice(None), slice(2, -2), slice(9, -9), slice(1, -1))
        np.testing.assert_array_equal(large["labels"][inside], small["labels"])


@pytest.fixture
def trio(tmp_path) -> list[Volume]:
    shapes = ((9, 8, 7), (8, 8, 8), (7, 8, 9))
    return [made_up(tmp_path, s, i, np.ones(s, int)) for i, s in enumerate(shapes)]


OPTIONS = {"window": (4, 4, 4), "batch_size": 1, "foreground_share": 0.3}


def test_seed_decides(trio):
    first, again, other = (
        take(windows(trio, seed=seed, **OPTIONS), 9) for seed in (0, 0, 1)
    )
    assert_equal(first, again)
    assert not all(map(same, first, other))


def test_epoch_gives_each_volume_its_share(trio):
    dataset = windows(trio, seed=0, samples_per_volume=4, **OPTIONS)
    batches = take(dataset, 36)
    numbers = [int(b["image"][0, 0, 0, 0, 1]) for b in batches]
    epochs = [numbers[i : i + 12] for i in (0, 12, 24)]
    for epoch in epochs:
        assert sorted(epoch) == [0] * 4 + [1] * 4 + [2] * 4
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    contents = {b["image"].tobytes() for b in batches}
    assert len(contents) > 32  # drawn anew: 125 places in a volume


@pytest.mark.parametrize("number", [2, 3])
def test_shards_are_dealt_from_one_order(trio, number):
    """Also where they do not divide the epoch; no two draw the same numbers."""
    dealt = 18 // number
    shards = [
        take(windows(trio, seed=0, shard=(i, number), **OPTIONS), dealt)
        for i in range(number)
    ]
    together = [batch for row in zip(*shards, strict=True) for batch in row]
    assert_equal(together, take(windows(trio, seed=0, **OPTIONS), 18))
    relative = [  # place in the volume, whichever it is
        [np.unravel_index(int(b["image"].flat[0]), (9, 9, 9)) for b in shard]
        for shard in shards
    ]
    assert relative[0] != relative[1]


def test_shard_batches_are_of_the_shard(trio):
    options = OPTIONS | {"batch_size": 4}
    batches = take(windows(trio, seed=0, shard=(1, 2), **options), 3)
    singles = take(windows(trio, seed=0, **OPTIONS), 24)[1::2]
    joined = [
        np.concatenate([s["image"] for s in singles[i : i + 4]]) for i in (0, 4, 8)
    ]
    for batch, expected in zip(batches, joined, strict=True):
        np.testing.assert_array_equal(batch["image"], expected)


def test_resumes_to_the_bit(trio):
    dataset = windows(trio, seed=0, **OPTIONS)
    iterator = iter(dataset)
    for _ in range(5):
        next(iterator)
    state = json.loads(json.dumps(iterator.get_state()))
    expected = [next(iterator) for _ in range(12)]
    iterator.close()
    resumed = iter(windows(trio, seed=0, **OPTIONS))
    resumed.set_state(state)
    assert_equal([next(resumed) for _ in range(12)], expected)
    resumed.close()


def test_workers_give_the_same_batches(trio):
    """Spawned processes, which open the files themselves; and resume with them."""
    flags.FLAGS.mark_as_parsed()
    expected = take(windows(trio, seed=0, **OPTIONS), 12)
    iterator = iter(windows(trio, seed=0, workers=2, **OPTIONS))
    try:
        got = [next(iterator) for _ in range(5)]
        state = iterator.get_state()
        got += [next(iterator) for _ in range(4)]
        iterator.set_state(state)
        assert_equal(got, expected[:9])
        assert_equal([next(iterator) for _ in range(7)], expected[5:])
    finally:
        iterator.close()


def test_few_batches_are_read_ahead(trio, monkeypatch):
    """grain's own default would hold 500."""
    cuts, cut = [], Cut.__call__

    def counted(self, volume, rng):
        cuts.append(volume)
        return cut(self, volume, rng)

    monkeypatch.setattr(Cut, "__call__", counted)
    take(windows(trio, seed=0, buffer=3, **OPTIONS | {"batch_size": 2}), 2)
    assert 4 <= len(cuts) <= 2 * (2 + 3 + 2)


def test_volume_smaller_than_the_window_is_named(cohort):
    match = (
        r"2 padded volume\(s\) are smaller than the window \(56, 48, 25\): "
        r"sub-1_ses-1 \(56, 48, 24\), sub-1_ses-2 \(57, 47, 25\); choose a smaller "
        r"window, at most \(56, 40, 24\)"
    )
    with pytest.raises(ValueError, match=match):
        windows(cohort[:2], window=(56, 48, 25), batch_size=1, seed=0)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"margin": (0, -1, 0)}, r"not be negative, got .*\(0, -1, 0\)"),
        ({"foreground_share": 1.5}, "from 0 to 1, got 1.5"),
        ({"shard": (2, 2)}, r"below their number, got \(2, 2\)"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"samples_per_volume": 0}, "samples_per_volume=0"),
        ({"buffer": 0}, "buffer=0"),
        ({"workers": -1}, "workers=-1"),
        ({"window": (4, 0, 4)}, r"at least 1 voxel .* got \(4, 0, 4\)"),
    ],
)
def test_arguments_out_of_range(trio, change, message):
    with pytest.raises(ValueError, match=message):
        windows(trio, seed=0, **OPTIONS | change)


def test_windows_need_a_volume():
    with pytest.raises(ValueError, match="at least one volume"):
        windows([], seed=0, **OPTIONS)
