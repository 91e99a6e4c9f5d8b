"""Faults of letter C for every method."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from short import short
from tiny import Run
from torch import Tensor
from torch.optim import Optimizer

from faults import METHODS, assert_same_checkpoint
from figureground.callbacks.collapse import CollapseGuard, HasMaskStatistics
from figureground.core.checkpoint import iteration_of, read_checkpoint
from figureground.core.errors import DataError, NumericalError, exit_code_of
from figureground.core.method import Method
from figureground.data import batching

Finished = Callable[[str], Run]


@pytest.mark.parametrize("method", METHODS)
def test_f23_nan_every_step_ends_with_code_4_and_a_debug_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    descend, log_losses = Method.descend, Method.log_losses

    def spoiled(self: Method, loss: Tensor, *rest: Optimizer, **more: Any) -> bool:
        return descend(self, loss * (torch.nan if self.iteration > 1 else 1), *rest, **more)

    def noted(self: Method, losses: dict[str, Tensor]) -> None:
        spoils = torch.nan if self.iteration > 1 else 1
        log_losses(self, {name: value * spoils for name, value in losses.items()})

    monkeypatch.setattr(Method, "descend", spoiled)
    monkeypatch.setattr(Method, "log_losses", noted)
    part = short(tmp_path, method, iterations=20, every=1, validate_every=100)
    found = r"'s loss or gradient was not finite 3 times in a row \(iteration 4; .* = nan"
    with pytest.raises(NumericalError, match=found) as caught:
        part.start()
    assert exit_code_of(caught.value) == 4
    assert all(p.isfinite().all() for p in part.method.parameters())
    debug = torch.load(tmp_path / "debug/nan_4.pt", weights_only=True)
    assert debug["iteration"] == 4
    assert len(debug["keys"]) == part.method.num_streams
    assert debug["losses"]
    assert all(value != value for value in debug["losses"].values())
    assert max(debug["skipped"].values()) == 3


@pytest.mark.parametrize("method", METHODS)
def test_f24_infinite_gradients_of_finite_losses_are_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    descend = Method.descend
    players: list[str] = []

    def watched(
        self: Method, loss: Tensor, *optimizers: Optimizer, player: str, **more: Any
    ) -> bool:
        if self.iteration != 2:
            return descend(self, loss, *optimizers, player=player, **more)
        players.append(player)
        moved = [p for o in optimizers for group in o.param_groups for p in group["params"]]
        before = [p.detach().clone() for p in moved]
        # One number is enough.
        hook = moved[0].register_hook(lambda gradient: gradient.index_fill(0, _FIRST, torch.inf))
        assert loss.isfinite()
        stepped = descend(self, loss, *optimizers, player=player, **more)
        hook.remove()
        assert not stepped
        assert all(torch.equal(a, b) for a, b in zip(before, moved, strict=True))
        return stepped

    monkeypatch.setattr(Method, "descend", watched)
    part = short(tmp_path, method, iterations=3, validate_every=100).start()
    skipped = [(s, k) for s, row in part.rows.rows for k in row if k.startswith("train/skipped/")]
    assert skipped == [(1, f"train/skipped/{player}") for player in players]
    assert players
    assert iteration_of(read_checkpoint(part.last)) == 3
    assert all(p.isfinite().all() for p in part.method.parameters())


_FIRST = torch.tensor([0])


@pytest.mark.parametrize("method", METHODS)
def test_f25_nan_pixel_ends_with_code_3_and_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    to_float = batching.to_float
    part = short(tmp_path, method, every=1, validate_every=100)

    def broken(images: Any) -> Tensor:
        image = to_float(images)
        if part.trainer.fit_loop.total_batch_idx >= 0:  # Whatever comes after the first batch.
            image[1, 0, 3, 3] = torch.nan
        return image

    monkeypatch.setattr(batching, "to_float", broken)
    with pytest.raises(DataError, match=r"non-finite pixels: [\w, -]+$") as caught:
        part.start()
    assert exit_code_of(caught.value) == 3
    named = str(caught.value).partition(": ")[2].split(", ")
    assert set(named) <= set(part.data.store("train").keys)
    assert len(named) == 1
    assert iteration_of(read_checkpoint(part.last)) in (1, 2)  # Loaders are a batch ahead.


@pytest.mark.parametrize("method", METHODS)
def test_f27_collapse_restarts_methods_with_masks_and_leaves_others_alone(
    tmp_path: Path, finished: Finished, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    times = 2

    def collapse(guard: CollapseGuard, *_: Any) -> str | None:
        nonlocal times
        times -= 1
        return "masks collapsed: injected" if times >= 0 else None

    monkeypatch.setattr(CollapseGuard, "_find_collapse", collapse)
    part = short(tmp_path / "twice", method, CollapseGuard(min_share=0.9, every=1, seed=5)).start()
    if not isinstance(part.method, HasMaskStatistics):
        assert times == 2
        assert part.method.restarts == []
        assert_same_checkpoint(part.last, finished(method).last)
        return
    assert [(r["iteration"], r["seed"]) for r in part.method.restarts] == [(1, 1005), (2, 2005)]
    # Counted anew after each restart: two batches lost, four trained on.
    assert part.trainer.fit_loop.total_batch_idx + 1 == 6
    saved = read_checkpoint(part.last)["figureground"]["restarts"]
    assert [record["attempt"] for record in saved] == [1, 2]
    times = 100
    part = short(tmp_path / "always", method, CollapseGuard(min_share=0.9, every=1, seed=5))
    with pytest.raises(NumericalError, match="after 3 restarts; change the seed") as caught:
        part.start()
    assert exit_code_of(caught.value) == 4
    assert len(part.method.restarts) == 3
    assert all(p.isfinite().all() for p in part.method.parameters())
