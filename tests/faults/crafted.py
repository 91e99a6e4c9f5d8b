"""Ways to spoil a checkpoint."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def randomise(path: Path) -> None:
    path.write_bytes(random.Random(0).randbytes(path.stat().st_size))


def flip_a_byte_of_a_tensor(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


DAMAGES = [truncate, empty, randomise, flip_a_byte_of_a_tensor]

#: An edit of a checkpoint, and what its refusal says.
OTHER_FORMATS: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda c: c["figureground"].update(format=99, version="9.0"), "pip install --upgrade"),
    (lambda c: c["figureground"].update(format="x"), "unreadable format"),
    (lambda c: c.pop("figureground"), "src/convert.py"),
    (lambda c: c.pop("state_dict"), "not a checkpoint of this suite"),
    (lambda c: c["figureground"].pop("method"), "how its method was built"),
]


class Payload:
    """Creates a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)
