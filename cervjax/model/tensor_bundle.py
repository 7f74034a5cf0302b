"""TensorFlow's checkpoint files (tensor bundles) without TensorFlow.

A checkpoint ``model.ckpt-N`` is an index, a LevelDB-style sorted table of protocol
buffers, and raw little-endian tensors. Both carry CRC-32C checksums, which are
verified. Only float32 tensors and uncompressed tables are known.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import numpy as np

from cervjax.io.files import write_atomically

INDEX_SUFFIX, DATA_SUFFIX = ".index", ".data-00000-of-00001"

LARGEST_INDEX, LARGEST_DATA = 16_000_000, 2_000_000_000  # bytes

_TABLE_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
_DT_FLOAT = 1
_HEADER = b"\x08\x01\x1a\x02\x08\x01"  # one shard, little-endian, version 1
_CRC_MASK_DELTA = 0xA282EAD8


class CheckpointError(ValueError):
    """A checkpoint that is missing or damaged."""


class _Entry(NamedTuple):
    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int


def read_checkpoint(prefix: str | Path) -> dict[str, np.ndarray]:
    """All float32 tensors of a checkpoint by name, checksums verified.

    Raises:
        CheckpointError: a file is missing, damaged, compressed or of another kind.
    """
    index = Path(f"{prefix}.index")
    try:
        content = _content(index, LARGEST_INDEX)
        entries = {k: _entry(v) for k, v in _table(content) if k}
        shards = {}
        tensors = {}
        for name, entry in entries.items():
            if entry.dtype != _DT_FLOAT:
                continue
            if entry.shard not in shards:
                shards[entry.shard] = _content(
                    _shard_path(prefix, entry.shard), LARGEST_DATA
                )
            raw = shards[entry.shard][entry.offset : entry.offset + entry.size]
            if len(raw) != entry.size or _masked_crc(raw) != entry.crc:
                raise CheckpointError(
                    f"{prefix}: checksum of {name} is wrong, the data file is damaged "
                    "or belongs to another index"
                )
            tensors[name] = np.frombuffer(raw, "<f4").reshape(entry.shape)
        return tensors
    except OSError as error:
        raise CheckpointError(
            f"{prefix}: a checkpoint is a .index and a .data-00000-of-00001 file, "
            f"cannot read {error.filename} ({error.strerror})"
        ) from error
    except CheckpointError as error:
        told = str(error)
        where = "" if told.startswith(str(prefix)) else f"{index}: "
        raise CheckpointError(f"{where}{told}; copy it again") from error
    except (IndexError, struct.error, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(
            f"{index}: damaged checkpoint index ({error}); copy it again"
        ) from error


def _content(path: Path, largest: int) -> bytes:
    """Refuses what is no checkpoint by its size, before memory is taken."""
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{path} is not a regular file")
    if (size := path.stat().st_size) > largest:
        raise CheckpointError(
            f"{path} has {size:,} bytes; a dense V-Net has no more than {largest:,}"
        )
    return path.read_bytes()


def write_checkpoint(prefix: str | Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes float32 tensors as a checkpoint that TensorFlow reads.

    One data block holds all entries, one index block points to it.
    """
    data, entries = bytearray(), {"": _HEADER}
    for name, tensor in tensors.items():
        raw = np.asarray(tensor, "<f4", order="C").tobytes()
        entries[name] = _entry_message(np.shape(tensor), len(data), raw)
        data += raw
    rows = sorted((name.encode(), message) for name, message in entries.items())
    table = bytearray()
    handle = _append_block(table, rows)
    meta = _append_block(table, [])
    footer = meta + _append_block(table, [(rows[-1][0] + b"\0", handle)])
    table += footer.ljust(_FOOTER_BYTES - 8, b"\0") + struct.pack("<Q", _TABLE_MAGIC)
    for suffix, content in ((DATA_SUFFIX, data), (INDEX_SUFFIX, table)):
        write_atomically(f"{prefix}{suffix}", lambda p, c=content: p.write_bytes(c))


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
    while shift < 70:  # 64 bits
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise CheckpointError("checkpoint index has a number of more than 64 bits")


def _masked_crc(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + _CRC_MASK_DELTA) & 0xFFFFFFFF


def _append_block(table: bytearray, rows: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Appends a block with its checksum; returns its handle (offset, size)."""
    block = b"".join(
        b"\0" + _as_varint(len(key)) + _as_varint(len(value)) + key + value
        for key, value in rows
    )
    block += struct.pack("<II", 0, 1)  # one restart point, at the start
    handle = _as_varint(len(table)) + _as_varint(len(block))
    table += block + b"\0" + struct.pack("<I", _masked_crc(block + b"\0"))
    return handle


def _entry_message(shape: tuple[int, ...], offset: int, raw: bytes) -> bytes:
    dims = [b"\x08" + _as_varint(n) for n in shape]
    message = b"".join(b"\x12" + _as_varint(len(d)) + d for d in dims)
    return (
        bytes((0x08, _DT_FLOAT, 0x12))
        + _as_varint(len(message))
        + message
        + (b"\x20" + _as_varint(offset) if offset else b"")
        + b"\x28"
        + _as_varint(len(raw))
        + b"\x35"
        + struct.pack("<I", _masked_crc(raw))
    )


def _as_varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))
