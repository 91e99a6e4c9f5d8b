"""`StopAtIteration`: the one thing that ends training."""

from __future__ import annotations

import logging
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from figureground.core.bounds import PositiveInt
from figureground.core.method import Method

logger = logging.getLogger(__name__)


class StopAtIteration(Callback):
    """End training after so many batches, counted anew after a collapse restart.

    Lightning's `max_steps` cannot do it: with manual optimisation it counts optimiser steps.

    Args:
        iterations: Batches to train on.
    """

    def __init__(self, iterations: PositiveInt) -> None:
        self.iterations = iterations

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do not take up a run that is already finished, but for a broken-off last validation."""
        if _iteration(pl_module) < self.iterations:
            return
        logger.warning("already trained for iterations=%d; raise it to go on", self.iterations)
        validation = trainer.fit_loop.epoch_loop.val_loop
        if validation.batch_progress.total.ready:
            trainer.validating = True
            validation.run()
            trainer.training = True
        trainer.should_stop = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop after the last batch; Lightning then validates once more."""
        if _iteration(pl_module) >= self.iterations:
            trainer.should_stop = True


def _iteration(module: LightningModule) -> int:
    if not isinstance(module, Method):
        raise TypeError(f"{type(module).__name__} is not a Method")
    return module.iteration
