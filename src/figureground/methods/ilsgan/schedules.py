"""What changes with the number of pictures seen; stateless, so resuming needs nothing stored."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Strategy = Literal["all_time", "cool_down", "cos"]

_ON, _OFF = 200_000, 600_000  # Pictures between switches of `cool_down`.


@dataclass(frozen=True)
class IndependenceWeight:
    """Weight sigma of the independence loss over training.

    Attributes:
        first: Sigma before `until`.
        last: Sigma from there on.
        until: Pictures seen.
        strategy: `all_time`; `cool_down`: from `until` on, on for 200,000 pictures, off for
            600,000, and so on; `cos`: times 0.5 (1 + cos(pi n / `until`)).
    """

    first: float = 0.2
    last: float = 1.0
    until: int = 400_000
    strategy: Strategy = "all_time"

    def at(self, num_seen: int) -> float:
        """Sigma after `num_seen` pictures."""
        sigma = self.first if num_seen < self.until else self.last
        if self.strategy == "cos":
            return 0.5 * sigma * (1 + math.cos(math.pi * num_seen / max(self.until, 1)))
        if self.strategy == "cool_down" and num_seen >= self.until:
            return sigma if (num_seen - self.until) % (_ON + _OFF) < _ON else 0.0
        return sigma


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
