"""TensorFlow's checkpoints, read without TensorFlow: an index of tensors, and their raw numbers.

The index is a table of LevelDB: blocks of sorted keys, each key without what it shares with the
one before, and at its end the place of a block that lists the others. A value is a message of
protocol buffers, ``BundleEntryProto``. Nothing in either file is run or unpickled, and every block
and tensor must have the checksum that was written with it.

Source: table_format.md of LevelDB, tensor_bundle.proto of TensorFlow.
"""

import math
from collections.abc import Collection, Iterator

import numpy as np
from numpy.typing import NDArray

from undersong.errors import DataError

MAGIC = bytes.fromhex("57fb808b247547db")
FOOTER = 48  # bytes
FLOAT = 1  # number of float32 among the types
TRAILER = 5  # bytes behind a block: how it is compressed, and its checksum
POLYNOMIAL = 0x82F63B78  # of CRC-32C, its bits turned round
MASK = 0xA282EAD8  # added to a checksum that lies beside what it is of
ODDS = "it is cut off or damaged; get it again"


def read_bundle(
    index: bytes, data: bytes, *, names: Collection[str], where: str
) -> dict[str, NDArray[np.float32]]:
    """Read float32 tensors of a checkpoint in one file of data.

    Parameters
    ----------
    names : of the tensors to read; others are passed over
    where : begins every message

    Raises
    ------
    DataError
        If a file is cut off or damaged, compressed, or lacks a tensor.
    """
    try:
        entries = dict(_entries(index))
    except (IndexError, ValueError) as error:
        raise DataError(f"{where}: the index cannot be read ({error}); {ODDS}") from error
    if lacking := sorted(set(names) - {x.decode(errors="replace") for x in entries}):
        raise DataError(
            f"{where}: no tensor {lacking[0]!r} in it; it is another model's checkpoint"
        )
    tensors = {}
    for name in names:
        try:
            tensors[name] = _tensor(dict(_fields(entries[name.encode()])), data)
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{where}: tensor {name!r} cannot be read ({error}); {ODDS}") from error
    return tensors


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of bytes, as iSCSI has it."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def _remainder(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE = tuple(map(_remainder, range(256)))


def _check(data: bytes, masked: int) -> None:
    plain = (masked - MASK) & 0xFFFFFFFF
    if crc32c(data) != (plain >> 17 | plain << 15) & 0xFFFFFFFF:
        raise ValueError("wrong checksum")


def _entries(index: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Return every key of a table and its value."""
    footer = index[-FOOTER:]
    if len(footer) < FOOTER or not footer.endswith(MAGIC):
        raise ValueError("no table of LevelDB")
    place = 0
    for _ in range(2):  # over the place of the block of metadata
        _, place = _varint(footer, place)
    for _, handle in _block(index, footer[place:]):
        yield from _block(index, handle)


def _block(index: bytes, handle: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Return the keys of one block and their values."""
    offset, place = _varint(handle, 0)
    size, _ = _varint(handle, place)
    block = index[offset : offset + size + TRAILER]
    if len(block) < size + TRAILER or size < 4:
        raise ValueError("a block ends too soon")
    if block[size]:
        raise ValueError("a block is compressed")
    _check(block[: size + 1], int.from_bytes(block[size + 1 :], "little"))
    end = size - 4 * (1 + int.from_bytes(block[size - 4 : size], "little"))
    key, place = b"", 0
    while place < end:
        shared, place = _varint(block, place)
        own, place = _varint(block, place)
        length, place = _varint(block, place)
        key = key[:shared] + block[place : place + own]
        place += own + length
        yield key, block[place - length : place]


def _tensor(entry: dict[int, int | bytes], data: bytes) -> NDArray[np.float32]:
    """Return one tensor by the fields of its entry: type, shape, shard, offset, size, checksum."""
    sides = [x for number, x in _fields(bytes(entry.get(2, b""))) if number == 2]
    shape = [int(dict(_fields(bytes(x))).get(1, 0)) for x in sides]
    shard, offset, size = (int(entry.get(x, 0)) for x in (3, 4, 5))
    if entry.get(1) != FLOAT or shard:
        raise ValueError("not float32 in the one file of data")
    if size != 4 * math.prod(shape) or offset + size > len(data):
        raise ValueError(f"{size} bytes for the shape {shape}, and {len(data)} are there")
    raw = data[offset : offset + size]
    _check(raw, int(entry[6]))
    return np.frombuffer(raw, dtype="<f4").astype(np.float32).reshape(shape)


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Return the fields of a message: number, and a whole number or bytes."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        if tag & 7 == 0:
            value, place = _varint(message, place)
            yield tag >> 3, value
            continue
        size = {1: 8, 5: 4}.get(tag & 7)
        if tag & 7 == 2:
            size, place = _varint(message, place)
        if size is None or place + size > len(message):
            raise ValueError("a message ends too soon")
        raw, place = message[place : place + size], place + size
        yield tag >> 3, raw if tag & 7 == 2 else int.from_bytes(raw, "little")


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Read a whole number of 7 bits a byte; return it and the place behind it."""
    value = 0
    for shift in range(0, 64, 7):
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
    raise ValueError("a number of more than 64 bits")
