"""`ResumeCheck`: what a checkpoint says of optimisers fits them before any of them steps."""

from __future__ import annotations

import math
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from figureground.core.errors import CheckpointError

_OF_ADAM = frozenset({"step", "exp_avg", "exp_avg_sq"})


class ResumeCheck(Callback):
    """Refuse restored states of optimisers that would fail in the middle of a step."""

    def __init__(self) -> None:
        self._num_states: int | None = None

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note how many optimisers it is of: Lightning passes over what is missing."""
        self._num_states = len(checkpoint["optimizer_states"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """By now the checkpoint has been restored.

        Raises:
            CheckpointError: There are others, an option has another type, or a moment another
                shape.
        """
        count = len(trainer.optimizers)
        if self._num_states not in {None, count}:
            raise CheckpointError(
                f"the checkpoint has {self._num_states} states of optimisers, expected {count}; "
                "resume from another one"
            )
        for number, optimizer in enumerate(trainer.optimizers):
            problem = _find_odd_option(optimizer) or _find_odd_moment(optimizer)
            if problem is not None:
                raise CheckpointError(
                    f"the checkpoint is damaged: optimizer_states[{number}] {problem}; resume from "
                    "another one"
                )


def _find_odd_option(optimizer: Optimizer) -> str | None:
    for group in optimizer.param_groups:
        for name, default in optimizer.defaults.items():
            if not _is_like(group.get(name), default):
                return f"has {name}={str(group.get(name))[:80]}, expected one like {default}"
    return None


def _find_odd_moment(optimizer: Optimizer) -> str | None:
    needed = _OF_ADAM if isinstance(optimizer, torch.optim.Adam) else frozenset()
    for parameter, state in optimizer.state.items():
        if not isinstance(parameter, Tensor) or not isinstance(state, dict):
            return "has a state of no parameter"
        if missing := needed - state.keys() if state else None:
            return f"lacks {min(missing)}"
        for name, value in state.items():
            fits = not isinstance(value, Tensor) or value.numel() == 1
            if not fits and value.shape != parameter.shape:
                return f"has {name} {tuple(value.shape)} of a parameter {tuple(parameter.shape)}"
            if name in needed and not isinstance(value, Tensor):
                return f"has {name} that is no tensor"
    return None


def _is_like(value: Any, default: Any) -> bool:
    """Whether an option is of the kind of its default; None stands for any flag."""
    if isinstance(default, tuple | list):
        is_list = isinstance(value, tuple | list) and len(value) == len(default)
        return is_list and all(map(_is_like, value, default))
    if isinstance(default, bool) or default is None:
        return value is None or isinstance(value, bool | int | float)
    if isinstance(default, int | float):
        is_number = isinstance(value, int | float | Tensor) and not isinstance(value, bool)
        return is_number and math.isfinite(value)
    return isinstance(value, type(default))
