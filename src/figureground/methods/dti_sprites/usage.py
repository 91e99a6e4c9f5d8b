"""How often each sprite is chosen."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot


class SpriteUsage(nn.Module):
    """Running share of pictures that choose each sprite, layer by layer.

    Each process counts the pictures of all, so that the counts of any one are those to go on from.

    Args:
        num_layers: L.
        num_choices: K, the empty sprite included.
    """

    def __init__(self, num_layers: int, num_choices: int) -> None:
        super().__init__()
        self.register_buffer("chosen", torch.zeros(num_layers, num_choices))
        # For pictures only: counts before the latest `clear`, so that a chart is never empty.
        self.register_buffer("before", torch.zeros(num_layers, num_choices), persistent=False)
        self.chosen: Tensor
        self.before: Tensor

    @torch.no_grad()
    def update(self, choice: Tensor, strategy: Any = None) -> None:
        """Take in choices (B, L), of all processes if `strategy` is given."""
        counts = one_hot(choice, self.chosen.shape[1]).sum(dim=0).to(self.chosen)
        if strategy is not None:
            counts = strategy.reduce(counts, reduce_op="sum")
        self.chosen += counts

    def shares(self, layers: str) -> Tensor:
        """Usage (K,) in one `random` layer or the `mean` of all."""
        chosen = self.chosen
        shares = chosen / chosen.sum(dim=1, keepdim=True).clamp(min=1)
        if layers == "mean" or len(shares) == 1:
            return shares.mean(dim=0)
        return shares[int(torch.randint(len(shares), ()))]

    def recent(self) -> Tensor:
        """Usage (K,) over all layers since the `clear` before the latest."""
        counts = (self.chosen + self.before).sum(dim=0)
        return counts / counts.sum().clamp(min=1)

    def clear(self) -> None:
        """Start anew."""
        self.before.copy_(self.chosen)
        self.chosen.zero_()

    def reset_parameters(self) -> None:
        """Forget everything."""
        self.before.zero_()
        self.chosen.zero_()
