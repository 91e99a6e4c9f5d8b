"""`demo`: what the page asks for, without the page's library."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from omegaconf import DictConfig

import figureground.cli.demo as demo_module
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


def answering(explorer: Explorer) -> Explorer:
    return Explorer(explorer.method, answer=RuntimeError)  # As Gradio's own error, takes HTML.


@pytest.mark.parametrize(
    ("numbers", "problem"),
    [
        ((0, 7, 1), "category 7 is none of 1 to 6"),
        ((0, 0, 1), "category 0 is none of 1 to 6"),
        ((0, 1, 4), "background 4 is none of 1 to 3"),
        ((1000, 1, 1), "pose 1000 is none of 0 to 999"),
        ((-1, 1, 1), "pose -1 is none of 0 to 999"),
        ((0, 1.5, 1), "category 1.5 is none of 1 to 6"),
        ((float("nan"), 1, 1), "pose nan is none of 0 to 999"),
        ((float("inf"), 1, 1), "pose inf is none of 0 to 999"),
        ((None, 1, 1), "pose None is none of 0 to 999"),
        ((0, "<b>\n", 1), r"category &lt;b&gt;\n is none of 1 to 6"),
    ],
)
def test_the_page_answers_wrong_numbers(
    explorer: Explorer, numbers: tuple[Any, ...], problem: str
) -> None:
    with pytest.raises(RuntimeError) as caught:
        answering(explorer).draw(*numbers)
    assert str(caught.value) == problem
    with pytest.raises(UserError):  # Without a page it is an error as any.
        explorer.draw(*numbers)


def test_the_page_answers_broken_files_in_short(explorer: Explorer, tmp_path: Path) -> None:
    page, file = answering(explorer), tmp_path / "<i>\x1b.png"
    file.write_bytes(b"no picture")
    for given, problem in (
        (str(file), r"&lt;i&gt;\x1b.png is not a readable picture (UnidentifiedImageError)"),
        (str(tmp_path / "gone.png"), "gone.png is not a file; give an existing picture"),
        (None, "there is no picture to sort; choose a file"),
    ):
        with pytest.raises(RuntimeError) as caught:
            page.sort(given)
        assert str(caught.value) == problem
    picture(0, (40, 24)).save(tmp_path / "good.png")
    assert page.sort(str(tmp_path / "good.png"))[0] == explorer.sort(tmp_path / "good.png")[0]


def test_what_nobody_foresaw_is_told_in_the_terminal_alone(
    explorer: Explorer, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(
        RuntimeError, match="^this did not work; the terminal of the demo says why$"
    ):
        answering(explorer).sort(np.zeros((2, 2), np.float32))  # type: ignore[arg-type]
    assert "expected uint8" in caplog.text


def test_the_page_takes_bounded_files_and_forgets_them(explorer: Explorer) -> None:
    gradio = MagicMock()
    build_page(gradio, explorer)
    often, old = gradio.Blocks.call_args.kwargs["delete_cache"]
    assert 0 < often <= old <= 3600
    # Our reader decodes the file; Gradio's takes formats that run programs.
    given = gradio.Image.call_args.kwargs
    assert (given["type"], given["image_mode"]) == ("filepath", None)


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
    assert (given["max_file_size"], given["show_error"]) == ("20mb", False)
    assert page.close.call_count == 1


@pytest.mark.parametrize(
    ("host", "is_local"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("localhost", True), ("::1", True),
     ("0.0.0.0", False), ("::", False), ("192.168.0.7", False), ("example", False), ("", False)],
)  # fmt: skip
def test_a_host_for_the_network_is_warned_of(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    explorer: Explorer, host: str, is_local: bool,
) -> None:  # fmt: skip
    gradio = MagicMock()
    monkeypatch.setitem(sys.modules, "gradio", gradio)
    monkeypatch.setattr(demo_module, "_require_port", lambda *_: None)
    monkeypatch.setattr(demo_module, "load", lambda *_: explorer.method)
    page = gradio.Blocks.return_value.__enter__.return_value
    page.launch.side_effect = lambda **_: os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(StoppedBySignalError):
        demo(compose("ckpt=a", f"host='{host}'", config_name="demo"))
    told = [each for each in caplog.messages if "asks for no password" in each]
    assert told == ([] if is_local else [told[0]])
    assert all(f"host={host}:" in each for each in told)


def test_a_port_in_use_is_one_line(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", MagicMock())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port={port} cannot be used .*choose another port"):
            demo(compose("ckpt=nowhere", f"port={port}", config_name="demo"))
