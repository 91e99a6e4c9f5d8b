"""Checkpoints name no place, and whoever has the file that a method needs can still load them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from figureground.cli.train import _claim, build_method
from figureground.core.checkpoint import VerifiedCheckpointIO, load_method
from figureground.core.config import to_plain
from figureground.core.errors import CheckpointError
from figureground.generators.dcgan import DCGAN

Compose = Callable[..., DictConfig]


def test_a_generator_is_found_by_the_run_or_beside_the_checkpoint(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    weights = tmp_path / "far/g.pt"
    torch.save(DCGAN(width=1, resolution=16, latent_dim=4).state_dict(), weights)
    config = compose(
        "method=gan_segmenter", "data=latents", "generator=dcgan_faces", "data.resolution=16",
        "generator.width=1", "generator.resolution=16", "generator.latent_dim=4",
        f"generator.weights={weights}",
    )  # fmt: skip
    method = build_method(config)
    checkpoint = {"state_dict": method.state_dict()}
    method.on_save_checkpoint(checkpoint)
    file, run = tmp_path / "run/checkpoints/last.ckpt", tmp_path / "run"
    VerifiedCheckpointIO().save_checkpoint(checkpoint, file)
    assert str(tmp_path).encode() not in file.read_bytes()
    assert method.origin["method"]["generator"]["weights"] == "g.pt"
    with pytest.raises(CheckpointError, match=r"last\.ckpt cannot be rebuilt: .*g\.pt"):
        load_method(file)
    _claim(run, to_plain(config))
    drawn = [
        each.draw_candidates(2, generator=torch.Generator().manual_seed(0)).shifted["dark"]  # type: ignore[operator]
        for each in (method, load_method(file))
    ]
    assert torch.equal(*drawn)
    (run / "config.json").unlink()
    shutil.copy(weights, file.parent)
    assert load_method(file).origin == method.origin


def test_weights_to_begin_with_are_a_name(compose: Compose, tmp_path: Path) -> None:
    weights = tmp_path / "moco.pth"
    config = compose("method=mask_contrast", "data=toy", f"+method.weights={weights}")
    config.method.trunk, config.method.head = "resnet20", "none"
    method = build_method(config)
    assert method.origin["method"]["weights"] == "moco.pth"
    assert str(tmp_path) not in str(method.origin)
    assert method.weights == str(weights)  # This run reads it from where it is.
