"""What changes with the number of pictures seen; stateless, so resuming needs nothing stored."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from figureground.core.bounds import NonNegativeFloat, PositiveFloat

Strategy = Literal["all_time", "cool_down", "cos"]

_ON, _OFF = 200, 600  # Thousands of pictures between switches of `cool_down`.


@dataclass(frozen=True)
class Sigma:
    """Weight sigma of the independence loss over training.

    Attributes:
        first: Sigma until `kimg`.
        last: Sigma from there on.
        kimg: Thousands of pictures seen.
        strategy: `all_time`; `cool_down`: from `kimg` on, on for 200, off for 600, and so on;
            `cos`: times 0.5 (1 + cos(pi n / `kimg`)) at n thousand pictures.
    """

    first: NonNegativeFloat = 0.2
    last: NonNegativeFloat = 1.0
    kimg: PositiveFloat = 400.0
    strategy: Strategy = "all_time"

    def at(self, num_seen: int) -> float:
        """Sigma after `num_seen` pictures."""
        seen = num_seen / 1000
        sigma = self.first if seen < self.kimg else self.last
        if self.strategy == "cos":
            return 0.5 * sigma * (1 + math.cos(math.pi * seen / self.kimg))
        if self.strategy == "cool_down" and seen >= self.kimg:
            return sigma if (seen - self.kimg) % (_ON + _OFF) < _ON else 0.0
        return sigma
