"""Ways to spoil a checkpoint or a file of released weights."""

from __future__ import annotations

import json
import os
import pickle
import random
import struct
import zipfile
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


def dotted(module: str, name: str, argument: str) -> bytes:
    """A pickle that calls what a dotted name leads to."""
    parts = (pickle.SHORT_BINUNICODE + bytes([len(x)]) + x.encode() for x in (module, name))
    called = b"".join(parts) + pickle.STACK_GLOBAL
    given = pickle.BINUNICODE + struct.pack("<I", len(argument)) + argument.encode()
    return b"\x80\x04" + called + given + pickle.TUPLE1 + pickle.REDUCE + b"."


#: Pickles that would run something: in calls, behind dotted names, in ways of old protocols.
HOSTILE: dict[str, Callable[[Path], bytes]] = {
    "mkdir": lambda made: dotted("os", "mkdir", str(made)),
    "eval": lambda made: dotted("builtins", "eval", f"__import__('os').mkdir({str(made)!r})"),
    "getattr": lambda made: dotted("builtins", "getattr", str(made)),
    "hub": lambda made: dotted("torch", "hub.load", str(made)),
    "globals": lambda made: dotted("torch.storage", "_load_from_bytes.__globals__", str(made)),
    "method": lambda made: dotted("collections", "OrderedDict.fromkeys", str(made)),
    "ignored": lambda made: (
        dotted("numpy", "f2py.os.mkdir", str(made))[:-1] + dotted("os", "mkdir", str(made))[2:]
    ),
    "old": lambda made: b"\x80\x02cos\nmkdir\nV" + str(made).encode() + b"\n\x85R.",
    "inst": lambda made: b"\x80\x02(V" + str(made).encode() + b"\nios\nmkdir\n.",
    "persistent": lambda made: b"\x80\x02V" + str(made).encode() + b"\nQ.",
}

#: Pickles that take any amount of memory or of the stack.
GREEDY = [
    b"\x80\x02]r\xff\xff\xff\xff.",
    b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b".",
    b"\x80\x04\x8e" + struct.pack("<Q", 10**12) + b".",
    b"\x80\x05\x96" + struct.pack("<Q", 10**12) + b".",
]

#: Shape and place of a tensor in a header of safetensors that is not so.
CLAIMS = [
    ([10**6, 10**6], [0, 4]),
    ([10**6, 10**6], [0, 4 * 10**12]),
    ([1], [-4, 0]),
    ([1], [4, 0]),
    ([-1], [0, 4]),
    ([2**63, 2**63], [0, 4]),
]


def lie_in_header(
    path: Path, shape: list[int], offsets: list[int], length: int | None = None
) -> None:
    """A safetensors file of one tensor, with a header of a claimed length."""
    entry = {"main.0.weight": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}
    header = json.dumps(entry).encode()
    path.write_bytes(struct.pack("<Q", length or len(header)) + header + bytes(4))


def write_bomb(path: Path, size: int) -> None:
    """An archive of a few bytes that unpacks to `size`."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", bytes(size))


def write_program(path: Path, program: bytes) -> None:
    """A pickle where files of PyTorch have theirs."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w/data.pkl", program)
        archive.writestr("w/version", "3")


def write_legacy_program(path: Path, program: bytes) -> None:
    """A pickle where files of PyTorch before 1.6 have theirs."""
    start = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {})]
    path.write_bytes(b"".join(start) + program)
