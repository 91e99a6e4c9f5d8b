"""What makes optimisers, and one for players whose loss has a penalty that steps now and then."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.optim import Optimizer

from figureground.core.bounds import Count, Fraction, PositiveFloat

#: What makes the optimiser of a player from its parameters: a partial of any torch optimiser.
OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]


class LazyAdam(torch.optim.Adam):
    """Adam that keeps its pace although a penalty adds a step after every k of the others.

    With c = k / (k + 1) the learning rate becomes c lr, and each beta is raised to the power of c
    (Karras et al. 2020, appendix B).

    Args:
        params: What it moves.
        every: k; 0 for a player without such a penalty.
        lr: Learning rate without penalty.
        betas: Decays of both averages without penalty.
        eps: See Adam.
        fused: See Adam.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        *,
        every: Count,
        lr: PositiveFloat = 0.0025,
        betas: tuple[Fraction, Fraction] = (0.0, 0.99),
        eps: PositiveFloat = 1e-8,
        fused: bool | None = None,
    ) -> None:
        pace = every / (every + 1) if every else 1.0
        slowed = (betas[0] ** pace, betas[1] ** pace)
        super().__init__(params, lr=lr * pace, betas=slowed, eps=eps, fused=fused)
