"""Masks of L2IC that take nothing: the guard says so, starts anew, and the recipe goes on."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from faults import tiny_overrides
from figureground.cli.train import train
from figureground.core.checkpoint import load_method, read_checkpoint
from figureground.core.errors import NumericalError
from figureground.methods.l2ic import L2IC

Compose = Callable[..., DictConfig]
#: The recipe of `toy` with small networks: six batches, masks looked at after every third.
SHORT = [
    *tiny_overrides("l2ic"), "trainer.accelerator=cpu", "seed=4", "iterations=6",
    "callbacks.collapse.every=3", "trainer.val_check_interval=3", "callbacks.image_grid.every=3",
]  # fmt: skip


@torch.no_grad()
def take_nothing(method: L2IC) -> None:
    """Weights whose masks are nought everywhere, with a gradient of nought: the trivial end."""
    mask = method.generator.mask
    mask.leave.norm.bias.fill_(10)
    mask.head[0].weight.fill_(-1)


def weight_of(generator: torch.nn.Module) -> torch.Tensor:
    """One of its weights, which is drawn at random."""
    return generator.get_parameter("trunk.start.linear.weight").detach().clone()


def collapse_at(monkeypatch: pytest.MonkeyPatch, *starts: int) -> list[torch.Tensor]:
    """Spoil masks in the attempts `starts`, 0 is the first; collects a weight each begins with."""
    begun: list[torch.Tensor] = []
    start = L2IC.on_train_batch_start

    def started(method: L2IC, *arguments: object) -> None:
        if len(begun) == len(method.restarts):
            begun.append(weight_of(method.generator))
            if len(method.restarts) in starts:
                take_nothing(method)
        start(method, *arguments)

    monkeypatch.setattr(L2IC, "on_train_batch_start", started)
    return begun


def test_collapsed_masks_start_anew_and_the_run_says_so(
    compose: Compose,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun = collapse_at(monkeypatch, 0)
    with caplog.at_level(logging.WARNING, logger="figureground.callbacks.collapse"):
        train(compose(*SHORT))
    (warning,) = [r.getMessage() for r in caplog.records if "collapse" in r.name]
    assert "a region's mean area is 0.0" in warning
    assert "(at least 0.1 expected) at iteration 3; restarting with seed 1004 (1 of" in warning
    assert not torch.equal(*begun)

    run = tmp_path / "run"
    facts = json.loads((run / "metrics.json").read_text())
    # Three batches were lost; the recipe's six came after, and its test.
    assert (facts["status"], facts["restarts"], facts["iterations"]) == ("finished", 1, 9)
    assert 0.02 < facts["test/mask/area"] < 0.98
    assert facts["test/mask/trivial"] == 0
    assert "test/acc" in facts
    assert "- Restart 1 at batch 3 with seed 1004: masks collapsed" in (run / "card.md").read_text()
    # What this logger has, W&B has, too.
    rows = list(csv.DictReader((run / "csv/metrics.csv").open()))
    assert [row["step"] for row in rows if row["train/restarts"] == "1.0"] == ["2"]
    last = run / "checkpoints/last.ckpt"
    assert [r["seed"] for r in read_checkpoint(last)["figureground"]["restarts"]] == [1004]
    method = load_method(last)
    assert isinstance(method, L2IC)
    assert method.ema is not None
    area = method.sample(8, generator=torch.Generator().manual_seed(0)).foreground.mean()
    assert 0.02 < area < 0.98
    torch.manual_seed(1004)
    assert torch.equal(begun[1], weight_of(method._networks["generator"]()))


def test_masks_that_collapse_again_and_again_end_the_run(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = collapse_at(monkeypatch, 0, 1, 2, 3)
    with pytest.raises(NumericalError, match="after 3 restarts; change the seed"):
        train(compose(*SHORT))
    assert len(begun) == 4
    assert len({tuple(weight.flatten()[:4].tolist()) for weight in begun}) == 4
    text = (tmp_path / "run/card.md").read_text()
    for n in (1, 2, 3):
        assert f"- Restart {n} at batch {3 * n} with seed {1000 * n + 4}: masks collapsed" in text
