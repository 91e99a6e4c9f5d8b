"""Files that users of gan_segmenter get from others: directions, U-Nets, latents, checkpoints."""

from __future__ import annotations

import json
import logging
import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from crafted import (
    CLAIMS,
    GREEDY,
    HOSTILE,
    Payload,
    empty,
    lie_in_header,
    randomise,
    truncate,
    write_bomb,
    write_legacy_program,
    write_program,
)

from containers import CONTAINERS, SMALL
from faults import build_tiny
from figureground import load_generator
from figureground.core import released
from figureground.core.checkpoint import VerifiedCheckpointIO
from figureground.core.errors import FiguregroundError
from figureground.generators.biggan import BigGANDeep
from figureground.generators.dcgan import DCGAN
from figureground.methods.gan_segmenter import GANSegmenter
from figureground.methods.gan_segmenter.convert import convert_checkpoint as read_direction
from figureground.methods.gan_segmenter.latents import LatentSource
from figureground.methods.segmenter.convert import convert_checkpoint as read_unet
from figureground.methods.segmenter.convert import name_table
from figureground.nn.unet import UNet

Read = Callable[[Path], Any]
Pack = Callable[[], dict[str, Any]]


def pack_direction() -> dict[str, Any]:
    return {"state_dict": {"d": torch.ones(1, 16)}, "iteration": 300}


def pack_unet() -> dict[str, Any]:
    state = UNet(widths=(2,) * 5).state_dict()
    return {"state_dict": {f"net.{k}": state[v] for k, v in name_table("gan_segmenter").items()}}


READERS: list[tuple[Read, Pack]] = [(read_direction, pack_direction), (read_unet, pack_unet)]
EVERY = pytest.mark.parametrize(("read", "pack"), READERS, ids=["direction", "unet"])


def refuse(read: Read, path: Path, match: str | None = None, code: int = 2) -> None:
    """It ends in one line, and with an exit code that says whose fault it is."""
    with pytest.raises(FiguregroundError, match=match) as caught:
        read(path)
    assert caught.value.exit_code == code
    assert "\n" not in str(caught.value)


@EVERY
def test_f51_f53_damage_and_programs_are_refused(read: Read, pack: Pack, tmp_path: Path) -> None:
    path, made = tmp_path / "latest.pth", tmp_path / "made"
    for is_new in (True, False):
        torch.save(pack(), path, _use_new_zipfile_serialization=is_new)
        assert read(path).state_dict
        for damage in (truncate, randomise, empty):
            damage(path)
            refuse(read, path, r"latest\.pth")
        hostile = {**pack(), "cfg": Payload(made)}
        torch.save(hostile, path, _use_new_zipfile_serialization=is_new)
        refuse(read, path, "mkdir.*nothing in it was run")
    for make in HOSTILE.values():
        for place in (Path.write_bytes, write_program, write_legacy_program):
            place(path, make(made))
            refuse(read, path, "nothing in it was run")
    assert not made.exists()


@EVERY
def test_f54_files_of_generators_are_not_taken(read: Read, pack: Pack, tmp_path: Path) -> None:
    del pack
    for container in CONTAINERS[::2]:
        if container.write.__name__ != "write_pickle":
            container.write(tmp_path / "w.pth", container.pack())
            refuse(read, tmp_path / "w.pth", "expected a direction|not a U-Net")


@EVERY
def test_f57_bombs_and_claims_are_refused(
    read: Read, pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(released, "_MOST_UNPACKED", 2**20)
    path = tmp_path / "latest.pth"
    write_bomb(path, 2**21)
    refuse(read, path, "claims to unpack to")
    content = pack()
    state = content["state_dict"]
    state[next(iter(state))] = torch.zeros(1).expand(10**6, 10**6)
    torch.save(content, path)
    refuse(read, path, "claims 1000000000000 elements")
    for shape, offsets in CLAIMS:
        lie_in_header(path, shape, offsets)
        refuse(read, path, "nothing in it was run")
    for program in GREEDY:
        for place in (Path.write_bytes, write_program, write_legacy_program):
            place(path, program)
            refuse(read, path)


def write_npy(path: Path, shape: object, dtype: str = "<f4", data: bytes = bytes(64)) -> None:
    """A .npy file of any claims."""
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}}}".encode()
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data)


def test_f51_f57_files_of_latents_hold_numbers_and_no_more_than_they_are_long(
    tmp_path: Path,
) -> None:
    path, made = tmp_path / "zs.npy", tmp_path / "made"

    def read(path: Path) -> LatentSource:
        return LatentSource(str(path))

    write_npy(path, (4, 4))
    stored = read(path).stored
    assert stored is not None
    assert stored.shape == (4, 4)
    for damage in (truncate, randomise, empty):
        damage(path)
        refuse(read, path, r"zs\.npy", 3)
        write_npy(path, (4, 4))
    for shape in ((10**6, 10**6), (2**63, 2**63), (2**31, 2**31, 4), (-1, 4), (0, 4), "(4,", "x()"):
        write_npy(path, shape)
        refuse(read, path, r"zs\.npy", 3)
    for dtype in ("|O", "<U4", "|S0", "|V4", "[('a','<f4')]", "nonsense"):
        write_npy(path, (10**12,) if dtype == "|S0" else (4, 4), dtype)
        refuse(read, path, r"zs\.npy", 3)
    np.save(path, np.array([[Payload(made)]], dtype=object), allow_pickle=True)
    refuse(read, path, r"zs\.npy", 3)
    np.savez(tmp_path / "zs.npz", np.zeros((4, 4)))
    refuse(read, tmp_path / "zs.npz", "an archive of arrays", 3)
    for make in HOSTILE.values():
        path.write_bytes(make(made))
        refuse(read, path, r"zs\.npy", 3)
    assert not made.exists()


@pytest.fixture(scope="module")
def checkpoint() -> dict[str, Any]:
    """Of a method that draws from latents."""
    method = build_tiny("gan")[0]
    content: dict[str, Any] = {"state_dict": method.state_dict()}
    method.on_save_checkpoint(content)
    return content


def test_f51_f53_f54_checkpoints_as_generators_are_read_as_carefully(
    checkpoint: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, made = tmp_path / "last.ckpt", tmp_path / "made"
    VerifiedCheckpointIO().save_checkpoint(checkpoint, path)
    assert load_generator(path).latent(1)
    path.with_name("last.ckpt.json").unlink()
    for damage in (truncate, randomise, empty):
        torch.save(checkpoint, path)
        damage(path)
        refuse(load_generator, path, r"last\.ckpt")
    torch.save({**checkpoint, "callbacks": Payload(made)}, path)
    refuse(load_generator, path, "mkdir.*nothing in it was run")
    for make in HOSTILE.values():
        for place in (write_program, write_legacy_program):
            place(path, make(made))
            refuse(load_generator, path, "damaged|nothing in it was run")
    assert not made.exists()
    monkeypatch.setattr(released, "_MOST_UNPACKED", 2**20)
    write_bomb(path, 2**21)
    refuse(load_generator, path, "damaged|nothing in it was run")
    for shape, offsets in CLAIMS:
        lie_in_header(path, shape, offsets)
        refuse(load_generator, path, r"last\.ckpt")
    torch.save(pack_unet(), path)
    refuse(load_generator, path, "not a checkpoint of this suite|convert")


@pytest.mark.parametrize("name", ["latent_dim", "style_width", "max_width"])
def test_f57_options_in_checkpoints_allocate_nothing_that_is_not_there(
    checkpoint: dict[str, Any], tmp_path: Path, name: str
) -> None:
    section = json.loads(json.dumps(checkpoint["figureground"]))
    assert name in section["method"]
    for value in (20_000, 10**9, 2**62):
        section["method"] |= {name: value, "channel_base": 64 * value}
        torch.save({**checkpoint, "figureground": section}, tmp_path / "last.ckpt")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        refuse(load_generator, tmp_path / "last.ckpt", r"last\.ckpt")
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


def test_steps_longer_than_truncated_latents_are_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    network = BigGANDeep(**SMALL[BigGANDeep])
    GANSegmenter(generator=network)
    assert "method.step=5 is longer than latents of BigGAN-deep at truncation=0.4" in caplog.text
    caplog.clear()
    GANSegmenter(generator=network, step=0.1)
    network.truncation = 1.0
    GANSegmenter(generator=network)
    GANSegmenter(generator=DCGAN(**SMALL[DCGAN]))
    assert "method.step" not in caplog.text
