"""`CollapseGuard`: notice without labels that masks stopped meaning anything, and start again."""

from __future__ import annotations

import logging
from typing import Any, Protocol, runtime_checkable

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from figureground.callbacks.checkpoints import Checkpoints
from figureground.core.bounds import Count, Fraction, PositiveInt
from figureground.core.errors import NumericalError
from figureground.core.method import Method
from figureground.core.seeds import seed_process

logger = logging.getLogger(__name__)


class MaskStatistics(Protocol):
    """Running measurements of masks (`nn.regions.RegionStatistics`)."""

    def shares(self) -> Tensor | None:
        """Mean area (K,) of each region since the last `clear`."""
        ...

    def confidence(self) -> Tensor | None:
        """Mean probability of the most probable region."""
        ...

    def dependence(self) -> Tensor | None:
        """How much masks depend on the picture, in [0, 1]."""
        ...

    def clear(self) -> None:
        """Start anew."""
        ...


@runtime_checkable
class HasMaskStatistics(Protocol):
    """A method whose masks can collapse."""

    statistics: MaskStatistics


class CollapseGuard(Callback):
    """Restart with the next seed where masks have collapsed early in training.

    Every `every` iterations three means over all batches since the last check are looked at: the
    smallest region's area (one region took everything), the probability of the most probable
    region (masks are grey), and how much masks depend on the picture (one stencil for all).
    Methods without mask statistics are left alone.

    Args:
        min_share: Smallest area a region may have; 0 turns the guard off.
        min_confidence: Smallest mean probability of the most probable region.
        min_dependence: Smallest dependence of masks on the picture.
        every: Iterations between two checks.
        max_iteration: Later than this a collapse is reported but training goes on.
        max_restarts: After so many restarts a further collapse ends training.
        seed: Seed of the run; attempt n is seeded by seed + 1000 n.
    """

    def __init__(
        self,
        min_share: Fraction = 0.1,
        min_confidence: Fraction = 0.0,
        min_dependence: Fraction = 0.0,
        every: PositiveInt = 500,
        max_iteration: PositiveInt = 7000,
        max_restarts: Count = 3,
        seed: Count = 0,
    ) -> None:
        self.min_share, self.min_confidence = min_share, min_confidence
        self.min_dependence = min_dependence
        self.every, self.max_iteration, self.max_restarts = every, max_iteration, max_restarts
        self.seed = seed

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Check if it is time; all processes come to the same conclusion."""
        if not isinstance(pl_module, Method) or not isinstance(pl_module, HasMaskStatistics):
            return
        iteration = pl_module.iteration
        if iteration % self.every or trainer.should_stop or self.min_share == 0:
            return
        reason = self._find_collapse(trainer, pl_module.statistics)
        pl_module.statistics.clear()
        if reason is None:
            return
        if iteration > self.max_iteration:
            logger.warning("%s at iteration %d; too late to restart", reason, iteration)
            return
        self._restart(trainer, pl_module, reason)

    def _find_collapse(self, trainer: Trainer, statistics: MaskStatistics) -> str | None:
        shares, confidence = statistics.shares(), statistics.confidence()
        dependence = statistics.dependence()
        if shares is None or confidence is None or dependence is None:
            return None
        values = torch.stack([shares.min(), confidence, dependence])
        values = trainer.strategy.reduce(values, reduce_op="mean")
        limits = (self.min_share, self.min_confidence, self.min_dependence)
        phrases = (
            "a region's mean area is {:.3f}", "the masks' mean confidence is {:.3f}",
            "the masks depend on the picture by {:.3f} only",
        )  # fmt: skip
        for value, limit, phrase in zip(values.tolist(), limits, phrases, strict=True):
            if value < limit:
                return f"masks collapsed: {phrase.format(value)} (at least {limit:g} expected)"
        return None

    def _restart(self, trainer: Trainer, method: Method, reason: str) -> None:
        attempt = len(method.restarts) + 1
        if attempt > self.max_restarts:
            raise NumericalError(
                f"{reason}, after {self.max_restarts} restarts; change the seed, the learning "
                "rates or callbacks.collapse"
            )
        seed = self.seed + 1000 * attempt
        logger.warning(
            "%s at iteration %d; restarting with seed %d (%d of at most %d restarts)",
            reason, method.iteration, seed, attempt, self.max_restarts,
        )  # fmt: skip
        done = trainer.fit_loop.total_batch_idx + 1
        torch.manual_seed(seed)
        method.reset_parameters()  # Alike in all processes, unlike the noise to come.
        if trainer.global_rank:
            seed_process(seed, trainer.global_rank)
        for optimizer in trainer.optimizers:
            optimizer.state.clear()
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, Checkpoints):
                callback.forget_best(trainer)
        record = {"iteration": done, "attempt": attempt, "seed": seed, "reason": reason}
        method.restarts.append(record)
        for each in trainer.loggers:  # Not by `log`, which leaves out most batches.
            each.log_metrics({"train/restarts": float(attempt)}, step=done - 1)
