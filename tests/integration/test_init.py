"""`train init=FILE` starts a new run from the weights of a checkpoint and nothing else of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig
from pytorch_lightning import Trainer
from torch.testing import assert_close

from faults import build_tiny, tiny_overrides
from figureground.cli.settings import TrainSettings
from figureground.cli.train import train
from figureground.core.checkpoint import VerifiedCheckpointIO
from figureground.core.config import check
from figureground.core.errors import CheckpointError
from figureground.core.method import Method

Compose = Callable[..., DictConfig]
SMALL = ("data.resolution=16", "method.channel_base=64")


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Method, Path]:
    """A method that has been trained, and its checkpoint."""
    method, _ = build_tiny("ilsgan", *SMALL)
    for parameter in method.parameters():
        parameter.data.add_(0.5)
    method.restarts = [{"iteration": 7}]
    checkpoint: dict[str, Any] = {"state_dict": method.state_dict(), "epoch": 3, "global_step": 9}
    method.on_save_checkpoint(checkpoint)
    VerifiedCheckpointIO().save_checkpoint(checkpoint, tmp_path / "first.ckpt")
    return method, tmp_path / "first.ckpt"


def start(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, *overrides: str
) -> tuple[Method, str | None]:
    """What `train` would fit, and the checkpoint that it would go on with."""
    found: list[Any] = []

    def fit(self: Trainer, method: Method, data: Any, ckpt_path: str | None, **_: Any) -> None:
        found.extend([method, ckpt_path])

    monkeypatch.setattr(Trainer, "fit", fit)
    monkeypatch.chdir(compose().paths.output_dir.rpartition("/")[0])
    train(compose(*tiny_overrides("ilsgan"), *SMALL, "test=false", "objective=null", *overrides))
    return found[0], found[1]


def test_weights_are_taken_over_and_counters_are_not(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, saved: tuple[Method, Path]
) -> None:
    before, path = saved
    method, ckpt = start(compose, monkeypatch, f"init={path}")
    assert ckpt is None
    assert method.restarts == []
    assert_close(method.state_dict(), before.state_dict(), rtol=0, atol=0)


def test_what_does_not_fit_is_named(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, saved: tuple[Method, Path]
) -> None:
    with pytest.raises(CheckpointError, match=r"does not fit .*fc2.weight is missing") as caught:
        start(compose, monkeypatch, f"init={saved[1]}", "method.mapping_depth=3")
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(", here 3")
    assert "; its options: " in str(caught.value)
    assert "mapping_depth=" in str(caught.value)


def test_missing_file_is_named(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="gone.ckpt is not a file"):
        start(compose, monkeypatch, "init=gone.ckpt")


def test_it_does_not_go_with_another_checkpoint(compose: Compose) -> None:
    (problem,) = check(compose("ckpt=a.ckpt", "init=b.ckpt"), TrainSettings)
    assert "ckpt=a.ckpt and init=b.ckpt both say what to start from" in problem
    assert check(compose("ckpt=last", "init=b.ckpt"), TrainSettings) == []


def test_weights_alone_are_no_run_to_go_on_with(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, saved: tuple[Method, Path]
) -> None:
    monkeypatch.chdir(compose().paths.output_dir.rpartition("/")[0])
    small = (*tiny_overrides("ilsgan"), *SMALL, "test=false", "objective=null")
    with pytest.raises(CheckpointError, match=r"first.ckpt has weights but no .* init=") as caught:
        train(compose(*small, f"ckpt={saved[1]}"))
    assert "\n" not in str(caught.value)
