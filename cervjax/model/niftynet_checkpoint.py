"""The network's variables under their NiftyNet names, to and from its checkpoints.

The published checkpoint holds 485 variables; the 257 that are the network's are read,
Adam's are left alone, and the moving variance's step counter repeats the mean's.
"""

import functools
import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cervjax.model.dense_vnet import PUBLISHED, Architecture
from cervjax.model.tensor_bundle import (
    DATA_SUFFIX,
    INDEX_SUFFIX,
    CheckpointError,
    read_checkpoint,
    write_checkpoint,
)


def checkpoint_prefix(path: str | Path) -> Path | None:
    """The prefix if the path names a checkpoint or one of its files, else None."""
    path = Path(path)
    for suffix in (INDEX_SUFFIX, ".meta", DATA_SUFFIX):
        path = path.with_name(path.name.removesuffix(suffix))
    return path if Path(f"{path}{INDEX_SUFFIX}").is_file() else None


def read_network(
    prefix: str | Path, architecture: Architecture = PUBLISHED
) -> dict[str, Any]:
    """The network's variables, in the tree of `cervjax.model.dense_vnet.DenseVNet`.

    Args:
        prefix: of the checkpoint, such as ``models/model.ckpt-100000``.
        architecture: of its network; NiftyNet knows the published one only.

    Raises:
        CheckpointError: files missing, damaged or compressed; or not this network.
    """
    tensors = read_checkpoint(prefix)
    variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for (collection, *path), name in variable_names(architecture).items():
        if name not in tensors:
            raise CheckpointError(
                f"{prefix}: has no variable {name}; not the dense V-Net of NiftyNet 0.6"
            )
        node = variables[collection]
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = tensors[name]
    return variables


def write_network(
    prefix: str | Path,
    variables: Mapping[str, Any],
    architecture: Architecture = PUBLISHED,
) -> None:
    """Writes the variables as a checkpoint with NiftyNet's names."""
    tensors = {}
    for path, name in variable_names(architecture).items():
        tensors[name] = functools.reduce(operator.getitem, path, variables)
        if path[-1] == "steps":
            twin = name.replace("/moving_mean/", "/moving_variance/")
            tensors[twin] = tensors[name]
    write_checkpoint(prefix, tensors)


def variable_names(
    architecture: Architecture = PUBLISHED,
) -> dict[tuple[str, ...], str]:
    """Path in the Flax variables to name in the checkpoint, for every variable."""
    names: dict[tuple[str, ...], str] = {}

    def norm(path: tuple[str, ...], scope: str) -> None:
        names["params", *path, "scale"] = f"{scope}/gamma"
        names["params", *path, "bias"] = f"{scope}/beta"
        for ours, theirs in (("mean", "moving_mean"), ("var", "moving_variance")):
            names["batch_stats", *path, ours] = f"{scope}/{theirs}"
            slot = f"{scope}/{scope}/{theirs}"
            names["batch_stats", *path, f"{ours}_biased"] = f"{slot}/biased"
        names["batch_stats", *path, "steps"] = f"{scope}/{scope}/moving_mean/local_step"

    def unit(path: tuple[str, ...], scope: str) -> None:
        names["params", *path, "kernel"] = f"{scope}/conv_/w"
        norm((*path, "norm"), f"{scope}/bn_")

    norm(("pool_norm",), "DenseVNet/batch_norm")
    unit(("stem",), "DenseVNet/conv_bn")
    for block, units in enumerate(architecture.units):
        here, scope = (
            f"block{block}",
            f"DenseVNet/{_nth('dense_feature_stack_block', block)}",
        )
        for i in range(units):
            inner = f"{scope}/dense_feature_stack_block/{_nth('conv_bn_relu', i)}"
            unit((here, f"units_{i}"), inner)
        unit((here, "skip"), f"{scope}/conv_bn_relu")
        if block < len(architecture.downs):
            unit((here, "down"), f"{scope}/conv_bn_relu_1")
    names["params", "head_kernel"] = "DenseVNet/conv/conv_/w"
    names["params", "head_bias"] = "DenseVNet/conv/conv_/b"
    return names


def _nth(name: str, i: int) -> str:
    return name if i == 0 else f"{name}_{i}"
