"""Portable weights: safetensors with a model card, and the ways to come by them.

The header of the file holds the card (JSON) and a SHA-256 over card and tensors, which
is verified on loading and shown on use. The same digest names a NiftyNet checkpoint
before and after its conversion: there the card lies beside the checkpoint.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from cervjax.io.files import write_atomically
from cervjax.model import niftynet_checkpoint as niftynet
from cervjax.model.card import (
    FORMAT,
    ModelCard,
    WeightsError,
    card_from_json,
    card_to_json,
)
from cervjax.model.dense_vnet import (
    INPUT_CHANNELS,
    PUBLISHED,
    SIZE_MULTIPLE,
    Architecture,
    DenseVNet,
)
from cervjax.model.tensor_bundle import DATA_SUFFIX, INDEX_SUFFIX, CheckpointError
from cervjax.preprocessing.histogram import format_landmarks, read_landmarks
from cervjax.preprocessing.pipeline import Recipe

FILE_NAME = "weights.safetensors"
LANDMARKS_NAME = "standardisation_models.txt"
CARD_SUFFIX = ".card.json"
SHIPPED = Path(__file__).with_name("digital_necks.safetensors")
"""The weights in the package."""


def weights_path(given: str | Path) -> Path:
    """Where weights are that a user names: "shipped" is the package's own file."""
    return SHIPPED if given == "shipped" else Path(given)


class Weights(NamedTuple):
    """Variables of `cervjax.model.dense_vnet.DenseVNet`, their card and digest."""

    variables: dict[str, Any]
    card: ModelCard
    sha256: str

    @property
    def network(self) -> DenseVNet:
        """The network that the variables belong to, for inference."""
        return DenseVNet(architecture=self.card.architecture)


def load_weights(path: str | Path, landmarks: str | Path | None = None) -> Weights:
    """Loads a weights file, a training work directory, or a NiftyNet checkpoint.

    Args:
        path: a ``.safetensors`` file; a folder that holds ``weights.safetensors``; or
            the prefix of a checkpoint, such as ``models/model.ckpt-100000``.
        landmarks: for a checkpoint of NiftyNet's only: its histogram landmarks; by
            default ``standardisation_models.txt`` beside it or one folder up.

    Raises:
        WeightsError: nothing there, damaged, or not this network.
    """
    path = Path(path)
    prefix = niftynet.checkpoint_prefix(path)
    if prefix is not None:
        beside = Path(f"{prefix}{CARD_SUFFIX}")
        if not beside.is_file():
            return _load_niftynets(prefix, landmarks)
        path = beside
    if landmarks is not None:
        raise WeightsError(
            f"{path}: landmarks go with a NiftyNet checkpoint only, and these weights "
            "have their own in their card: leave out --landmarks"
        )
    if prefix is not None:
        return _load_checkpoint(prefix, path)
    file = path / FILE_NAME if path.is_dir() else path
    if not file.is_file():
        raise WeightsError(
            f"{file}: no such weights; give a .safetensors file, a training work "
            f"directory (with {FILE_NAME}), or the prefix of a NiftyNet checkpoint "
            "(model.ckpt-100000, with its .index and .data files)"
        )
    return _load_file(file)


def save_weights(
    path: str | Path, variables: Mapping[str, Any], card: ModelCard
) -> str:
    """Writes weights and card atomically; returns the SHA-256."""
    tensors = _tensors(variables)
    text = card_to_json(card)
    digest = _digest(tensors, text)
    metadata = {"format": FORMAT, "card": text, "sha256": digest}
    content = save(tensors, metadata)  # save_file would leave a file of mode 0600
    write_atomically(path, lambda part: part.write_bytes(content))
    return digest


def save_checkpoint(
    prefix: str | Path, variables: Mapping[str, Any], card: ModelCard
) -> str:
    """Writes the files of `checkpoint_files`; returns the SHA-256.

    `load_weights` gives back the same variables, card and digest. NiftyNet reads the
    checkpoint and the landmarks, and knows nothing of the card; weights without a
    standard histogram have no landmarks, and it cannot prepare their input.
    """
    niftynet.write_network(prefix, variables, card.architecture)
    digest = _digest(_tensors(variables), card_to_json(card))
    record = {
        "format": FORMAT,
        "card": json.loads(card_to_json(card)),
        "sha256": digest,
    }
    content = json.dumps(record, indent=1, sort_keys=True) + "\n"
    *_, card_file, landmarks_file = checkpoint_files(prefix)
    write_atomically(card_file, lambda part: part.write_text(content))
    if card.recipe.landmarks:
        landmarks = format_landmarks(card.recipe.landmarks)
        write_atomically(landmarks_file, lambda part: part.write_text(landmarks))
    return digest


def checkpoint_files(prefix: str | Path) -> tuple[Path, Path, Path, Path]:
    """What `save_checkpoint` writes: index, tensors, card, landmarks if there are."""
    index, data, card = (
        Path(f"{prefix}{suffix}") for suffix in (INDEX_SUFFIX, DATA_SUFFIX, CARD_SUFFIX)
    )
    return index, data, card, index.with_name(LANDMARKS_NAME)


def expected_shapes(
    architecture: Architecture = PUBLISHED,
) -> dict[str, tuple[int, ...]]:
    """Name and shape of every variable of a network."""
    return dict(_shapes(architecture))


@cache
def _shapes(architecture: Architecture) -> tuple[tuple[str, tuple[int, ...]], ...]:
    size = (SIZE_MULTIPLE,) * 3
    example = jax.ShapeDtypeStruct((1, *size, INPUT_CHANNELS), np.float32)
    network = DenseVNet(architecture, lowering="plain")  # the quickest to trace
    tree = jax.eval_shape(network.init, jax.random.key(0), example)
    tree = {k: tree[k] for k in ("params", "batch_stats")}
    leaves: dict[str, Any] = flatten_dict(tree, sep="/")
    return tuple((name, leaf.shape) for name, leaf in leaves.items())


def _load_file(file: Path) -> Weights:
    try:
        with safe_open(file, framework="numpy") as content:
            metadata = content.metadata() or {}
            tensors = {name: content.get_tensor(name) for name in content.keys()}
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{file}: not a readable safetensors file ({error}); copy it again"
        ) from error
    card = card_from_json(metadata.get("card", ""), metadata.get("format"), file)
    _check_shapes(tensors, card.architecture, file)
    # Over the text as it was written.
    digest = _digest(tensors, metadata["card"])
    _check_digest(digest, metadata.get("sha256"), file)
    return Weights(unflatten_dict(tensors, sep="/"), card, digest)


def _load_checkpoint(prefix: Path, card_file: Path) -> Weights:
    """A checkpoint of `save_checkpoint`."""
    try:
        record = json.loads(card_file.read_text())
        text, version, sha256 = (record[k] for k in ("card", "format", "sha256"))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{card_file}: not a readable model card ({error!r}); copy it again, or "
            "remove it to have the checkpoint read as NiftyNet's own"
        ) from error
    card = card_from_json(json.dumps(text), version, card_file)
    variables, tensors = _read_network(prefix, card.architecture)
    digest = _digest(tensors, card_to_json(card))
    _check_digest(digest, sha256, card_file)
    return Weights(variables, card, digest)


def _load_niftynets(prefix: Path, landmarks: str | Path | None) -> Weights:
    places = [prefix.parent / LANDMARKS_NAME, prefix.parent.parent / LANDMARKS_NAME]
    found = [Path(landmarks)] if landmarks else [p for p in places if p.is_file()]
    if not found:
        raise WeightsError(
            f"{prefix}: needs the histogram landmarks it was trained with, "
            f"{LANDMARKS_NAME}, beside it or one folder up; or give them with "
            "--landmarks FILE"
        )
    try:
        recipe = Recipe(read_landmarks(found[0]))
    except ValueError as error:
        raise WeightsError(str(error)) from error
    card = ModelCard(
        name=prefix.name,
        source="NiftyNet checkpoint",
        trained_on="not recorded in the checkpoint",
        licence="that of the checkpoint (the weights published in 2021: GPL-3.0)",
        mode="sliding_window",
        recipe=recipe,
    )
    variables, tensors = _read_network(prefix, card.architecture)
    return Weights(variables, card, _digest(tensors, card_to_json(card)))


def _read_network(
    prefix: Path, architecture: Architecture
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    try:
        variables = niftynet.read_network(prefix, architecture)
    except CheckpointError as error:
        raise WeightsError(str(error)) from error
    tensors = _tensors(variables)
    _check_shapes(tensors, architecture, prefix)
    return variables, tensors


def _check_shapes(
    tensors: Mapping[str, np.ndarray], architecture: Architecture, file: Path
) -> None:
    expected = expected_shapes(architecture)
    got = {name: tensor.shape for name, tensor in tensors.items()}
    for name in sorted(expected.keys() | got.keys()):
        if expected.get(name) != got.get(name):
            raise WeightsError(
                f"{file}: not the weights of this network: {name} should be "
                f"{expected.get(name, 'absent')}, is {got.get(name, 'absent')}"
            )
        if not np.all(np.isfinite(tensors[name])):
            raise WeightsError(f"{file}: {name} holds NaN or infinite numbers")


def _check_digest(digest: str, recorded: str | None, file: Path) -> None:
    if digest != recorded:
        raise WeightsError(
            f"{file}: checksum of card and tensors is {digest[:12]}..., recorded is "
            f"{str(recorded)[:12]}...; they are damaged, were edited, or do not belong "
            "together; copy them again"
        )


def _tensors(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    flat = flatten_dict({k: variables[k] for k in ("params", "batch_stats")}, sep="/")
    return {
        name: np.asarray(flat[name], np.float32, order="C") for name in sorted(flat)
    }


def _digest(tensors: Mapping[str, np.ndarray], card: str) -> str:
    digest = hashlib.sha256(card.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()
