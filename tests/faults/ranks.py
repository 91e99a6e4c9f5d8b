"""Callbacks that make one process of several misbehave; named on the command line of a run."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from figureground.core.errors import NumericalError


class FailOnRank(Callback):
    """Do `what` on process `rank` before iteration `iteration`, and write down how all ended."""

    def __init__(self, what: str, rank: int = 1, iteration: int = 3, folder: str = ".") -> None:
        self.what, self.rank, self.iteration, self.folder = what, rank, iteration, Path(folder)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx + 1 != self.iteration or trainer.global_rank != self.rank:
            return
        if self.what == "raise":
            raise RuntimeError("one process fails")
        if self.what == "raise-known":
            raise NumericalError("one process fails")
        if self.what == "poison":
            first = batch[0] if isinstance(batch, tuple | list) else batch
            first.image.fill_(torch.nan)
            _spoil_losses(trainer, pl_module)  # Some methods learn without pictures.
        if self.what == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
        if self.what == "interrupt twice":
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        if self.what == "exit":
            os._exit(9)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        torch.save(pl_module.state_dict(), self.folder / f"rank{trainer.global_rank}.pt")


def _spoil_losses(trainer: Trainer, method: Any) -> None:
    """Make every loss of the batch that comes next NaN."""
    descend, spoilt = method.descend, trainer.fit_loop.total_batch_idx

    def descend_from_nan(loss: torch.Tensor, *rest: Any, **more: Any) -> bool:
        factor = torch.nan if trainer.fit_loop.total_batch_idx == spoilt else 1.0
        return bool(descend(loss * factor, *rest, **more))

    method.descend = descend_from_nan
