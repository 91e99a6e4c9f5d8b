"""TFRecord files of `Example` messages, read with NumPy alone.

A file is a row of records, gzipped as a whole or plain: length (uint64), its masked CRC-32C, data,
the data's masked CRC-32C, all little-endian. The data is a protocol buffer `Example`: a map from
names to lists of byte strings or floats.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from functools import cache
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

from figureground.core.errors import DataError, UnfitFileError
from figureground.core.presence import open_file
from figureground.data.samples import Pixels

_POLYNOMIAL = 0x82F63B78  # CRC-32C, bits reversed.
_MASK_DELTA = 0xA282EAD8
_BLOCK = 1024  # Bytes per row of the position tables.
_ROWS = 256  # Blocks looked up at once; more would leave the processor's cache.
_SHORT = 32  # Bytes below which a plain loop is faster.
_GZIP_MAGIC = b"\x1f\x8b"
_MOST_BYTES = 2**26  # Of a record; those of pictures with their masks have some millions.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class RecordReader:
    """Reads the records of one file in order.

    Args:
        path: The file.
        advice: What to do about a damaged file, the end of all messages.

    Attributes:
        number: Records read or skipped so far.

    Raises:
        DataError: The file cannot be opened.
    """

    def __init__(self, path: Path, advice: str = "put the original there") -> None:
        self.path, self.advice, self.number = path, advice, 0
        try:
            raw = open_file(path)
        except UnfitFileError:
            raise
        except OSError as error:
            raise DataError(f"{path} cannot be read ({type(error).__name__}); {advice}") from error
        self._raw: BinaryIO = raw
        is_gzip = raw.read(2) == _GZIP_MAGIC
        raw.seek(0)
        self._file = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if is_gzip else self._raw

    def read(self) -> bytes | None:
        """Return the next record's data, or None at the end of the file.

        Raises:
            DataError: The record is cut off or a checksum does not fit.
        """
        data = self._next()
        if data is None:
            return None
        if masked_crc32c(data[:-4]) != int.from_bytes(data[-4:], "little"):
            raise self._error("is damaged: its checksum does not fit its data")
        self.number += 1
        return data[:-4]

    def skip(self) -> bool:
        """Pass over a record without checking its data; return False at the end of the file.

        Raises:
            DataError: The record is cut off or its length is damaged.
        """
        found = self._next() is not None
        self.number += found
        return found

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._raw.close()

    def error(self, problem: str) -> DataError:
        """Return an error about the record read last: `problem` says what is wrong with it."""
        return self._error(problem, self.number - 1)

    def _next(self) -> bytes | None:
        """Data of the next record with its checksum."""
        head = self._take(12, may_end=True)
        if not head:
            return None
        length, checksum = struct.unpack("<QI", head)
        if masked_crc32c(head[:8]) != checksum:
            raise self._error("is damaged: the checksum of its length does not fit")
        if length > _MOST_BYTES:
            raise self._error(f"claims {length} bytes, expected at most {_MOST_BYTES}")
        return self._take(length + 4)

    def _take(self, size: int, may_end: bool = False) -> bytes:
        try:
            data = self._file.read(size)
        except (OSError, EOFError, zlib.error) as error:
            raise self._error(f"is cut off or damaged ({type(error).__name__})") from error
        if len(data) < size and (data or not may_end):
            raise self._error(f"is cut off: {len(data)} of {size} bytes are left")
        return data

    def _error(self, problem: str, number: int | None = None) -> DataError:
        number = self.number if number is None else number
        return DataError(f"{self.path}: record {number} {problem}; {self.advice}")


class Example:
    """One `Example` message: features by name, decoded when asked for.

    Args:
        data: The message.

    Raises:
        ValueError: It is not such a message.
    """

    def __init__(self, data: bytes) -> None:
        self._features: dict[str, memoryview] = {}
        for field, features in _fields(memoryview(data)):
            for _, entry in _fields(features) if field == 1 else ():
                parts = dict(_fields(entry))
                if 1 in parts:
                    self._features[bytes(parts[1]).decode()] = parts.get(2, memoryview(b""))

    def read_bytes(self, name: str) -> Pixels:
        """All byte strings of feature `name` joined, uint8 (N,).

        DeepMind's files hold one string per pixel, others one per picture.

        Raises:
            ValueError: There is no such feature, or it does not hold bytes.
        """
        values = self._list(name, 1)
        flat = np.frombuffer(values, np.uint8)
        if len(flat) % 3 == 0:
            triples = flat.reshape(-1, 3)  # Tag, length 1 and one byte of data.
            if (triples[:, 0] == 0x0A).all() and (triples[:, 1] == 1).all():
                return triples[:, 2]
        return np.frombuffer(b"".join(part for _, part in _fields(values)), np.uint8)

    def read_floats(self, name: str) -> npt.NDArray[np.float32]:
        """Numbers of feature `name`, (N,).

        Raises:
            ValueError: There is no such feature, or it does not hold floats.
        """
        parts = [part for _, part in _fields(self._list(name, 2))]
        return np.frombuffer(b"".join(parts), np.dtype("<f4"))

    def _list(self, name: str, kind: int) -> memoryview:
        if name not in self._features:
            raise ValueError(f"has no feature {name} (it has: {', '.join(sorted(self._features))})")
        lists = dict(_fields(self._features[name]))
        if kind not in lists:
            raise ValueError(f"has a feature {name} of another type")
        return lists[kind]


def masked_crc32c(data: bytes) -> int:
    """Return the CRC-32C of `data` as TFRecord files store it: rotated, plus a constant."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of `data`, about 100 MB/s.

    A CRC is linear: that of a block is the exclusive or of what each byte contributes at its
    place, which is one look-up in a table of places and values. Leading zeros contribute nothing,
    so the first block is filled up in front, and the initial value is put into the first bytes.
    """
    if len(data) < _SHORT:
        return _crc32c_short(data)
    table, heads = _place_table(), _head_tables()
    rows = -(-len(data) // _BLOCK)
    padded = np.zeros(rows * _BLOCK, np.uint8)
    padded[-len(data) :] = np.frombuffer(data, np.uint8)
    padded[len(padded) - len(data) :][:4] ^= 255
    places = np.arange(_BLOCK, dtype=np.intp) * 256
    blocks = padded.reshape(rows, _BLOCK)
    crc = 0
    for first in range(0, rows, _ROWS):
        found = table[blocks[first : first + _ROWS] + places]
        for value in np.bitwise_xor.reduce(found, axis=1).tolist():
            # What came before acts like an exclusive or with the first four bytes of the block.
            crc = (
                value
                ^ heads[0][crc & 255]
                ^ heads[1][crc >> 8 & 255]
                ^ heads[2][crc >> 16 & 255]
                ^ heads[3][crc >> 24]
            )
    return crc ^ 0xFFFFFFFF


def _crc32c_short(data: bytes) -> int:
    table, crc = _byte_table().tolist(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


@cache
def _byte_table() -> npt.NDArray[np.uint32]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ _POLYNOMIAL, table >> 1).astype(np.uint32)
    return table


@cache
def _place_table() -> npt.NDArray[np.uint32]:
    """Contribution of each byte value at each place of a block, (1024 * 256,)."""
    first = _byte_table()
    rows = [first]
    for _ in range(_BLOCK - 1):
        rows.append(rows[-1] >> 8 ^ first[rows[-1] & 255])
    return np.concatenate(rows[::-1])


@cache
def _head_tables() -> tuple[list[int], ...]:
    """The same for the first four places, as lists, which single look-ups are faster in."""
    return tuple(_place_table()[256 * place : 256 * (place + 1)].tolist() for place in range(4))


def _fields(message: memoryview) -> list[tuple[int, memoryview]]:
    """Split a protocol buffer message into field numbers and contents; varints come out empty."""
    found, place, size = [], 0, len(message)
    while place < size:
        tag, place = _varint(message, place)
        kind = tag & 7
        if kind == _VARINT:
            _, place = _varint(message, place)
            found.append((tag >> 3, message[:0]))
            continue
        if kind == _BYTES:
            length, place = _varint(message, place)
        elif kind in {_FIXED32, _FIXED64}:
            length = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"is not an Example message (wire type {kind})")
        if place + length > size:
            raise ValueError("is not an Example message (a field is longer than the rest)")
        found.append((tag >> 3, message[place : place + length]))
        place += length
    return found


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(message) and shift < 64:
        byte = message[place]
        value |= (byte & 127) << shift
        place += 1
        if byte < 128:
            return value, place
        shift += 7
    raise ValueError("is not an Example message (a number does not end)")
