"""Callbacks and loggers on their own."""

from __future__ import annotations

import csv
import logging
import sys
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from figureground.callbacks.collapse import CollapseGuard
from figureground.callbacks.loggers import CsvLogger, make_tensorboard
from figureground.callbacks.progress import Progress
from figureground.callbacks.throughput import Throughput, peak_memory_mb
from figureground.core.errors import NumericalError
from figureground.methods.redo import ReDO


def method() -> ReDO:
    return ReDO(
        resolution=32, latent_dim=4, mask_width=8, mask_blocks=1, generator_width=4,
        discriminator_width=4, encoder_width=4,
    )  # fmt: skip


def fake_trainer(redo: ReDO, batches: int) -> Any:
    trainer = SimpleNamespace(
        should_stop=False, optimizers=redo.configure_optimizers(), is_global_zero=True,
        strategy=SimpleNamespace(reduce=lambda values, reduce_op: values), world_size=1,
        global_rank=0, checkpoint_callbacks=[], loggers=[],
        fit_loop=SimpleNamespace(total_batch_idx=batches - 1), callback_metrics={},
    )  # fmt: skip
    redo._trainer = trainer
    redo.log = lambda *args, **kwargs: None  # type: ignore[method-assign]  # needs a running loop
    return trainer


@pytest.mark.parametrize("kind", ["share", "confidence", "dependence"])
def test_collapse_of_every_kind_restarts(kind: str) -> None:
    redo = method()
    half = torch.full((4, 2, 32, 32), 0.5)
    masks = half if kind != "share" else torch.cat([half[:, :1] * 0.02, 1 - half[:, :1] * 0.02], 1)
    if kind == "dependence":
        masks = torch.zeros(4, 2, 32, 32)
        masks[:, 0, :16], masks[:, 1, 16:] = 1, 1
    limits = {
        "share": {"min_share": 0.1},
        "confidence": {"min_share": 0.01, "min_confidence": 0.6},
        "dependence": {"min_share": 0.01, "min_dependence": 0.3},
    }[kind]
    guard = CollapseGuard(every=10, max_iteration=100, seed=7, max_restarts=1, **limits)
    trainer = fake_trainer(redo, 10)
    before = redo.mask_net.head.weight.clone()
    redo.statistics.update(masks)
    guard.on_train_batch_end(trainer, redo, None, None, 9)
    assert [r["seed"] for r in redo.restarts] == [1007]
    assert redo.iteration == 0
    assert not torch.equal(before, redo.mask_net.head.weight)
    trainer.fit_loop.total_batch_idx = 19
    redo.statistics.update(masks)
    with pytest.raises(NumericalError, match="after 1 restarts"):
        guard.on_train_batch_end(trainer, redo, None, None, 19)


def test_late_collapse_is_reported_only(caplog: pytest.LogCaptureFixture) -> None:
    redo = method()
    trainer = fake_trainer(redo, 200)
    redo.statistics.update(torch.stack([torch.zeros(4, 32, 32), torch.ones(4, 32, 32)], 1))
    with caplog.at_level(logging.WARNING):
        CollapseGuard(every=10, max_iteration=100).on_train_batch_end(trainer, redo, None, None, 0)
    assert "too late to restart" in caplog.text
    assert redo.restarts == []
    CollapseGuard(every=10, min_share=0).on_train_batch_end(trainer, redo, None, None, 0)


def test_csv_goes_on_where_it_stopped(tmp_path: Path) -> None:
    first = CsvLogger(str(tmp_path), flush_every=1)
    for step in range(4):
        first.log_metrics({"loss": 1 / (step + 3), "epoch": 0}, step)
    again = CsvLogger(str(tmp_path))
    again.log_metrics({"loss": 9.0, "score": 0.5}, 2)
    again.finalize("success")
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [row["step"] for row in rows] == ["0", "1", "2"]
    assert float(rows[1]["loss"]) == 1 / 4
    assert rows[2]["score"] == "0.5"
    assert "epoch" not in rows[0]
    assert (first.name, first.version) == ("csv", "")


def test_progress_shows_numbers_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("figureground.callbacks.progress._has_terminal", lambda: True)
    redo = method()
    trainer = fake_trainer(redo, 20)
    redo.last_losses = {"adversarial": torch.tensor(0.25)}
    trainer.callback_metrics = {"val/iou/img/set": torch.tensor(0.5)}
    bar = Progress(100)
    bar.on_train_start(trainer, redo)
    bar.on_train_batch_end(trainer, redo, None, None, 19)
    assert bar._bar is not None
    assert "adversarial=0.25" in bar._bar.tasks[0].fields["numbers"]
    assert "val/iou/img/set=0.5" in bar._bar.tasks[0].fields["numbers"]
    bar.on_exception(trainer, redo, RuntimeError())
    assert bar._bar is None


def test_progress_is_quiet_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    redo = method()
    for stream in (types.SimpleNamespace(isatty=lambda: False), None):
        monkeypatch.setattr(sys, "stdout", stream)
        bar = Progress(100)
        bar.on_train_start(fake_trainer(redo, 1), redo)
        bar.on_train_end(fake_trainer(redo, 1), redo)
        assert bar._bar is None


def test_progress_estimates_from_where_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("figureground.callbacks.progress._has_terminal", lambda: True)
    redo = method()
    trainer = fake_trainer(redo, 50)
    bar = Progress(100, every=20)
    bar.on_train_start(trainer, redo)
    assert bar._bar is not None
    assert bar._bar.tasks[0].completed == 50
    trainer.fit_loop.total_batch_idx = 50
    bar.on_train_batch_end(trainer, redo, None, None, 50)
    assert bar._bar.tasks[0].completed == 51
    assert bar._bar.tasks[0].fields["numbers"] == ""
    bar.on_train_end(trainer, redo)


def test_throughput_counts_waiting_for_data_but_not_validation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, logged = SimpleNamespace(now=0.0), {}
    monkeypatch.setattr("time.perf_counter", lambda: clock.now)
    module: Any = SimpleNamespace(log=lambda name, value: logged.update({name: value}))
    trainer: Any = SimpleNamespace(world_size=2, fit_loop=SimpleNamespace(total_batch_idx=-1))
    counter = Throughput(every=4)
    for batch in range(8):
        trainer.fit_loop.total_batch_idx = batch
        clock.now += 100 if batch == 0 else 2  # The first one starts the loaders.
        counter.on_train_batch_end(trainer, module, None, ([1, 2, 3], [1]), batch)
        counter.on_validation_start(trainer, module)
        clock.now += 50
        counter.on_validation_end(trainer, module)
        if batch == 3:
            assert logged["throughput/images_per_s"] == pytest.approx(2 * 3 / 2)
            logged.clear()
    assert logged["throughput/images_per_s"] == pytest.approx(2 * 3 / 2)
    assert logged["throughput/peak_memory_mb"] == peak_memory_mb() > 10


def test_tensorboard_has_the_logged_keys_only(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = make_tensorboard(str(tmp_path))
    logger.log_hyperparams({"a": 1})
    logger.log_metrics({"train/loss/x": 0.5}, 3)
    logger.finalize("success")
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert events.Tags()["scalars"] == ["train/loss/x"]


def test_progress_measures_anew_after_a_restart(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("figureground.callbacks.progress.time", clock)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr("figureground.callbacks.progress._has_terminal", lambda: False)
    redo = method()
    trainer = fake_trainer(redo, 0)
    bar = Progress(40, every=5, line_every=10)
    bar.on_train_start(trainer, redo)
    with caplog.at_level("INFO"):
        for batch in (*range(19), -1, *range(10)):  # -1: the guard has set the count to 0.
            clock.now += 3
            trainer.fit_loop.total_batch_idx = batch
            bar.on_train_batch_end(trainer, redo, None, None, batch)
    lines = [text for text in caplog.messages if " left  " in text]
    assert [line.split("  ")[0] for line in lines] == ["10 of 40, about 90 s left"] * 2


def test_progress_says_how_long_a_run_takes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("figureground.callbacks.progress.time", clock)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr("figureground.callbacks.progress._has_terminal", lambda: False)
    redo = method()
    trainer = fake_trainer(redo, 0)
    with caplog.at_level("INFO"):
        for iterations in (100, 50_000):
            bar = Progress(iterations, every=5, line_every=10)
            bar.on_train_start(trainer, redo)
            for batch in range(10):
                clock.now += 60 if batch == 0 else 3  # The first one is slow.
                trainer.fit_loop.total_batch_idx = batch
                bar.on_train_batch_end(trainer, redo, None, None, batch)
    texts = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert texts[0] == ("INFO", "100 iterations of 3 s on cpu: about 5 min left")
    assert texts[1][1].startswith("10 of 100, about 4 min left")
    assert texts[2] == (
        "WARNING",
        "50000 iterations of 3 s on cpu: about 41 h 40 min left; for less, set iterations=..., a "
        "smaller data.resolution=..., or use a GPU (trainer=gpu)",
    )
