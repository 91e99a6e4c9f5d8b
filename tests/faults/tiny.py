"""A small adversarial method with endless data: everything exact resume has to get right.

Two optimisers, an average of weights, dropout, noise from the global generators, batch
normalisation and a score in validation; ten milliseconds a batch.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback, LightningDataModule, Trainer
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from torchmetrics import Metric

from faults import At, assert_same_checkpoint, fail
from figureground.callbacks.checkpoints import Checkpoints
from figureground.callbacks.guard import NumericalGuard
from figureground.callbacks.loggers import CsvLogger
from figureground.callbacks.random_state import RandomState
from figureground.callbacks.signals import SignalGuard
from figureground.callbacks.stop import StopAtIteration
from figureground.core.checkpoint import VerifiedCheckpointIO
from figureground.core.method import Method
from figureground.core.types import Batch
from figureground.nn.ema import WeightAverage

BATCH, SIZE = 4, 16


class Agreement(Metric):
    """Share of pixels whose most probable region is the mask's."""

    def __init__(self) -> None:
        super().__init__()
        self.add_state("hits", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, mask: Tensor) -> None:
        self.hits += (probabilities.argmax(1) == mask).float().mean()
        self.count += 1

    def compute(self) -> dict[str, Tensor]:
        return {"agreement": self.hits / self.count}


class TinyGAN(Method):
    def __init__(self, *, width: int = 4) -> None:
        super().__init__(metrics={"segmentation": Agreement()})
        self.origin = {"method": {"_target_": "figureground.methods.tiny.TinyGAN", "width": width}}
        self.mask_net = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.Dropout(0.2),
            nn.ReLU(),
            nn.Conv2d(width, 2, 1),
        )
        self.critic = nn.Sequential(
            nn.Conv2d(3, width, 4, 4), nn.LeakyReLU(0.2), nn.Dropout(0.2), nn.Conv2d(width, 1, 4)
        )
        self.ema = WeightAverage(self.mask_net, 0.9)

    def reset_parameters(self) -> None:
        for module in self.modules():
            if hasattr(module, "reset_parameters") and module is not self:
                module.reset_parameters()

    def segment(self, image: Tensor) -> Tensor:
        return self.ema(image).softmax(1)

    def losses(self, image: Tensor) -> tuple[Tensor, Tensor]:
        mask = self.mask_net(image).softmax(1)[:, 1:]
        noise = torch.randn_like(image) * random.random() + float(np.random.rand())  # noqa: NPY002
        self.fake = mask * noise + (1 - mask) * image
        return -self.critic(self.fake).mean(), mask.mean()

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        mask_optimizer, critic_optimizer = self.optimizers()
        adversarial, area = self.losses(batch.image)
        self.log_losses({"adversarial": adversarial, "area": area})
        self.descend(adversarial + area, mask_optimizer, player="mask")
        self.ema.update()
        critic = torch.relu(1 - self.critic(batch.image)).mean()
        critic = critic + torch.relu(1 + self.critic(self.fake.detach())).mean()
        self.log_losses({"critic": critic})
        if self.iteration % 3 == 0:
            self.log("train/now_and_then", critic.detach())
        self.descend(critic, critic_optimizer, player="critic")

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            torch.optim.Adam(self.mask_net.parameters(), 1e-3),
            torch.optim.Adam(self.critic.parameters(), 2e-3, weight_decay=1e-4),
        ]

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        return {}


class Endless(IterableDataset[Batch]):
    """Batch b is a function of b alone; starts at the trainer's counter."""

    def __init__(self, data: TinyData) -> None:
        self.data = data

    def __iter__(self) -> Iterator[Batch]:
        start = self.data.trainer.fit_loop.total_batch_idx + 1
        for index in range(start, 10**9):
            yield make_batch(index)


def make_batch(index: int) -> Batch:
    generator = torch.Generator().manual_seed(index)
    image = torch.rand(BATCH, 3, SIZE, SIZE, generator=generator) * 2 - 1
    return Batch(image, tuple(f"{index}_{i}" for i in range(BATCH)), (image[:, 0] > 0).long())


class TinyData(LightningDataModule):
    def train_dataloader(self) -> DataLoader[Batch]:
        return DataLoader(Endless(self), batch_size=None, generator=torch.Generator())

    def val_dataloader(self) -> DataLoader[Batch]:
        batches = [make_batch(-1 - index) for index in range(3)]
        return DataLoader(batches, batch_size=None, generator=torch.Generator())

    test_dataloader = predict_dataloader = val_dataloader


class Rows(Logger):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int, dict[str, float]]] = []

    name = version = "rows"

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None: ...

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert step is not None
        self.rows.append((step, dict(metrics)))


class Run:
    """One process's share of a run in `directory`; `start` may be called once."""

    def __init__(
        self,
        directory: Path,
        *callbacks: Callback,
        iterations: int = 12,
        every: int = 4,
        validate_every: int = 4,
        monitor: str | None = None,
        make: Callable[[], tuple[Method, LightningDataModule]] | None = None,
        **settings: Any,
    ) -> None:
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        self.method, self.data = make() if make else (TinyGAN(), TinyData())
        self.checkpoints_dir = directory / "checkpoints"
        self.checkpoints = Checkpoints(str(self.checkpoints_dir), every, monitor=monitor)
        self.rows = Rows()
        settings.setdefault("plugins", [VerifiedCheckpointIO()])
        self.trainer = Trainer(
            accelerator="cpu",
            logger=[self.rows, CsvLogger(str(directory / "csv"))],
            callbacks=[
                RandomState(),
                StopAtIteration(iterations),
                NumericalGuard(str(directory / "debug"), 3),
                *callbacks,
                SignalGuard(),
                self.checkpoints,
            ],
            max_epochs=-1,
            max_steps=-1,
            check_val_every_n_epoch=None,
            val_check_interval=validate_every,
            log_every_n_steps=1,
            enable_progress_bar=False,
            enable_model_summary=False,
            **settings,
        )

    def start(self, ckpt_path: Path | None = None) -> Run:
        self.trainer.fit(self.method, self.data, ckpt_path=ckpt_path, weights_only=True)
        return self

    @property
    def last(self) -> Path:
        return self.checkpoints_dir / "last.ckpt"


def save_quietly(checkpoint: dict[str, Any], path: Path) -> Path:
    """Write a checkpoint with a manifest, as a run would."""
    VerifiedCheckpointIO().save_checkpoint(checkpoint, path)
    return path


def break_off(directory: Path, hook: str, count: int, **settings: Any) -> Run:
    """Train until an exception in `hook` after `count` steps."""
    first = Run(directory, At(hook, count, fail()), **settings)
    with pytest.raises(RuntimeError, match="injected"):
        first.start()
    return first


def assert_equal_to(whole: Run, *parts: Run) -> None:
    """`parts`, each going on from the one before, must leave what `whole` left, rows included."""
    assert_same_checkpoint(whole.last, parts[-1].last)
    assert merged(*(part.rows for part in parts)) == whole.rows.rows


def merged(*logs: Rows) -> list[tuple[int, dict[str, float]]]:
    """Rows of successive logs; where a log starts again, the rows it repeats are dropped."""
    rows: list[tuple[int, dict[str, float]]] = []
    for log in logs:
        first = log.rows[0][0] if log.rows else 0
        rows = [row for row in rows if row[0] < first or (row[0] == first and row not in log.rows)]
        rows += log.rows
    return rows
