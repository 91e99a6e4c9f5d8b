"""Reading the MATLAB files that official archives come with."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

from scipy.io import loadmat

from figureground.core.errors import DataError

_HEAD, _COMPRESSED = 128, 15  # Bytes before the first element; type of one that is compressed.
_MOST_RATIO, _MOST_UNPACKED = 20, 2**27  # Beyond both a file is a bomb.
_STEP = 2**20  # Bytes unpacked at once.


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
        _require_no_bomb(path)
        found = loadmat(str(path), simplify_cells=True, variable_names=[entry])[entry]
    except Exception as error:  # On damaged files scipy raises nearly anything.
        raise DataError(
            f"{path} is not a MATLAB file with a list `{entry}` ({type(error).__name__}); put the "
            f"original from {page} there"
        ) from error
    values = found if isinstance(found, list) else getattr(found, "ravel", lambda: [found])()
    if not len(values):
        raise DataError(f"{path}: the list `{entry}` is empty; put the original there")
    return list(values)


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


def _require_no_bomb(path: Path) -> None:
    """Raise `ValueError` if compressed elements of `path` hold far more than its size."""
    left = max(_MOST_RATIO * path.stat().st_size, _MOST_UNPACKED)
    with path.open("rb") as file:
        order = {b"IM": "<", b"MI": ">"}.get(file.read(_HEAD)[-2:])
        while order and len(tag := file.read(8)) == 8:
            kind, length = struct.unpack(f"{order}2I", tag)
            end = file.tell() + length
            if kind == _COMPRESSED:
                inflater, data = zlib.decompressobj(), file.read(min(length, _STEP))
                while data and not inflater.eof:
                    left -= len(inflater.decompress(data, _STEP))
                    if left < 0:
                        raise ValueError("it unpacks to far more than its size")
                    data = inflater.unconsumed_tail or file.read(min(end - file.tell(), _STEP))
            file.seek(end)
