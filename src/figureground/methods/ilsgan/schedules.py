"""What changes with the number of pictures seen; stateless, so resuming needs nothing stored."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from figureground.core.bounds import NonNegativeFloat, PositiveFloat

Strategy = Literal["all_time", "cool_down", "cos"]

_ON, _OFF = 200, 600  # Thousands of pictures between switches of `cool_down`.
_FIRST, _LAST = 0.2, 1.0  # Published weights of bounds by fixed densities, averaged over pixels,
_LEARNED = 1e-3  # and of bounds by learned ones, summed over pixels.


@dataclass(frozen=True)
class Sigma:
    """Weight sigma of the independence loss over training.

    Attributes:
        first: Sigma until `kimg`; None is the published one, 0.2, or 1e-3 for learned densities.
        last: Sigma from there on; None is the published one, 1, or 1e-3 for learned densities.
        kimg: Thousands of pictures seen.
        strategy: `all_time`; `cool_down`: from `kimg` on, on for 200, off for 600, and so on;
            `cos`: times 0.5 (1 + cos(pi n / `kimg`)) at n thousand pictures.
    """

    first: NonNegativeFloat | None = None
    last: NonNegativeFloat | None = None
    kimg: PositiveFloat = 400.0
    strategy: Strategy = "all_time"

    def for_learned(self) -> Sigma:
        """The same with what is published for learned densities, where nothing else is given."""
        first, last = (_LEARNED if own is None else own for own in (self.first, self.last))
        return replace(self, first=first, last=last)

    @property
    def weights(self) -> tuple[float, float]:
        """Sigma before and from `kimg` on."""
        first, last = self.first, self.last
        return _FIRST if first is None else first, _LAST if last is None else last

    def at(self, num_seen: int) -> float:
        """Sigma after `num_seen` pictures."""
        seen = num_seen / 1000
        sigma = self.weights[seen >= self.kimg]
        if self.strategy == "cos":
            return 0.5 * sigma * (1 + math.cos(math.pi * seen / self.kimg))
        if self.strategy == "cool_down" and seen >= self.kimg:
            return sigma if (seen - self.kimg) % (_ON + _OFF) < _ON else 0.0
        return sigma
