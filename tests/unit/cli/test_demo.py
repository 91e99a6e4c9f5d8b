"""`demo`: what the page asks for, without the page's library."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from omegaconf import DictConfig

from archives import picture
from faults import build_tiny
from figureground.cli.demo import Explorer, Parts, build_page, demo
from figureground.cli.generate import generate
from figureground.core.checkpoint import VerifiedCheckpointIO
from figureground.core.errors import ConfigError, StoppedBySignalError, UserError
from figureground.methods.l2ic import L2IC

Compose = Callable[..., DictConfig]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def explorer() -> Explorer:
    torch.manual_seed(0)
    method = L2IC(
        resolution=16, batch_size=4, num_categories=6, num_backgrounds=3, latent_dim=5,
        generator_width=8, discriminator_width=4, num_blocks=(0, 0, 0),
    )  # fmt: skip
    return Explorer(method.eval())


def test_a_picture_is_drawn_of_chosen_codes(explorer: Explorer) -> None:
    one, other = explorer.draw(3, 2, 1), explorer.draw(3, 2, 3)
    assert {part.shape for part in one} == {(256, 256, 3)}  # Small ones could not be seen.
    small = one.picture[::16, ::16]
    assert np.array_equal(one.picture, small.repeat(16, axis=0).repeat(16, axis=1))
    assert np.array_equal(one.mask, other.mask)
    assert np.array_equal(one.foreground, other.foreground)
    assert not np.array_equal(one.background, other.background)
    assert not np.array_equal(one.picture, explorer.draw(4, 2, 1).picture)
    share = one.mask.astype(float) / 255
    mixed = share * one.foreground + (1 - share) * one.background
    assert np.abs(mixed - one.picture).max() < 3
    assert all(np.array_equal(*pair) for pair in zip(one, explorer.draw(3, 2, 1), strict=True))
    with pytest.raises(UserError, match="category 7 is none of 1 to 6"):
        explorer.draw(0, 7, 1)


def test_a_picture_is_sorted_and_others_of_its_category_shown(explorer: Explorer) -> None:
    category, others = explorer.sort(np.asarray(picture(0, (40, 24))))
    assert 1 <= category <= 6
    assert len(others) == 8
    assert [explorer.follow(number) for number in range(1, 7)] == [1, 1, 2, 2, 3, 3]


def test_the_page_asks_the_explorer(explorer: Explorer) -> None:
    gradio = MagicMock()
    page = build_page(gradio, explorer)
    assert gradio.Blocks.call_args.kwargs["analytics_enabled"] is False
    assert page.load.call_args.args == (explorer.draw,)
    assert len(page.load.call_args.kwargs["outputs"]) == len(Parts._fields)
    ends = [call.args[:2] for call in gradio.Slider.call_args_list]
    assert ends == [(0, 999), (1, 6), (1, 3)]
    assert gradio.Slider.return_value.change.call_count == 3
    for call in (*gradio.Image.call_args_list[:4], *gradio.Gallery.call_args_list):
        assert call.kwargs["format"] == "png"
        assert "share" not in call.kwargs["buttons"]
    assert gradio.Image.return_value.upload.call_args.args == (explorer.sort,)


def test_methods_without_codes_and_a_missing_library_are_one_line(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="object draws from no codes that could be set by hand"):
        Explorer(object())
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match=r"gradio is not installed.*figureground\[demo\]"):
        demo(compose("ckpt=nowhere", config_name="demo"))
    with pytest.raises(ConfigError, match="port"):
        demo(compose("ckpt=nowhere", "port=0", config_name="demo"))


def test_commands_draw_of_a_checkpoint(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    method = build_tiny("l2ic")[0]
    checkpoint = {"state_dict": method.state_dict()}
    method.on_save_checkpoint(checkpoint)
    file = tmp_path / "l2ic.ckpt"
    VerifiedCheckpointIO().save_checkpoint(checkpoint, file)
    photo = tmp_path / "bird.png"
    picture(0, (40, 24)).save(photo)
    options = ("vary=c", "fixed=[z,b]", f"transfer={photo}", "backgrounds=[1,2]", "rows=2")
    generate(compose(f"ckpt={file}", *options, f"output={tmp_path}/a", config_name="generate"))
    for name in ("vary_c.png", "transfer.png", "transfer.json"):
        assert (tmp_path / "a" / name).stat().st_size > 0
    gradio = MagicMock()
    monkeypatch.setitem(sys.modules, "gradio", gradio)
    page = gradio.Blocks.return_value.__enter__.return_value
    page.launch.side_effect = lambda **_: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(StoppedBySignalError, match="SIGTERM"):
        demo(compose(f"ckpt={file}", f"port={free_port()}", config_name="demo"))
    given = page.launch.call_args.kwargs
    assert (given["server_name"], given["share"]) == ("127.0.0.1", False)
    assert page.close.call_count == 1


def test_a_port_in_use_is_one_line(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", MagicMock())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port={port} cannot be used .*choose another port"):
            demo(compose("ckpt=nowhere", f"port={port}", config_name="demo"))
