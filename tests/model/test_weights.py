import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
from conftest import RECIPE, SMALL, network_variables

from cervjax.cli.main import main
from cervjax.model.card import (
    FORMAT,
    ModelCard,
    WeightsError,
    card_from_json,
    card_to_json,
)
from cervjax.model.dense_vnet import PUBLISHED, Architecture
from cervjax.model.niftynet_checkpoint import (
    checkpoint_prefix,
    read_network,
    variable_names,
    write_network,
)
from cervjax.model.tensor_bundle import (
    CheckpointError,
    read_checkpoint,
    write_checkpoint,
)
from cervjax.model.weights import (
    LANDMARKS_NAME,
    SHIPPED,
    Weights,
    checkpoint_files,
    load_weights,
    save_checkpoint,
    save_weights,
)
from cervjax.preprocessing.histogram import format_landmarks


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint as NiftyNet leaves it: landmarks one folder up."""
    prefix = tmp_path / "models" / "model.ckpt-7"
    prefix.parent.mkdir()
    write_network(prefix, network_variables())
    (tmp_path / LANDMARKS_NAME).write_text(format_landmarks(RECIPE.landmarks))
    return prefix


def same(a, b) -> bool:
    equal = jax.tree.map(np.array_equal, a, b)
    return all(jax.tree.leaves(equal))


def test_names_cover_the_published_checkpoint(golden):
    tensors = read_checkpoint(golden / "net_small" / "models" / "model.ckpt-1")
    names = set(variable_names().values())
    twins = {n for n in tensors if n.endswith("moving_variance/local_step")}
    assert names | twins == set(tensors) and len(tensors) == 289


def test_published_names_and_shapes(real_scans, golden):
    import json

    text = (
        golden.parent / "reference" / "published_checkpoint_variables.json"
    ).read_text()
    published = {k: tuple(v) for k, v in json.loads(text).items()}
    assert len(published) == 485
    ours = read_checkpoint(golden / "net_small" / "models" / "model.ckpt-1")
    for name in variable_names().values():
        assert published[name] == ours[name].shape


def test_weights_can_be_read_by_whoever_reads_other_files(random_weights, tmp_path):
    (tmp_path / "other").touch()
    weights = load_weights(random_weights)
    save_weights(tmp_path / "mine", weights.variables, weights.card)
    modes = [(tmp_path / name).stat().st_mode for name in ("mine", "other")]
    assert modes[0] == modes[1]


def test_weights_files_round_trip(random_weights, tmp_path):
    weights = load_weights(random_weights)
    assert weights.card.recipe == RECIPE
    assert same(weights.variables, network_variables(0, SMALL))
    (tmp_path / "run").mkdir()
    again = tmp_path / "run" / "weights.safetensors"
    assert save_weights(again, weights.variables, weights.card) == weights.sha256
    assert load_weights(tmp_path / "run").sha256 == weights.sha256  # a work directory


def test_a_checkpoint_is_found_by_any_of_its_names(checkpoint):
    for name in ("", ".index", ".data-00000-of-00001", ".meta"):
        assert checkpoint_prefix(f"{checkpoint}{name}") == checkpoint
    assert checkpoint_prefix(checkpoint.parent) is None
    weights = load_weights(checkpoint)
    assert weights.card.mode == "sliding_window"
    assert same(weights.variables, network_variables())
    for channel, values in RECIPE.landmarks.items():
        np.testing.assert_allclose(weights.card.recipe.landmarks[channel], values)


def test_convert_goes_both_ways_and_keeps_the_digest(checkpoint, tmp_path, capsys):
    there, back = tmp_path / "w.safetensors", tmp_path / "back" / "model.ckpt-7"
    assert main(["convert", str(checkpoint), str(there)]) == 0
    first = load_weights(checkpoint)
    assert load_weights(there).sha256 == first.sha256
    assert first.sha256 in capsys.readouterr().out
    assert main(["convert", str(there), str(back)]) == 0
    assert load_weights(back).sha256 == first.sha256
    assert load_weights(back).card == first.card
    for suffix in (".index", ".data-00000-of-00001"):
        original = checkpoint.with_name(checkpoint.name + suffix).read_bytes()
        assert back.with_name(back.name + suffix).read_bytes() == original
    assert main(["convert", str(checkpoint), str(there)]) == 2
    assert "already" in capsys.readouterr().err


def test_landmarks_are_looked_for_asked_for_and_checked(checkpoint, tmp_path):
    (tmp_path / LANDMARKS_NAME).rename(tmp_path / "elsewhere.txt")
    with pytest.raises(WeightsError, match="--landmarks FILE"):
        load_weights(checkpoint)
    load_weights(checkpoint, tmp_path / "elsewhere.txt")
    (tmp_path / "elsewhere.txt").write_text("IP 1 2 3\nOP 1 2 3\n")
    with pytest.raises(WeightsError, match="13 rising numbers"):
        load_weights(checkpoint, tmp_path / "elsewhere.txt")


@pytest.mark.parametrize(
    ("suffix", "damage", "reason"),
    [
        (".data-00000-of-00001", lambda b: b[:-40], "checksum of"),
        (".data-00000-of-00001", lambda b: b[:999] + b"?" + b[1000:], "checksum of"),
        (".index", lambda b: b[:999] + b"?" + b[1000:], "wrong checksum"),
        (".index", lambda b: b[:-1], "magic"),
        (".index", lambda b: b"", "magic"),
        (".index", lambda b: b[200:], "damaged"),
    ],
)
def test_damaged_checkpoints_are_refused(checkpoint, suffix, damage, reason):
    path = checkpoint.with_name(checkpoint.name + suffix)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(WeightsError, match=reason):
        load_weights(checkpoint)


def test_missing_pieces_are_named(checkpoint, tmp_path):
    data = checkpoint.with_name(checkpoint.name + ".data-00000-of-00001")
    data.unlink()
    with pytest.raises(WeightsError, match="data-00000-of-00001"):
        load_weights(checkpoint)
    with pytest.raises(WeightsError, match="no such weights"):
        load_weights(tmp_path / "model.ckpt-9")


def test_another_network_is_refused(tmp_path):
    prefix = tmp_path / "model.ckpt-1"
    write_checkpoint(prefix, {"Other/w": np.ones((3, 3), np.float32)})
    (tmp_path / LANDMARKS_NAME).write_text(format_landmarks(RECIPE.landmarks))
    with pytest.raises(WeightsError, match="not the dense V-Net"):
        load_weights(prefix)


def test_weights_of_wrong_shape_damaged_or_edited_are_refused(random_weights, tmp_path):
    weights = load_weights(random_weights)
    path = tmp_path / "w.safetensors"
    shutil.copy(random_weights, path)
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 1
    path.write_bytes(raw)
    with pytest.raises(WeightsError, match="checksum"):
        load_weights(path)
    path.write_bytes(random_weights.read_bytes().replace(b"Research", b"Clinical"))
    with pytest.raises(WeightsError, match="checksum"):
        load_weights(path)
    path.write_bytes(random_weights.read_bytes()[:5000])
    with pytest.raises(WeightsError, match="not a readable safetensors"):
        load_weights(path)
    variables = network_variables(0, SMALL)
    variables["params"]["head_bias"] = np.zeros(9, np.float32)
    save_weights(path, variables, weights.card)
    with pytest.raises(WeightsError, match=r"head_bias should be \(15,\), is \(9,\)"):
        load_weights(path)
    variables["params"]["head_bias"] = np.full(15, np.nan, np.float32)
    save_weights(path, variables, weights.card)
    with pytest.raises(WeightsError, match="NaN"):
        load_weights(path)


def test_tables_hold_any_tensor(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {
        f"scope/{'x' * i}/w_{i}": rng.normal(size=(1,) * (i % 4) + (i,))
        for i in range(1, 300)
    }
    tensors["scalar"] = np.float32(3)
    write_checkpoint(tmp_path / "c", tensors)
    back = read_checkpoint(tmp_path / "c")
    assert back.keys() == tensors.keys()
    for name, value in tensors.items():
        np.testing.assert_array_equal(back[name], np.asarray(value, np.float32))


def test_genuine_checkpoint_is_rewritten_to_the_same_tensors(golden, tmp_path):
    prefix = golden / "net_small" / "models" / "model.ckpt-1"
    variables = read_network(prefix)
    write_network(tmp_path / "again", variables)
    first, second = read_checkpoint(prefix), read_checkpoint(tmp_path / "again")
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[k], second[k]) for k in first)
    with pytest.raises(CheckpointError):
        read_network(tmp_path / "nothing")


def test_a_checkpoint_and_back_loses_nothing(tmp_path, capsys):
    """Preprocessing and settings are not NiftyNet's."""
    prefix, again = tmp_path / "checkpoint" / "model.ckpt-0", tmp_path / "w.safetensors"
    assert main(["convert", str(SHIPPED), str(prefix)]) == 0
    assert main(["convert", str(prefix), str(again)]) == 0
    shipped = load_weights(SHIPPED)
    assert shipped.card.tta == 2
    for path in (prefix, again):
        weights = load_weights(path)
        assert weights.card == shipped.card and weights.sha256 == shipped.sha256
        assert same(weights.variables, shipped.variables)
    with pytest.raises(WeightsError, match="leave out --landmarks"):
        load_weights(prefix, prefix.parent / LANDMARKS_NAME)


def test_weights_that_find_levels_go_to_a_checkpoint_and_back(tmp_path, capsys):
    """They have no landmarks."""
    source, again = tmp_path / "w.safetensors", tmp_path / "again.safetensors"
    prefix, architecture = tmp_path / "model.ckpt-0", replace(SMALL, classes=22)
    recipe = replace(RECIPE, landmarks={}, normalisation="foreground")
    card = ModelCard("a", "b", "c", "d", "whole", recipe, architecture=architecture)
    digest = save_weights(source, network_variables(0, architecture), card)
    assert main(["convert", str(source), str(prefix)]) == 0
    assert LANDMARKS_NAME not in capsys.readouterr().out
    assert not (tmp_path / LANDMARKS_NAME).exists()
    assert main(["convert", str(prefix), str(again)]) == 0
    for path in (source, prefix, again):
        weights = load_weights(path)
        assert weights.card == card and weights.sha256 == digest
        assert weights.network.architecture.classes == 22


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: text.replace('"tta": 1', '"tta": 4'), "do not belong together"),
        (lambda text: text.replace('"tta": 1', '"tta": 3'), "tta must be one of"),
        (lambda text: text.replace("cervjax-3", "cervjax-2"), "reads 'cervjax-3'"),
        (lambda text: text[:99], "remove it to have"),
        (lambda text: "[]", "remove it to have"),
    ],
)
def test_the_card_beside_a_checkpoint_is_checked(tmp_path, damage, reason):
    prefix = tmp_path / "model.ckpt-0"
    weights = random_small()
    save_checkpoint(prefix, weights.variables, weights.card)
    assert load_weights(prefix).card == weights.card
    file = tmp_path / "model.ckpt-0.card.json"
    file.write_text(damage(file.read_text()))
    with pytest.raises(WeightsError, match=reason):
        load_weights(prefix)


def test_only_an_unusual_rule_of_levels_is_in_the_card(random_weights, tmp_path):
    """So that weights from before there was one keep their digests."""
    weights = load_weights(random_weights)
    assert "levels_rule" not in card_to_json(weights.card)
    card = replace(weights.card, levels_rule="none")
    digests = set()
    for save in (save_weights, save_checkpoint):
        path = tmp_path / save.__name__
        digests.add(save(path, weights.variables, card))
        assert load_weights(path).card == card
    assert len(digests) == 1 and weights.sha256 not in digests


def test_a_card_beside_other_tensors_is_refused(tmp_path):
    weights, prefix = random_small(), tmp_path / "model.ckpt-0"
    save_checkpoint(prefix, weights.variables, weights.card)
    write_network(prefix, network_variables(1, SMALL), SMALL)
    with pytest.raises(WeightsError, match="do not belong together"):
        load_weights(prefix)


def random_small() -> Weights:
    card = replace(ModelCard("a", "b", "c", "d", "whole", RECIPE), architecture=SMALL)
    return Weights(network_variables(0, SMALL), card, "")


def test_other_architectures_are_kept_in_the_file(tmp_path):
    weights, file = random_small(), tmp_path / "small.safetensors"
    digest = save_weights(file, weights.variables, weights.card)
    loaded = load_weights(file)
    assert loaded.sha256 == digest and loaded.card == weights.card
    assert loaded.network.architecture == SMALL
    save_weights(file, weights.variables, replace(weights.card, architecture=PUBLISHED))
    with pytest.raises(WeightsError, match="not the weights of this network"):
        load_weights(file)


@pytest.mark.parametrize(
    "numbers", [{"units": (1, 1)}, {"growth": 4}, {"stem": 0}, {"downs": (24, 2.5)}]
)
def test_architectures_that_cannot_be_are_refused(numbers):
    with pytest.raises(ValueError, match="architecture: .* must be . whole number"):
        Architecture(**numbers)


def test_files_of_an_older_format_are_refused_and_told_what_to_do(tmp_path):
    weights, file = random_small(), tmp_path / "old.safetensors"
    save_weights(file, weights.variables, weights.card)
    file.write_bytes(file.read_bytes().replace(b"cervjax-3", b"cervjax-2"))
    with pytest.raises(WeightsError, match="'cervjax-2'.*make the weights again"):
        load_weights(file)


@pytest.mark.parametrize("number", range(4))
def test_convert_looks_at_its_targets_before_the_work(
    number, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("cervjax.model.weights.load_weights", None)  # not reached
    there = checkpoint_files(tmp_path / "model.ckpt-0")[number]
    there.write_text("mine")
    assert main(["convert", str(SHIPPED), str(tmp_path / "model.ckpt-0")]) == 2
    assert f"{there} is there already" in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == [there] and there.read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cutoff", [0.9, 0.1]),
        ("cutoff", [0.0]),
        ("cutoff", ["a", "b"]),
        ("padding", [1.5, 2, 3]),
        ("padding", [-1, 2, 3]),
        ("padding", 3),
        ("padding_mode", "reflect"),
        ("spacing_mm", [0, 1, 1]),
        ("spacing_mm", [float("nan"), 1, 1]),
        ("spacing_mm", [10**400, 1, 1]),
        ("keep_last_plane", "no"),
        ("normalisation", None),
        ("landmarks", {"in_phase": [1, 2, 3]}),
        ("landmarks", {"in_phase": list(range(13))[::-1]}),
        ("landmarks", {"elsewhere": list(range(13))}),
    ],
)
def test_a_card_with_a_wrong_recipe_is_refused(name, value):
    fields = json.loads(card_to_json(load_weights(SHIPPED).card))
    fields["recipe"][name] = value
    with pytest.raises(WeightsError, match="w: has no valid model card"):
        card_from_json(json.dumps(fields), FORMAT, "w")


@pytest.mark.parametrize("text", ["a\x1b[2J", "a\nb", 3])
def test_a_card_with_control_characters_is_refused(text):
    fields = json.loads(card_to_json(load_weights(SHIPPED).card)) | {"name": text}
    with pytest.raises(WeightsError, match="no valid model card"):
        card_from_json(json.dumps(fields), FORMAT, "w")
