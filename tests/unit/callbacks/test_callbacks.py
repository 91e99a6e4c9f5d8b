"""Callbacks and loggers on their own."""

from __future__ import annotations

import csv
import logging
import sys
import time
import types
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from figureground.callbacks.collapse import CollapseGuard
from figureground.callbacks.loggers import CsvLogger, SafeWandbLogger
from figureground.callbacks.progress import Progress
from figureground.callbacks.throughput import Throughput, peak_memory_mb
from figureground.core.errors import NumericalError
from figureground.methods.redo import ReDO
from figureground.viz.grids import contact_sheet, picture_grid, to_uint8
from figureground.viz.overlays import mask_to_gray, on_checkerboard, overlay


def method() -> ReDO:
    return ReDO(
        resolution=32, latent_dim=4, mask_width=8, mask_blocks=1, generator_width=4,
        discriminator_width=4, encoder_width=4,
    )  # fmt: skip


def fake_trainer(redo: ReDO, batches: int) -> Any:
    trainer = SimpleNamespace(
        should_stop=False, optimizers=redo.configure_optimizers(), is_global_zero=True,
        strategy=SimpleNamespace(reduce=lambda values, reduce_op: values), world_size=1,
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


class FakeRun:
    id = "abc"
    summary: dict[str, Any] = {}  # noqa: RUF012 - as in wandb

    def __init__(self, fails: bool, hangs: bool) -> None:
        self.fails, self.hangs = fails, hangs
        self.logged: list[Any] = []
        self.config = SimpleNamespace(update=lambda *a, **k: None)

    def define_metric(self, *args: Any, **kwargs: Any) -> None: ...

    def log(self, data: Any, **kwargs: Any) -> None:
        if self.fails:
            raise ConnectionError("gone")
        self.logged.append(data)

    def finish(self) -> None:
        if self.hangs:
            time.sleep(60)


@pytest.mark.parametrize(
    "trouble", ["none", "init raises", "init hangs", "log raises", "finish hangs"]
)
def test_f58_wandb_may_fail_in_any_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    import figureground.callbacks.loggers as module

    monkeypatch.setattr(module, "_PATIENCE", 0.4)
    run = FakeRun(trouble == "log raises", trouble == "finish hangs")

    def start(self: Any) -> FakeRun:
        if trouble == "init raises":
            raise RuntimeError("no account")
        if trouble == "init hangs":
            time.sleep(60)
        self._experiment = run
        return run

    parent = SafeWandbLogger.__mro__[1]
    monkeypatch.setattr(parent, "experiment", property(start))
    monkeypatch.setattr(
        parent,
        "__init__",
        lambda self, **options: vars(self).update(_experiment=None, _prefix="", options=options),
    )
    monkeypatch.setattr(
        parent, "log_metrics", lambda self, metrics, step=None: self.experiment.log(metrics)
    )
    monkeypatch.setattr(
        parent, "log_hyperparams", lambda self, params: self.experiment.config.update(params)
    )
    begin = time.monotonic()
    logger = SafeWandbLogger("p", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        logger.log_hyperparams({"a": 1})
        for step in range(5):
            logger.log_metrics({"x": 1.0}, step)
        logger.finalize("success")
    assert time.monotonic() - begin < 5
    assert len(caplog.records) == (0 if trouble == "none" else 1)
    if trouble in {"none", "finish hangs"}:
        assert len(run.logged) == 5
        assert SafeWandbLogger("p", str(tmp_path)).options["id"] == "abc"  # type: ignore[attr-defined]


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


def test_throughput_counts_pictures() -> None:
    logged: dict[str, float] = {}
    module: Any = SimpleNamespace(log=lambda name, value: logged.update({name: value}))
    trainer: Any = SimpleNamespace(world_size=1)
    counter = Throughput(every=2)
    for _ in range(2):
        counter.on_train_batch_start(trainer, module, None, 0)
        counter.on_train_batch_end(trainer, module, None, ([1, 2, 3], [1]), 0)
    assert logged["throughput/images_per_s"] > 0
    assert peak_memory_mb() > 10


def test_pictures_for_people() -> None:
    assert to_uint8(torch.tensor([-1.0, 0, 1]).view(3, 1, 1)).tolist() == [[[0, 128, 255]]]
    grid = picture_grid(torch.zeros(6, 3, 32, 32), columns=3)
    assert grid.shape == (2 * 98 + 2, 3 * 98 + 2, 3)
    image = np.zeros((20, 30, 3), np.uint8)
    mask = np.zeros((20, 30), np.uint8)
    mask[5:15, 5:15] = 1
    tinted = overlay(image, mask)
    assert tinted[0, 0].tolist() == [0, 0, 0]
    assert tinted[10, 10].sum() > 0
    assert tinted[5, 5].tolist() == [255, 255, 255]
    assert set(np.unique(mask_to_gray(mask, 2))) == {0, 255}
    assert set(np.unique(mask_to_gray(mask * 2, 3))) == {0, 255}
    rgba = np.zeros((20, 20, 4), np.uint8)
    assert len(np.unique(on_checkerboard(rgba))) == 2
    sheet = contact_sheet([[image, tinted]], ["name"], ["a", "b"])
    assert sheet.shape[2] == 3
