"""Portable weights: safetensors with a model card, and the ways to come by them.

The header of the file holds the card (JSON) and a SHA-256 over card and tensors, which
is verified on loading and shown on use. The same digest names a NiftyNet checkpoint
before and after its conversion.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from cervjax import NOTICE
from cervjax.anatomy import MUSCLES
from cervjax.inference.test_time_augmentation import Passes
from cervjax.io.files import write_atomically
from cervjax.model import niftynet_checkpoint as niftynet
from cervjax.model.dense_vnet import (
    INPUT_CHANNELS,
    PUBLISHED,
    SIZE_MULTIPLE,
    Architecture,
    DenseVNet,
)
from cervjax.model.tensor_bundle import CheckpointError
from cervjax.preprocessing.histogram import read_landmarks
from cervjax.preprocessing.pipeline import Recipe

FILE_NAME = "weights.safetensors"
LANDMARKS_NAME = "standardisation_models.txt"

SYNTHETIC = (
    "Trained on synthetic necks; not validated on patients; not for clinical use."
)
SHIPPED = Path(__file__).with_name("digital_necks.safetensors")
"""The weights in the package."""


class WeightsError(ValueError):
    """Weights that are missing, damaged or of another network."""


@dataclass(frozen=True)
class ModelCard:
    """What a user must know of a set of weights.

    Attributes:
        name: short name.
        source: where the numbers come from.
        trained_on: the data.
        licence: the terms of the weights.
        mode: "whole" or "windows", how these weights are run unless told otherwise.
        recipe: the preprocessing they were trained with.
        passes: how often they are asked of a scan unless told otherwise, see `passes`.
        slices_whole: slices at a muscle's ends are taken whole or not at all, see
            `ends`; in mode "whole" only.
        limits: what they must not be used for.
        architecture: the network's numbers of layers and features.
        accuracy: how good they are and on what, as `agreement.tables.in_brief` says.
        labels: label value to muscle.
    """

    name: str
    source: str
    trained_on: str
    licence: str
    mode: Literal["whole", "windows"]
    recipe: Recipe
    passes: Passes = 1
    slices_whole: bool = False
    limits: str = NOTICE
    architecture: Architecture = PUBLISHED
    accuracy: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(
        default_factory=lambda: {str(m.label): f"{m.name}, {m.side}" for m in MUSCLES}
    )


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
        landmarks: for a checkpoint only: its histogram landmarks; by default
            ``standardisation_models.txt`` beside it or one folder up.

    Raises:
        WeightsError: nothing there, damaged, or not this network.
    """
    path = Path(path)
    prefix = niftynet.checkpoint_prefix(path)
    if prefix is not None:
        return _load_checkpoint(prefix, landmarks)
    if landmarks is not None:
        raise WeightsError(
            f"{path}: landmarks go with a NiftyNet checkpoint only, a weights "
            "file carries its own"
        )
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
    text = json.dumps(asdict(card), sort_keys=True)
    digest = _digest(tensors, text)
    metadata = {"format": "cervjax-1", "card": text, "sha256": digest}
    content = save(tensors, metadata)  # save_file would leave a file of mode 0600
    write_atomically(path, lambda part: part.write_bytes(content))
    return digest


def expected_shapes(
    architecture: Architecture = PUBLISHED,
) -> dict[str, tuple[int, ...]]:
    """Name and shape of every variable of a network."""
    size = (SIZE_MULTIPLE,) * 3
    example = jax.ShapeDtypeStruct((1, *size, INPUT_CHANNELS), np.float32)
    network = DenseVNet(architecture, lowering="plain")  # the quickest to trace
    tree = jax.eval_shape(network.init, jax.random.key(0), example)
    tree = {k: tree[k] for k in ("params", "batch_stats")}
    leaves: dict[str, Any] = flatten_dict(tree, sep="/")
    return {name: leaf.shape for name, leaf in leaves.items()}


def _load_file(file: Path) -> Weights:
    try:
        with safe_open(file, framework="numpy") as content:
            metadata = content.metadata() or {}
            tensors = {name: content.get_tensor(name) for name in content.keys()}
        card = _card(json.loads(metadata["card"]))
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{file}: not a readable safetensors file ({error}); copy it again"
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{file}: has no valid model card ({error!r}); make it with "
            "'cervjax convert' or by training"
        ) from error
    _check_shapes(tensors, card.architecture, file)
    digest = _digest(tensors, metadata["card"])
    if digest != metadata.get("sha256"):
        raise WeightsError(
            f"{file}: checksum is {digest[:12]}..., its header says "
            f"{str(metadata.get('sha256'))[:12]}...; the file is damaged or was edited"
        )
    return Weights(unflatten_dict(tensors, sep="/"), card, digest)


def _load_checkpoint(prefix: Path, landmarks: str | Path | None) -> Weights:
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
        mode="windows",
        recipe=recipe,
    )
    try:
        variables = niftynet.read_network(prefix)
    except CheckpointError as error:
        raise WeightsError(str(error)) from error
    tensors = _tensors(variables)
    _check_shapes(tensors, card.architecture, prefix)
    digest = _digest(tensors, json.dumps(asdict(card), sort_keys=True))
    return Weights(variables, card, digest)


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


def _card(fields: dict[str, Any]) -> ModelCard:
    recipe = fields.pop("recipe")
    landmarks = {k: tuple(v) for k, v in recipe.pop("landmarks").items()}
    recipe = Recipe(landmarks=landmarks, **_with_tuples(recipe))
    # Cards of before `architecture` are of the published network.
    architecture = Architecture(**_with_tuples(fields.pop("architecture", {})))
    return ModelCard(recipe=recipe, architecture=architecture, **fields)


def _with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
