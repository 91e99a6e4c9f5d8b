"""Weight initialisation schemes shared by the methods."""

from __future__ import annotations

from torch import nn


def orthogonal_(module: nn.Module, gain: float = 1.0) -> None:
    """Make every convolution and dense weight below `module` orthogonal, in place.

    Weights are seen as matrices (out, in * kernel area) whose singular values all become `gain`;
    biases keep what they have. A weight under a parametrization has its underlying tensor set.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            parametrized = getattr(layer, "parametrizations", None)
            weight = layer.weight if parametrized is None else parametrized.weight.original
            nn.init.orthogonal_(weight, gain)
