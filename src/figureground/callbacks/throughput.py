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

    The time is that between the ends of batches, waiting for data included, validation not. What
    comes before the end of a run's first batch (loaders start, kernels are chosen) does not count.

    Args:
        every: Batches between two rows.
    """

    def __init__(self, every: PositiveInt = 100) -> None:
        self.every = every
        self._images = 0
        self._began: float | None = None  # None until the first batch has ended.
        self._paused = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        self._images, self._began = 0, None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._paused = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the clock go on."""
        if self._began is not None:
            self._began += time.perf_counter() - self._paused

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count; log if it is time."""
        now = time.perf_counter()
        if self._began is None:
            self._began = now
            return
        self._images += len(batch[0]) if isinstance(batch, tuple) else len(batch)
        # By the run's counter, so that a resumed run logs in the same rows.
        if (trainer.fit_loop.total_batch_idx + 1) % self.every:
            return
        rate = trainer.world_size * self._images / max(now - self._began, 1e-9)
        pl_module.log("throughput/images_per_s", rate)
        pl_module.log("throughput/peak_memory_mb", peak_memory_mb())
        self._began, self._images = now, 0


def peak_memory_mb() -> float:
    """Most memory used so far: of the GPU if there is one, else resident memory of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    # Linux counts in kilobytes, macOS in bytes.
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
