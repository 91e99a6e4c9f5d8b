"""Steps down a scaled loss are those down the loss itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins import MixedPrecision
from tiny import Run
from torch import Tensor
from torch.testing import assert_close

from faults import build_tiny
from figureground.core.checkpoint import VerifiedCheckpointIO


class Scaled(MixedPrecision):
    """A scaler without half precision, so that powers of two change no digit."""

    def __init__(self, scale: float) -> None:
        super().__init__("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale))

    @contextmanager
    def forward_context(self) -> Iterator[None]:
        yield


def make_run(folder: Path, iterations: int, *plugins: Any) -> Run:
    return Run(folder, iterations=iterations, every=9, validate_every=9,
               make=lambda: build_tiny("dti_sprites"),
               plugins=[VerifiedCheckpointIO(), *plugins])  # fmt: skip


def weights(part: Run) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in part.method.named_parameters()}


def test_scaled_steps_equal_plain_ones(tmp_path: Path) -> None:
    plain = make_run(tmp_path / "plain", 2).start()
    scaled = make_run(tmp_path / "scaled", 2, Scaled(2.0**10)).start()
    assert plain.method.visits > 1  # type: ignore[operator]  # Of the encoder.
    assert_close(weights(scaled), weights(plain), rtol=0, atol=0)
    assert plain.trainer.global_step == scaled.trainer.global_step


def test_overflow_lowers_the_scale_once_and_moves_nothing(tmp_path: Path) -> None:
    plugin = Scaled(2.0**10)
    part = make_run(tmp_path, 1, plugin)
    # Of the last optimizer alone, which steps more than once.
    first: Any = next(part.method.model.encoder.parameters())  # type: ignore[operator, union-attr]
    first.register_hook(lambda gradient: gradient * torch.inf)
    before = weights(part)
    part.start()
    assert_close(weights(part), before, rtol=0, atol=0)
    assert plugin.scaler is not None
    assert plugin.scaler.get_scale() == 2.0**9
    assert sum(part.method.skipped.values()) == 0
