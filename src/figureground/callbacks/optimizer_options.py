"""`OptimizerOptions`: a resumed run takes learning rates from its configuration."""

from __future__ import annotations

from pytorch_lightning import Callback, LightningModule, Trainer


class OptimizerOptions(Callback):
    """Put the configured options (learning rates, betas, ...) over those of the checkpoint.

    Optimisers restore their options together with their moments; where a run is continued with
    other settings on purpose (`resume.force=true`), those would be without effect.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """By now the checkpoint has been restored."""
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group.pop("initial_lr", None)  # Schedules start from the new rate, too.
                group.update(optimizer.defaults)
