"""Reading the MATLAB files that official archives come with, of version 5.

SciPy's reader trusts the sizes that stand in a file, and a crafted one ends the process; this one
is for lists of numbers, texts and structures, and checks each size.

A file is a header and a row of elements: type and length (4 bytes each, or 2 for short contents),
then the content. A matrix is an element of elements: class, shape, name, and what it holds.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from figureground.core.errors import DataError, UnfitFileError
from figureground.core.presence import read_binary

_HEAD = 128  # Bytes before the first element.
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
_TEXTS = {1: "utf-8", 2: "utf-8", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CELL, _STRUCTURE, _TEXT, _NUMERIC = 1, 2, 4, range(6, 16)  # Classes of matrices.
_MOST_DEPTH = 8  # Of matrices in matrices.
_MOST_RATIO, _MOST_UNPACKED = 20, 2**27  # Of bytes unpacked; beyond both a file is a bomb.


def read_matlab(path: Path, entry: str, page: str) -> list[Any]:
    """Read one list of a MATLAB file, structures as dictionaries.

    Args:
        path: The file.
        entry: Name of the list.
        page: Where the file is to be had, for the message.

    Raises:
        DataError: It is no such file, or has no such list, or an empty one.
    """
    try:
        found = _find(path, entry)
    except UnfitFileError:
        raise
    except (OSError, ValueError, KeyError, struct.error, zlib.error) as error:
        raise DataError(
            f"{path} is not a MATLAB file with a list `{entry}` ({type(error).__name__}); put the "
            f"original from {page} there"
        ) from error
    values = found if isinstance(found, list) else [found]
    if not values:
        raise DataError(f"{path}: the list `{entry}` is empty; put the original there")
    return values


def read_numbers(path: Path, entry: str, page: str) -> list[int]:
    """Read one list of whole numbers of a MATLAB file; see `read_matlab`.

    Raises:
        DataError: As there, or these are no numbers.
    """
    values = read_matlab(path, entry, page)
    try:
        return [int(value) for value in values]
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path} is not a MATLAB file with a list `{entry}` of numbers "
            f"({type(error).__name__}); put the original from {page} there"
        ) from error


def _find(path: Path, entry: str) -> Any:
    """Content of the matrix called `entry`.

    Raises:
        KeyError: There is none.
        ValueError: The file is damaged, or unpacks to far more than its size.
    """
    data = memoryview(read_binary(path))
    order = {b"IM": "<", b"MI": ">"}.get(bytes(data[_HEAD - 2 : _HEAD]))
    if order is None:
        raise ValueError("it is of another version, or no such file")
    left, place = max(_MOST_RATIO * len(data), _MOST_UNPACKED), _HEAD
    while place < len(data):
        kind, content, _ = _cut(data, place, order)
        place += 8 + len(content)  # Unlike within matrices nothing is filled up.
        if kind == _COMPRESSED:
            unpacked = zlib.decompressobj().decompress(content, left + 1)
            left -= len(unpacked)
            if left < 0:
                raise ValueError("it unpacks to far more than its size")
            kind, content, _ = _cut(memoryview(unpacked), 0, order)
        if kind == _MATRIX and len(content):
            matrix = _Matrix(content, order)
            if matrix.name == entry:
                return matrix.read()
    raise KeyError(entry)


def _cut(data: memoryview, place: int, order: str) -> tuple[int, memoryview, int]:
    """Type and content of the element at `place`, and the place of the next one.

    Raises:
        ValueError: It claims more than there is.
        struct.error: There is none.
    """
    kind, size = struct.unpack_from(f"{order}2I", data, place)
    start = place + 8
    if kind >> 16:  # A short one: its length and content are where others have their length.
        kind, size, start = kind & 0xFFFF, kind >> 16, place + 4
        following = place + 8
    else:
        following = start + size + -size % 8
    if start + size > len(data) or (start == place + 4 and size > 4):
        raise ValueError("an element claims more bytes than there are")
    return kind, data[start : start + size], following


class _Matrix:
    """One matrix, whose content is read when asked for.

    Args:
        data: Its elements.
        order: Of bytes, `<` or `>`.
        depth: How many matrices it is in.
    """

    def __init__(self, data: memoryview, order: str, depth: int = 0) -> None:
        if depth > _MOST_DEPTH:
            raise ValueError("it has matrices in matrices without end")
        self._data, self._order, self._depth, self._place = data, order, depth, 0
        self._kind = struct.unpack(f"{order}2I", self._next()[1])[0] & 0xFF
        shape = self._numbers()
        if any(length < 0 for length in shape):
            raise ValueError("it has a shape below zero")
        self.name = bytes(self._next()[1]).decode("ascii")
        self._rows, self._count = shape[0] if shape else 1, math.prod(shape)

    def read(self) -> Any:
        """Numbers and cells as a list, text as text, structures as a list of dictionaries."""
        if self._kind == _CELL:
            return [_simplify(each) for each in self._inner(self._count)]
        if self._kind == _STRUCTURE:
            return self._read_structures()
        if self._kind == _TEXT:
            return self._read_text()
        if self._kind not in _NUMERIC:
            raise ValueError(f"it has a matrix of class {self._kind}")
        numbers = self._numbers()
        if len(numbers) != self._count:
            raise ValueError("a matrix has another size than it claims")
        return numbers

    def _read_structures(self) -> list[dict[str, Any]]:
        width = self._numbers()
        packed = bytes(self._next()[1])
        if len(width) != 1 or width[0] < 1 or len(packed) < width[0]:
            raise ValueError("a structure has no fields")
        parts = (packed[n : n + width[0]] for n in range(0, len(packed), width[0]))
        names = [part.partition(b"\0")[0].decode("ascii") for part in parts]
        inner = self._inner(self._count * len(names))
        values = [_simplify(each) for each in inner]
        rows = range(0, len(values), len(names))
        return [dict(zip(names, values[n : n + len(names)], strict=True)) for n in rows]

    def _read_text(self) -> Any:
        kind, content, _ = self._next()
        codec = _TEXTS.get(kind)
        if codec is None:
            raise ValueError(f"it has text of type {kind}")
        if codec != "utf-8":
            codec += "-le" if self._order == "<" else "-be"
        text = bytes(content).decode(codec)
        rows = min(self._rows, len(text))  # Stored column by column.
        return text if rows <= 1 else [text[row::rows] for row in range(rows)]

    def _inner(self, count: int) -> Iterator[Any]:
        """Content of each of the `count` matrices that follow."""
        if 8 * count > len(self._data):
            raise ValueError("a matrix claims more entries than there are")
        for _ in range(count):
            kind, content, _ = self._next()
            if kind != _MATRIX:
                raise ValueError("an entry is no matrix")
            inner = _Matrix(content, self._order, self._depth + 1) if len(content) else None
            yield [] if inner is None else inner.read()

    def _numbers(self) -> list[Any]:
        kind, content, _ = self._next()
        if kind not in _NUMBERS:
            raise ValueError(f"it has numbers of type {kind}")
        numbers: list[Any] = np.frombuffer(content, f"{self._order}{_NUMBERS[kind]}").tolist()
        return numbers

    def _next(self) -> tuple[int, memoryview, int]:
        found = _cut(self._data, self._place, self._order)
        self._place = found[2]
        return found


def _simplify(content: Any) -> Any:
    """What a matrix of one entry holds, rather than a list of it."""
    return content[0] if isinstance(content, list) and len(content) == 1 else content
