"""Networks that stand in a file may not be far larger than it, and files that they name count."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from figureground.core import budget
from figureground.core.budget import allocation_budget
from figureground.core.errors import CheckpointError

Put = Callable[[str, bytes], Path]


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Write 8000 bytes; without them almost nothing may be allocated."""
    monkeypatch.setattr(budget, "_SPARE", 0)
    (tmp_path / "own.ckpt").write_bytes(bytes(16))

    def write(name: str, head: bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(head.ljust(8000, b"\0"))
        return path

    return write


def build(folder: Path, weights: Path) -> None:
    """A network of 8000 bytes, whose options name `weights`."""
    with allocation_budget(folder / "own.ckpt", {"generator": [{"weights": str(weights)}]}):
        torch.empty(20, 100)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("a.pth", "a.pth"),
        ("studiogan/model=G-best-weights-step=9.pth", "studiogan"),
        ("run/checkpoints/last.ckpt", "run"),
    ],
)
@pytest.mark.parametrize("head", [b"PK\x03\x04", b"\x80\x02", b"\x40".ljust(8, b"\0") + b"{"])
def test_named_weights_count(tmp_path: Path, put: Put, head: bytes, name: str, given: str) -> None:
    put(name, head)
    build(tmp_path, tmp_path / given)


def test_other_files_do_not_count(tmp_path: Path, put: Put) -> None:
    for path in (put("memory", b"\x7fELF"), tmp_path / "nowhere.pth", tmp_path / ("x" * 5000)):
        with pytest.raises(CheckpointError, match="far larger than the file"):
            build(tmp_path, path)
