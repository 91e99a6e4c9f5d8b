"""`Progress`: one line with iterations, time left, losses and the latest scores."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

from figureground.core.bounds import PositiveInt
from figureground.core.escaping import one_line
from figureground.core.method import Method

_MEMORY = 300.0  # Seconds of the past that the time left is estimated from; steps may take many.


class Progress(Callback):
    """Show progress in a terminal; without one, be quiet.

    Args:
        iterations: Batches to train on.
        every: Batches between two updates of the numbers.
        score: Start of the names of validation scores to show.
    """

    def __init__(
        self, iterations: PositiveInt, every: PositiveInt = 20, score: str = "val/iou/img/set"
    ) -> None:
        self.iterations, self.every, self.score = iterations, every, score
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar on the first process, if there is a terminal."""
        if not trainer.is_global_zero or not _has_terminal():
            return
        self._bar = Bar(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}", markup=False),
            speed_estimate_period=_MEMORY, console=Console(),
        )  # fmt: skip
        done = pl_module.iteration if isinstance(pl_module, Method) else 0
        self._task = self._bar.add_task(
            "training", total=self.iterations, completed=done, numbers=""
        )
        self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move on."""
        if self._bar is None or self._task is None or not isinstance(pl_module, Method):
            return
        iteration = pl_module.iteration
        fields: dict[str, Any] = {}
        if iteration % self.every == 0 or iteration >= self.iterations:
            fields["numbers"] = self._numbers(pl_module, trainer.callback_metrics)
        # A terminal that goes away must not take the run with it.
        with contextlib.suppress(OSError, ValueError):
            self._bar.update(self._task, completed=iteration, **fields)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Close the bar, so that the message is not drawn over."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError, ValueError):
                self._bar.stop()
            self._bar = None

    def _numbers(self, method: Method, metrics: Mapping[str, Any]) -> str:
        shown = {name: float(value) for name, value in method.last_losses.items()}
        shown |= {k: float(v) for k, v in metrics.items() if k.startswith(self.score)}
        return " ".join(f"{one_line(name)}={value:.3g}" for name, value in shown.items())


def _has_terminal() -> bool:
    try:
        return sys.stdout.isatty()
    except (AttributeError, ValueError):  # Closed or replaced.
        return False
