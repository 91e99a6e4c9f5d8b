"""Limits what a network may allocate while it is built from options that stand in a file."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from figureground.core.errors import CheckpointError
from figureground.core.presence import open_file

_SPARE = 2**28  # Bytes for what is made besides weights.
_MOST_CALLS = 10**6  # Of PyTorch: a network of many small parts takes hours, not memory.
_COPIES = 8  # Of the files' bytes, as whole networks may be built and thrown away.
_FACTORIES = frozenset({torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn})
_IN_FOLDERS = ("*.pth", "*.ckpt", "checkpoints/*.ckpt")  # Where options may name a folder.


class _Budget(TorchFunctionMode):
    """Counts elements that are asked for, and refuses before there are too many."""

    def __init__(self, path: Path, options: Any) -> None:
        super().__init__()
        self.path = path
        stored = path.stat().st_size + sum(_sizes_of_files(options))
        self.left = (_SPARE + _COPIES * stored) // 4
        self.calls = _MOST_CALLS

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        self.calls -= 1
        if func in _FACTORIES:
            self.left -= _count(args, kwargs)
        if min(self.left, self.calls) < 0:
            raise CheckpointError(f"{self.path} describes a network far larger than the file")
        return func(*args, **kwargs)


@contextmanager
def allocation_budget(path: Path, options: Any) -> Iterator[None]:
    """Build a network inside it as long as its size can be that of what is in the file `path`.

    Args:
        path: A checkpoint.
        options: Of the network, as they stand in it; files that they name count too, such as that
            of a frozen generator.

    Raises:
        CheckpointError: It would be far larger, or of no size that any memory has.
    """
    try:
        with _Budget(path, options):
            yield
    except Exception as error:
        if _is_about_memory(error):
            raise CheckpointError(
                f"{path} describes a network that no memory can hold; its options are damaged"
            ) from error
        raise


def _sizes_of_files(options: Any) -> Iterator[int]:
    """Bytes of all weights that options name anywhere: files, runs, folders of released ones."""
    if isinstance(options, Mapping | list | tuple):
        for value in options.values() if isinstance(options, Mapping) else options:
            yield from _sizes_of_files(value)
    elif isinstance(options, str) and os.path.isdir(options):  # noqa: PTH112 - of any length
        for pattern in _IN_FOLDERS:
            yield from (_size(path) for path in Path(options).glob(pattern) if path.is_file())
    elif isinstance(options, str) and os.path.isfile(options):  # noqa: PTH113
        yield _size(Path(options))


def _size(path: Path) -> int:
    """Bytes of a file of weights; none of others, such as the memory that systems show as one."""
    try:
        with open_file(path) as file:
            head = file.read(9)
        is_weights = head.startswith((b"PK\x03\x04", b"\x80")) or head[8:] == b"{"
        return path.stat().st_size if is_weights else 0
    except OSError:
        return 0


def _count(args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    """Elements of the tensor that a factory of PyTorch is asked for."""
    first = kwargs.get("size", args[0] if args else ())
    sizes = first if isinstance(first, list | tuple) else args
    return math.prod(size for size in sizes if isinstance(size, int))


def _is_about_memory(error: BaseException | None) -> bool:
    """Whether an error, or one it came from, says that sizes are too large."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))  # What a constructor raised may have been raised again from its own.
        text = str(error).lower()
        if isinstance(error, MemoryError | OverflowError):
            return True
        if isinstance(error, RuntimeError | TypeError) and (
            "allocate" in text or "overflow" in text or "invalid_argument" in text
        ):
            return True
        error = error.__cause__
    return False
