"""Directions in a generator's latent space, and how far to go along them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from figureground.core.bounds import NonNegativeFloat

Side = Literal["light", "dark"]
#: Which directions are searched; `opposite` ties the dark one to the negative of the light one.
Sides = Literal["both", "opposite", "light", "dark"]
Norm = Literal["per_coordinate", "global"]
Kind = Literal["learned", "random"]

#: What each direction does to the foreground: lighter or darker than before.
SIGNS: dict[Side, float] = {"light": 1.0, "dark": -1.0}
_SIDES: dict[Sides, tuple[Side, ...]] = {
    "both": ("light", "dark"),
    "opposite": ("light", "dark"),
    "light": ("light",),
    "dark": ("dark",),
}
_FIRST_SCALE = 0.1  # Of the normal distribution that raw directions start from.
_MEMORY = 50  # Steps that the running loss of a direction looks back.


class Directions(nn.Module):
    """One or two unit directions v = d / |d|, each several times from other first values.

    Args:
        shape: Of one latent: (D,), or (N, D) where each of N layers has its own.
        sides: Which directions there are.
        num_seeds: First values of each.
        norm: `per_coordinate` takes |d| over the first axis of the latent, as the released code
            does: for (D,) that is the whole vector, for (N, D) each of D coordinates has norm one
            over the layers, and the direction as a whole is sqrt(D) long. `global` makes it one.
        kind: `learned`; or `random`, which draws a fresh direction at each call.

    Attributes:
        loss: Running loss of each direction, (searched sides, num_seeds).
    """

    loss: Tensor
    steps: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        *,
        sides: Sides = "both",
        num_seeds: int = 1,
        norm: Norm = "per_coordinate",
        kind: Kind = "learned",
    ) -> None:
        super().__init__()
        self.shape, self.norm, self.kind = tuple(shape), norm, kind
        self.sides = _SIDES[sides]
        self.is_tied = sides == "opposite"
        self.searched = self.sides[:1] if self.is_tied else self.sides
        for side in self.searched:
            self.register_parameter(side, nn.Parameter(torch.empty(num_seeds, *self.shape)))
        self.register_buffer("loss", torch.zeros(len(self.searched), num_seeds))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all raw directions anew from 0.1 N(0, 1) and forget their losses."""
        for side in self.searched:
            nn.init.normal_(getattr(self, side), std=_FIRST_SCALE)
        self.loss.zero_()
        self.steps.zero_()

    def unit(self, side: Side, *, generator: torch.Generator | None = None) -> Tensor:
        """All directions (num_seeds, *shape) of `side`, normalised.

        Args:
            side: One of `sides`.
            generator: Source of random directions; equal ones give equal directions.
        """
        source = self.searched[0] if self.is_tied else side
        raw: Tensor = getattr(self, source)
        if self.kind == "random":
            raw = torch.randn(raw.shape, generator=generator).to(raw)
        axes = (1,) if self.norm == "per_coordinate" else tuple(range(1, raw.ndim))
        unit = raw / raw.square().sum(dim=axes, keepdim=True).sqrt()
        return -unit if source != side else unit

    def best(self, side: Side, *, generator: torch.Generator | None = None) -> Tensor:
        """The direction (*shape) of `side` with the lowest running loss."""
        row = 0 if self.is_tied else self.searched.index(side)
        return self.unit(side, generator=generator)[int(self.loss[row].argmin())]

    @torch.no_grad()
    def project(self) -> None:
        """Overwrite every raw direction by its normalised one, as after each step of the search."""
        if self.kind == "learned":
            for side in self.searched:
                getattr(self, side).copy_(self.unit(side))

    @torch.no_grad()
    def observe(self, loss: Tensor) -> None:
        """Take the loss (sides, num_seeds) of one step into the running ones."""
        if self.is_tied:
            loss = loss.sum(dim=0, keepdim=True)
        self.steps += 1
        self.loss += (loss.to(self.loss) - self.loss) / self.steps.clamp(max=_MEMORY)


@dataclass(frozen=True)
class ShiftLength:
    """How far a step of the search goes: max(deviation n + mean, least), n standard normal.

    Attributes:
        mean: See above.
        deviation: See above; the released code calls it a variance.
        least: See above.
        per: Draw one length for each latent `coordinate`, as released, or for each `picture`.
    """

    mean: NonNegativeFloat = 2.0
    deviation: NonNegativeFloat = 0.5
    least: NonNegativeFloat = 0.1
    per: Literal["coordinate", "picture"] = "coordinate"

    def draw(self, vector: Tensor) -> Tensor:
        """Lengths for latents (B, *shape), of a shape that multiplies with theirs."""
        ones = [1] * (vector.ndim - 1)
        size = list(vector.shape) if self.per == "coordinate" else [len(vector), *ones]
        return self.limit(torch.randn(size)).to(vector)

    def limit(self, normal: Tensor) -> Tensor:
        """Lengths of standard normal numbers, any shape."""
        return (self.deviation * normal + self.mean).clamp(min=self.least)
