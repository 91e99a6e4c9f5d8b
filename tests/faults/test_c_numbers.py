"""Faults of letter C: numbers that are not."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from pytorch_lightning import Callback
from tiny import Run, TinyGAN
from torch import Tensor
from torch.optim import Optimizer

from faults import METHODS, At, assert_same_run, build_tiny
from figureground.callbacks.collapse import CollapseGuard
from figureground.core.errors import NumericalError, exit_code_of
from figureground.core.method import Method
from figureground.core.types import Batch

pytestmark = pytest.mark.filterwarnings(
    "ignore:The '\\w+' does not have many workers",
    "ignore:.*LeafSpec:FutureWarning",
    "ignore:You have overridden `on_before_batch_transfer`",
)


class Moves(Callback):
    """Records which part of the method each batch has moved."""

    def __init__(self) -> None:
        self.moved: list[set[str]] = []

    def on_train_batch_start(self, trainer: Any, pl_module: TinyGAN, *_: Any) -> None:
        self.before = {n: p.detach().clone() for n, p in pl_module.named_parameters()}

    def on_train_batch_end(self, trainer: Any, pl_module: TinyGAN, *_: Any) -> None:
        now = dict(pl_module.named_parameters())
        assert all(p.isfinite().all() for p in now.values())
        changed = {n.split(".")[0] for n, p in self.before.items() if not torch.equal(p, now[n])}
        self.moved.append(changed & {"mask_net", "critic"})


def spoil(monkeypatch: pytest.MonkeyPatch, iterations: set[int]) -> None:
    """Make the first player's loss NaN in these iterations."""
    losses = TinyGAN.losses

    def spoiled(self: TinyGAN, image: torch.Tensor) -> Any:
        adversarial, area = losses(self, image)
        return adversarial * (float("nan") if self.iteration in iterations else 1), area

    monkeypatch.setattr(TinyGAN, "losses", spoiled)


def test_f22_one_nan_skips_one_step_of_one_player(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, {3})
    moves = Moves()
    part = Run(tmp_path, moves, iterations=6).start()
    both = {"mask_net", "critic"}
    assert moves.moved == [both, both, {"critic"}, both, both, both]
    skipped = {
        step: row["train/skipped/mask"]
        for step, row in part.rows.rows
        if "train/skipped/mask" in row
    }
    assert skipped == {2: 1.0}


@pytest.mark.parametrize("method", METHODS)
def test_f22_every_player_of_every_method_skips_a_nan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    descend = Method.descend
    players: list[str] = []
    spoiled: list[str] = []

    def watched(
        self: Method, loss: Tensor, *optimizers: Optimizer, player: str, **more: Any
    ) -> bool:
        if player not in players:
            players.append(player)
        # Each player in turn, one per batch, after a batch that shows who there is.
        if self.iteration > 1 and players.index(player) == self.iteration - 2:
            moved = [p for o in optimizers for group in o.param_groups for p in group["params"]]
            before = [p.detach().clone() for p in moved]
            spoiled.append(player)
            assert not descend(self, loss * float("nan"), *optimizers, player=player, **more)
            assert all(torch.equal(a, b) for a, b in zip(before, moved, strict=True))
            return False
        return descend(self, loss, *optimizers, player=player, **more)

    monkeypatch.setattr(Method, "descend", watched)
    part = Run(tmp_path, iterations=5, make=lambda: build_tiny(method)).start()
    assert spoiled == players
    logged = {key for _, row in part.rows.rows for key in row}
    assert {f"train/skipped/{player}" for player in players} <= logged
    assert all(p.isfinite().all() for p in part.method.parameters())


def test_f23_nan_every_step_ends_with_code_4_and_a_debug_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, set(range(6, 100)))
    part = Run(tmp_path, iterations=20)
    with pytest.raises(NumericalError, match=r"mask's loss.*3 times.*adversarial = nan") as caught:
        part.start()
    assert exit_code_of(caught.value) == 4
    assert all(p.isfinite().all() for p in part.method.parameters())
    debug = torch.load(tmp_path / "debug" / "nan_8.pt", weights_only=True)
    assert debug["iteration"] == 8
    assert debug["keys"] == [[f"7_{i}" for i in range(tiny.BATCH)]]
    assert debug["losses"]["adversarial"] != debug["losses"]["adversarial"]
    assert debug["skipped"] == {"mask": 3, "critic": 0}
    assert torch.load(part.last, weights_only=True)["figureground"]["skipped"].get("mask", 0) == 0


def test_f23_random_state_of_the_debug_file_repeats_the_failing_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from figureground.callbacks.random_state import restore_random_state

    spoil(monkeypatch, set(range(1, 100)))
    drawn: list[torch.Tensor] = []
    training_step = TinyGAN.training_step

    def noted(self: TinyGAN, batch: Batch, batch_idx: int) -> None:
        drawn.append(torch.randn(3))
        training_step(self, batch, batch_idx)

    monkeypatch.setattr(TinyGAN, "training_step", noted)
    with pytest.raises(NumericalError):
        Run(tmp_path).start()
    debug = torch.load(tmp_path / "debug" / "nan_3.pt", weights_only=True)
    restore_random_state(debug["random_state"])
    assert torch.equal(torch.randn(3), drawn[2])


def test_skip_counters_survive_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, set(range(3, 100)))
    part = Run(tmp_path, At("on_train_batch_start", 4, lambda: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        part.start()
    with pytest.raises(NumericalError, match="iteration 5"):
        Run(tmp_path).start(part.last)


class Collapse(Callback):
    """Gives one region everything before each of the first `times` batches."""

    def __init__(self, times: int) -> None:
        self.times = times

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if self.times:
            self.times -= 1
            torch.nn.init.constant_(pl_module.mask_net.head.bias, 50)


def guarded(directory: Path, times: int, *callbacks: Callback, iterations: int = 4) -> Run:
    """A run of ReDO that checks for collapse after every batch."""
    guard = CollapseGuard(min_share=0.01, every=1, seed=5)
    return Run(
        directory,
        Collapse(times),
        guard,
        *callbacks,
        iterations=iterations,
        make=lambda: build_tiny("redo"),
    )


def test_f27_run_stopped_after_a_restart_resumes_exactly(tmp_path: Path) -> None:
    whole = guarded(tmp_path / "whole", 1).start()
    first = guarded(tmp_path / "parts", 1, At("on_train_batch_start", 3, lambda: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        first.start()
    guarded(tmp_path / "parts", 0).start(first.last)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    assert len(whole.method.restarts) == 1


VARIANTS = {
    "constant": (lambda image: torch.full_like(image, 0.3), lambda mask: mask),
    "black": (lambda image: torch.full_like(image, -1), lambda mask: mask),
    "one pixel": (lambda image: image, lambda mask: one_pixel(mask)),
    "empty mask": (lambda image: image, torch.zeros_like),
    "full mask": (lambda image: image, torch.ones_like),
}


def one_pixel(mask: Tensor) -> Tensor:
    mask = torch.zeros_like(mask)
    mask[:, 5, 7] = 1
    return mask


@pytest.mark.parametrize("method", METHODS)
def test_f26_degenerate_pictures_and_masks_stay_finite(tmp_path: Path, method: str) -> None:
    for name, (change_image, change_mask) in VARIANTS.items():
        part = Run(
            tmp_path / name,
            iterations=2,
            validate_every=2,
            make=lambda: build_tiny(method),
        )

        def changed(
            batch: Any, change_image: Any = change_image, change_mask: Any = change_mask
        ) -> Any:
            if isinstance(batch, tuple):
                return tuple(changed(b) for b in batch)
            mask = None if batch.mask is None else change_mask(batch.mask)
            return replace(batch, image=change_image(batch.image), mask=mask)

        part.data.on_after_batch_transfer = lambda batch, _, changed=changed: changed(batch)
        part.start()
        values = {key: value for _, row in part.rows.rows for key, value in row.items()}
        assert not any(key.startswith("train/skipped") and value for key, value in values.items())
        broken = {key: value for key, value in values.items() if not math.isfinite(value)}
        assert not broken, f"{name}: {broken}"
        assert any(key.startswith("val/") for key in values)


@pytest.mark.parametrize("method", METHODS)
def test_f29_bf16_follows_fp32(tmp_path: Path, method: str) -> None:
    assert_bf16_follows_fp32(tmp_path, method)


def assert_bf16_follows_fp32(tmp_path: Path, method: str, *options: str) -> None:
    rows = []
    for precision in ("32-true", "bf16-mixed"):
        part = Run(
            tmp_path / precision,
            iterations=20,
            every=20,
            validate_every=20,
            make=lambda: build_tiny(method, *options),
            precision=precision,
        ).start()
        assert all(p.isfinite().all() for p in part.method.parameters())
        losses = [
            {key: value for key, value in row.items() if key.startswith("train/loss/")}
            for _, row in part.rows.rows
        ]
        assert all(math.isfinite(value) for row in losses for value in row.values())
        rows.append([row for row in losses if row])
    # bf16 keeps 8 bits; the first losses come from equal weights and noise, later ones drift.
    for key, value in rows[0][0].items():
        assert rows[1][0][key] == pytest.approx(value, rel=0.03, abs=0.03), key


# C3-GAN's networks see pictures that are alike but for masks; their cosines are rounded by 0.01 or
# so, of which its temperature of 0.1 makes as much as the tolerance or more, by processor.
@pytest.mark.parametrize("asked", [("c3gan", "method.temperature=1"), ("comgan",)])
def test_other_objectives_of_a_class_follow_fp32_too(
    tmp_path: Path, asked: tuple[str, ...]
) -> None:
    assert_bf16_follows_fp32(tmp_path, *asked)
