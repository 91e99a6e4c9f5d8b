"""`generate` of a method with noise: equal files however they are written, or none at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from faults import build_tiny
from figureground.cli.generate import generate
from figureground.core.checkpoint import VerifiedCheckpointIO
from figureground.core.errors import ConfigError, UserError
from figureground.data.shards import ShardReader

Compose = Callable[..., DictConfig]


@pytest.fixture
def write(compose: Compose, tmp_path: Path) -> Callable[..., Path]:
    """Call `generate` with a tiny method; return the folder."""

    def call(name: str, folder: str, *more: str) -> Path:
        file = tmp_path / f"{name}.ckpt"
        if not file.exists():
            torch.manual_seed(0)
            method, _ = build_tiny(name)
            for key, value in method.state_dict().items():
                if key.endswith("noise_strength"):
                    value.fill_(0.5)
            checkpoint = {"state_dict": method.state_dict()}
            method.on_save_checkpoint(checkpoint)
            VerifiedCheckpointIO().save_checkpoint(checkpoint, file)
        options = [f"ckpt={file}", f"output={tmp_path / folder}", "device=cpu", *more]
        generate(compose(*options, config_name="generate"))
        return tmp_path / folder

    return call


def test_files_are_equal_whatever_they_are_written_in(write: Callable[..., Path]) -> None:
    few, many = (
        ShardReader(write("ilsgan", f"by{size}", "count=20", "format=shards", f"shard_size={size}"))
        for size in (7, 20)
    )
    for index in range(20):
        for part in ("image", "mask", "layers"):
            assert few.read(index, part).tobytes() == many.read(index, part).tobytes()
    folder = write("ilsgan", "png", "count=18")
    names = ("images/000003.png", "images/000017.png", "layers/000017_1.png")
    before = {name: (folder / name).read_bytes() for name in names}
    for name in names[:2]:
        (folder / name).unlink()
    write("ilsgan", "png", "count=18")
    assert before == {name: (folder / name).read_bytes() for name in names}


def test_noise_and_truncation_are_options(write: Callable[..., Path]) -> None:
    def first(folder: str, *more: str) -> bytes:
        return (write("ilsgan", folder, "count=1", *more) / "images/000000.png").read_bytes()

    found = [first("const"), first("none", "noise=none"), first("near", "truncation=0.1")]
    found.append(first("random", "noise=random"))
    assert len(set(found)) == 4
    assert first("again", "noise=random") == found[-1]
    with pytest.raises(UserError, match="samples of other options"):
        write("ilsgan", "random", "count=1")


def test_what_is_refused_leaves_nothing_behind(
    write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="ReDO draws without a mean picture"):
        write("redo", "out", "count=2", "noise=none")
    with pytest.raises(ConfigError, match="truncation=1.5"):
        write("redo", "out", "count=2", "truncation=1.5")
    drawer = type(build_tiny("redo")[0])

    def refuse(*_: object, **__: object) -> None:
        raise UserError("no")

    monkeypatch.setattr(drawer, "sample", refuse)
    for kind in ("png", "shards"):
        with pytest.raises(UserError, match="^no$"):
            write("redo", "out", "count=2", f"format={kind}")
    assert not (tmp_path / "out").exists()
