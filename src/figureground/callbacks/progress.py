"""`Progress`: a bar, or lines where there is no terminal, and how long the run will take."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch
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

logger = logging.getLogger(__name__)

_MEMORY = 300.0  # Seconds of the past that the time left is estimated from; steps may take many.
_WARM_UP = 2  # Iterations that are slower than those that follow.
_LONG = 12 * 3600.0  # Seconds of a run on the CPU that are worth a warning.


class Progress(Callback):
    """Show a progress bar in a terminal, or log a line now and then where there is none.

    After the first `every` iterations it says how long the run will take, and warns of one that
    would take more than half a day on the CPU.

    Args:
        iterations: Batches to train on.
        every: Batches between two updates of the numbers.
        score: Start of the names of validation scores to show.
        line_every: Batches between two lines where there is no terminal.
    """

    def __init__(
        self,
        iterations: PositiveInt,
        every: PositiveInt = 20,
        score: str = "val/iou/img/set",
        line_every: PositiveInt = 100,
    ) -> None:
        self.iterations, self.every, self.score = iterations, every, score
        self.line_every = line_every
        self._first: int | None = None  # Iteration of this process after which time is taken.
        self._began = 0.0
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar on the first process, if there is a terminal."""
        self._first = None
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
        """Move on, and say how long the rest will take."""
        if not trainer.is_global_zero or not isinstance(pl_module, Method):
            return
        iteration = pl_module.iteration
        if self._first is None or iteration < self._first - _WARM_UP:  # Also after a restart.
            self._first, self._began = iteration + _WARM_UP, time.monotonic()
        elif iteration == self._first:
            self._began = time.monotonic()
        elif iteration == self._first + self.every:
            self._say_duration(pl_module.device, iteration)
        if self._bar is None or self._task is None:
            # Before the warm-up is over nothing is known about the time left.
            if iteration % self.line_every == 0 and iteration > self._first:
                numbers = self._numbers(pl_module, trainer.callback_metrics)
                left = self._estimate(iteration)
                logger.info(
                    "%d of %d, about %s left  %s", iteration, self.iterations, left, numbers
                )
            return
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

    def _seconds_each(self, iteration: int) -> float:
        """Mean duration of this process's iterations so far."""
        done = iteration - self._first if self._first is not None else 0
        return (time.monotonic() - self._began) / max(done, 1)

    def _estimate(self, iteration: int) -> str:
        """Time left after `iteration`."""
        left = max(self.iterations - iteration, 0)
        return format_duration(left * self._seconds_each(iteration))

    def _say_duration(self, device: torch.device, iteration: int) -> None:
        """Log how long the run will take; a warning if that is long for a CPU."""
        each = self._seconds_each(iteration)
        left = (self.iterations - iteration) * each
        is_long = device.type == "cpu" and left > _LONG
        logger.log(
            logging.WARNING if is_long else logging.INFO,
            "%d iterations of %.2g s on %s: about %s left%s",
            self.iterations, each, device.type, format_duration(left),
            "; for less, set iterations=..., a smaller data.resolution=..., or use a GPU "
            "(trainer=gpu)" if is_long else "",
        )  # fmt: skip

    def _close(self) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError, ValueError):
                self._bar.stop()
            self._bar = None

    def _numbers(self, method: Method, metrics: Mapping[str, Any]) -> str:
        shown = {name: float(value) for name, value in method.last_losses.items()}
        shown |= {k: float(v) for k, v in metrics.items() if k.startswith(self.score)}
        return " ".join(f"{one_line(name)}={value:.3g}" for name, value in shown.items())


def format_duration(seconds: float) -> str:
    """Write a duration with the precision of an estimate.

    >>> [format_duration(seconds) for seconds in (42, 200, 12_000, 400_000)]
    ['42 s', '3 min', '3 h 20 min', '4.6 days']
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes / 1440:.1f} days"


def _has_terminal() -> bool:
    try:
        return sys.stdout.isatty()
    except (AttributeError, ValueError):  # Closed or replaced.
        return False
