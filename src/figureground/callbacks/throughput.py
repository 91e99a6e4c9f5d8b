"""`Throughput`: pictures per second and peak memory."""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from figureground.core.bounds import PositiveInt


class Throughput(Callback):
    """Log `throughput/images_per_s` over the last batches and `throughput/peak_memory_mb`.

    Args:
        every: Batches per measurement. Validation in between is not counted.
    """

    def __init__(self, every: PositiveInt = 100) -> None:
        self.every = every
        self._seconds, self._images, self._batches = 0.0, 0, 0
        self._began = 0.0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop the clock; log if enough has come together."""
        self._seconds += time.perf_counter() - self._began
        self._images += len(batch[0]) if isinstance(batch, tuple) else len(batch)
        self._batches += 1
        if self._batches < self.every:
            return
        rate = trainer.world_size * self._images / self._seconds
        pl_module.log("throughput/images_per_s", rate)
        pl_module.log("throughput/peak_memory_mb", peak_memory_mb())
        self._seconds, self._images, self._batches = 0.0, 0, 0


def peak_memory_mb() -> float:
    """Most memory used so far: of the GPU if there is one, else resident memory of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    # Linux counts in kilobytes, macOS in bytes.
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
