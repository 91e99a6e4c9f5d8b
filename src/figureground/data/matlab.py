"""Reading the MATLAB files that official archives come with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scipy.io import loadmat

from figureground.core.errors import DataError


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
        found = loadmat(str(path), simplify_cells=True)[entry]
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
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{path} is not a MATLAB file with a list `{entry}` of numbers "
            f"({type(error).__name__}); put the original from {page} there"
        ) from error
