"""`NumericalGuard`: how many non-finite steps are too many, and what is left behind then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from figureground.callbacks.random_state import capture_random_state
from figureground.core.bounds import PositiveInt
from figureground.core.errors import NumericalError
from figureground.core.io import atomic_write
from figureground.core.method import Method


class NumericalGuard(Callback):
    """Set the patience of `Method.descend` and leave a debug file when it runs out.

    The file `nan_<iteration>.pt` holds the keys of the batch, the random state before it and the
    last loss terms: enough to run the failing step again. It holds no pictures.

    Args:
        directory: Where the debug file goes.
        patience: Skipped steps of one player in a row that end training.
    """

    def __init__(self, directory: str, patience: PositiveInt = 10) -> None:
        self.directory = Path(directory)
        self.patience = patience
        self._keys: list[list[str]] = []
        self._random_state: dict[str, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Hand the patience to the method."""
        if isinstance(pl_module, Method):
            pl_module.patience = self.patience

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember what the step starts from."""
        self._keys = [list(part.key) for part in (batch if isinstance(batch, tuple) else (batch,))]
        self._random_state = capture_random_state()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Write the debug file if numbers were the reason; no checkpoint is touched."""
        if not isinstance(exception, NumericalError) or not isinstance(pl_module, Method):
            return
        name = f"nan_{pl_module.iteration}"
        name += f"_rank{trainer.global_rank}.pt" if trainer.world_size > 1 else ".pt"
        with atomic_write(self.directory / name) as file:
            torch.save(
                {
                    "iteration": pl_module.iteration,
                    "message": str(exception),
                    "keys": self._keys,
                    "random_state": self._random_state,
                    "losses": {name: float(v) for name, v in pl_module.last_losses.items()},
                    "skipped": dict(pl_module.skipped),
                },
                file,
            )
