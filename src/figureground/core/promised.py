"""Files that an earlier step will leave: options may name them before they are there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_folders: ContextVar[tuple[Path, ...]] = ContextVar("promised_folders", default=())


@contextmanager
def promising(folders: Iterable[Path]) -> Iterator[None]:
    """Take whatever is named below `folders` for a file to come, within this context."""
    token = _folders.set(tuple(folders))
    try:
        yield
    finally:
        _folders.reset(token)


def is_promised(place: str | Path) -> bool:
    """Whether `place` is, or lies below, a folder that a step still to be taken will fill."""
    path = Path(place)
    return any(folder == path or folder in path.parents for folder in _folders.get())
