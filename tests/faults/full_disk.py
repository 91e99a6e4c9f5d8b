"""A disk that is full for a while."""

from __future__ import annotations

import resource
from typing import Any

from pytorch_lightning import Callback

_LIMIT = 8000  # More than the rows of a short run take, less than any checkpoint.


class FullDisk(Callback):
    """From batch `first` to batch `last` no file grows beyond `_LIMIT` bytes, as on ENOSPC."""

    def __init__(self, first: int, last: int) -> None:
        self.range = range(first, last)
        self.limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def on_train_batch_start(self, trainer: Any, *_: Any, **__: Any) -> None:
        done = trainer.fit_loop.epoch_loop.batch_progress.total.completed
        limit = _LIMIT if done in self.range else self.limits[0]
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, self.limits[1]))

    def on_exception(self, *_: Any) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self.limits)
