"""Reads the network out of a NiftyNet (TensorFlow 1) checkpoint, without TensorFlow.

A checkpoint ``model.ckpt-N`` is an index, a LevelDB-style sorted table of protocol
buffers, and raw little-endian tensors; both carry CRC-32C checksums, and both are
checked here. Adam's variables, if there, are left alone.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import numpy as np

_TABLE_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
_DT_FLOAT = 1
_CRC_MASK_DELTA = 0xA282EAD8

SUFFIXES = (".index", ".meta", ".data-00000-of-00001")


class CheckpointError(ValueError):
    """A checkpoint that is damaged or is not this network."""


class _Entry(NamedTuple):
    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int


def checkpoint_prefix(path: str | Path) -> Path | None:
    """The prefix if the path names a checkpoint or one of its files, else None."""
    path = Path(path)
    for suffix in SUFFIXES:
        path = path.with_name(path.name.removesuffix(suffix))
    return path if Path(f"{path}.index").is_file() else None


def read_network(prefix: str | Path) -> dict[str, Any]:
    """The network's variables, in the tree of `cervjax.model.DenseVNet`.

    Raises:
        CheckpointError: files missing, damaged or compressed; or not this network.
    """
    tensors = read_checkpoint(prefix)
    variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for (collection, *path), name in variable_names().items():
        if name not in tensors:
            raise CheckpointError(
                f"{prefix}: has no variable {name}; not the dense V-Net of NiftyNet 0.6"
            )
        node = variables[collection]
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = tensors[name]
    return variables


def variable_names() -> dict[tuple[str, ...], str]:
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
    for block, units in enumerate((5, 10, 10)):
        here, scope = (
            f"block{block}",
            f"DenseVNet/{_nth('dense_feature_stack_block', block)}",
        )
        for i in range(units):
            inner = f"{scope}/dense_feature_stack_block/{_nth('conv_bn_relu', i)}"
            unit((here, f"units_{i}"), inner)
        unit((here, "skip"), f"{scope}/conv_bn_relu")
        if block < 2:
            unit((here, "down"), f"{scope}/conv_bn_relu_1")
    names["params", "head_kernel"] = "DenseVNet/conv/conv_/w"
    names["params", "head_bias"] = "DenseVNet/conv/conv_/b"
    return names


def read_checkpoint(prefix: str | Path) -> dict[str, np.ndarray]:
    """All float32 tensors of a checkpoint by name, checksums verified.

    Raises:
        CheckpointError: a file is missing, damaged, compressed or of another kind.
    """
    index = Path(f"{prefix}.index")
    try:
        entries = {k: _entry(v) for k, v in _table(index.read_bytes()) if k}
        shards = {}
        tensors = {}
        for name, entry in entries.items():
            if entry.dtype != _DT_FLOAT:
                continue
            if entry.shard not in shards:
                shards[entry.shard] = _shard_path(prefix, entry.shard).read_bytes()
            raw = shards[entry.shard][entry.offset : entry.offset + entry.size]
            if len(raw) != entry.size or _masked_crc(raw) != entry.crc:
                raise CheckpointError(
                    f"{prefix}: checksum of {name} is wrong, the data file is damaged "
                    "or belongs to another index; copy the checkpoint again"
                )
            tensors[name] = np.frombuffer(raw, "<f4").reshape(entry.shape)
        return tensors
    except OSError as error:
        raise CheckpointError(
            f"{prefix}: a checkpoint is a .index and a .data-00000-of-00001 file, "
            f"cannot read {error.filename} ({error.strerror})"
        ) from error
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise CheckpointError(f"{index}: damaged checkpoint index ({error})") from error


def _nth(name: str, i: int) -> str:
    return name if i == 0 else f"{name}_{i}"


def _shard_path(prefix: str | Path, shard: int) -> Path:
    paths = sorted(
        Path(prefix).parent.glob(f"{Path(prefix).name}.data-{shard:05d}-of-*")
    )
    if not paths:
        raise FileNotFoundError(
            2, "no such file", f"{prefix}.data-{shard:05d}-of-00001"
        )
    return paths[0]


def _table(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Keys and values of a sorted string table, through its index block."""
    footer = content[-_FOOTER_BYTES:]
    if (
        len(footer) < _FOOTER_BYTES
        or struct.unpack("<Q", footer[-8:])[0] != _TABLE_MAGIC
    ):
        raise CheckpointError("not a TensorFlow checkpoint index (wrong magic number)")
    _, at = _varint(footer, 0)
    _, at = _varint(footer, at)
    offset, at = _varint(footer, at)
    size, at = _varint(footer, at)
    for _, handle in _block(content, offset, size):
        start, at = _varint(handle, 0)
        length, _ = _varint(handle, at)
        for key, value in _block(content, start, length):
            yield key.decode(), value


def _block(content: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys (sharing prefixes) and values of one block, its checksum verified."""
    kind = content[offset + size]
    (crc,) = struct.unpack_from("<I", content, offset + size + 1)
    if _masked_crc(content[offset : offset + size + 1]) != crc:
        raise CheckpointError("checkpoint index is damaged (wrong checksum)")
    if kind != 0:
        raise CheckpointError("checkpoint index is compressed, which is not supported")
    block = content[offset : offset + size]
    (restarts,) = struct.unpack_from("<I", block, size - 4)
    end, at, key = size - 4 * (restarts + 1), 0, b""
    while at < end:
        shared, at = _varint(block, at)
        own, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + own]
        yield key, block[at + own : at + own + length]
        at += own + length


def _entry(message: bytes) -> _Entry:
    """BundleEntryProto: 1 dtype, 2 shape, 3 shard, 4 offset, 5 size, 6 crc32c."""
    fields = dict(_fields(message))
    dims = [
        dict(_fields(v)).get(1, 0) for k, v in _fields(fields.get(2, b"")) if k == 2
    ]
    return _Entry(
        *(fields.get(1, 0), tuple(dims)), *(fields.get(k, 0) for k in (3, 4, 5, 6))
    )


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(message, at)
        elif wire == 2:
            length, at = _varint(message, at)
            value, at = message[at : at + length], at + length
        elif wire == 5:
            (value,), at = struct.unpack_from("<I", message, at), at + 4
        else:
            raise CheckpointError(f"checkpoint index has an unknown field type {wire}")
        yield tag >> 3, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _masked_crc(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + _CRC_MASK_DELTA) & 0xFFFFFFFF
