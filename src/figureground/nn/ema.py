"""Running averages of weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class WeightAverage(nn.Module):
    """Exponential moving average of a network, usable in its place.

    Calling it runs the averaged copy, or the live network inside `with average.bypassed()`.
    Call `update()` after each optimiser step. Buffers are copied, not averaged.

    Args:
        source: The live network; not registered here, so its weights are saved once.
        decay: Share of the old average kept at each update, in [0, 1).
    """

    def __init__(self, source: nn.Module, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self._source = (source,)  # A tuple, so that it is not registered as a submodule.
        self._is_bypassed = False
        self.average = copy.deepcopy(source).requires_grad_(False)

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the live weights."""
        source = self._source[0]
        pairs = zip(self.average.parameters(), source.parameters(), strict=True)
        for averaged, live in pairs:
            averaged.lerp_(live.to(averaged), 1 - self.decay)
        self._copy_buffers()

    @torch.no_grad()
    def reset(self) -> None:
        """Make the average equal to the live weights, e.g. after these were initialised anew."""
        for averaged, live in zip(
            self.average.parameters(), self._source[0].parameters(), strict=True
        ):
            averaged.copy_(live)
        self._copy_buffers()

    @contextmanager
    def bypassed(self) -> Iterator[None]:
        """Run the live network instead of the average within this context."""
        self._is_bypassed = True
        try:
            yield
        finally:
            self._is_bypassed = False

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the averaged (or, if bypassed, the live) network."""
        network = self._source[0] if self._is_bypassed else self.average
        return network(*args, **kwargs)

    def _copy_buffers(self) -> None:
        for averaged, live in zip(self.average.buffers(), self._source[0].buffers(), strict=True):
            averaged.copy_(live)


def average_decay(
    num_seen: int, batch_size: int, half_life: float, ramp: float | None = 0.05
) -> float:
    """Decay of the running average of weights such that old weights halve in `half_life` pictures.

    Args:
        num_seen: Pictures seen before this batch.
        batch_size: Pictures in it.
        half_life: In pictures.
        ramp: The half-life is at most this share of `num_seen`; None does without.
    """
    if ramp is not None:
        half_life = min(half_life, ramp * num_seen)
    return float(0.5 ** (batch_size / max(half_life, 1e-8)))
