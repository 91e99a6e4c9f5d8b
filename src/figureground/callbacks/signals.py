"""`SignalGuard`: signals stop a run between two batches, with its state saved."""

from __future__ import annotations

import logging
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from figureground.callbacks.checkpoints import Checkpoints
from figureground.core.errors import StoppedBySignalError
from figureground.core.signals import SignalWatch, current_watch

logger = logging.getLogger(__name__)


class SignalGuard(Callback):
    """Stop training, validation, tests and prediction after the batch in which a signal came.

    Training and its validation leave a `last.ckpt` from which the resumed run equals the
    uninterrupted one. Handlers are installed after Lightning's own, whose SIGTERM handling would
    end with exit code 0; Lightning puts back those from before the run.
    """

    def __init__(self) -> None:
        self._watch = SignalWatch()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Become the handler of SIGTERM, SIGINT and SIGUSR1."""
        self._watch = current_watch() or self._watch
        self._watch.install()

    on_sanity_check_start = on_validation_start = on_train_start
    on_test_start = on_predict_start = on_train_start

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Stop here: the last batch, its logs and its validation are complete."""
        self._stop_if_asked(trainer)

    def on_validation_batch_end(self, trainer: Trainer, *_: object) -> None:
        """Stop inside validation; a resumed run repeats it from its first batch."""
        self._stop_if_asked(trainer)  # All ranks have equally many batches, so they can agree.

    def on_test_batch_end(self, trainer: Trainer, *_: object) -> None:
        """Stop; there is no state to save."""
        self._stop_if_asked(trainer)

    def on_predict_batch_end(self, trainer: Trainer, *_: object) -> None:
        """Stop; there is no state to save."""
        self._watch.check()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Say what probably happened when the system took a worker or memory away."""
        if isinstance(exception, torch.OutOfMemoryError):
            logger.error(
                "out of memory: lower data.batch_size or data.resolution, or set "
                "trainer.precision=bf16-mixed, then go on with ckpt=last"
            )
        elif isinstance(exception, RuntimeError) and "DataLoader worker" in str(exception):
            logger.error(
                "a process that loads data has died (%s); most often memory has run out: lower "
                "data.num_workers or data.batch_size, then go on with ckpt=last",
                str(exception).splitlines()[0],
            )

    def _stop_if_asked(self, trainer: Trainer) -> None:
        signum = self._watch.signum or 0
        if trainer.world_size > 1:  # All ranks stop at the same batch, whoever got the signal.
            shared = torch.tensor(signum, device=trainer.strategy.root_device)
            signum = int(trainer.strategy.reduce(shared, reduce_op="max"))
        if not signum:
            return
        savers = [c for c in trainer.checkpoint_callbacks if isinstance(c, Checkpoints)]
        for saver in savers:
            saver.save_now(trainer)
        raise StoppedBySignalError(signum, has_saved=bool(savers))
