"""Spectral norm of published generators: as they compute it, and folded into plain weights.

In evaluation the largest singular value of each weight is a constant, so dividing by it once gives
the same function. `add_spectral_norm` makes a network compute it at each call, as published;
`fold_spectral_norm` undoes this and keeps the divided weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from figureground.nn.normalization import spectral_norm

#: `stored`: both singular vectors are in the file; `iterated`: one is, and each call makes a step.
SpectralNormFlavour = Literal["stored", "iterated"]


class IteratedSpectralNorm(nn.Module):
    """Divide a weight by its largest singular value after one power iteration from a stored vector.

    With rows w of W: v = u W / |u W|, u' = v W^T / |v W^T|, sigma = v W^T u'^T. The step is made in
    evaluation too but never stored, so equal inputs give equal outputs.

    Args:
        weight: The weight to normalise, (out, ...); seen as a matrix (out, rest).
        eps: Lower bound of the lengths divided by.
    """

    def __init__(self, weight: Tensor, eps: float = 1e-4) -> None:
        super().__init__()
        self.eps = eps
        start = torch.randn_like(weight.detach().flatten(1)[:, 0])
        self.register_buffer("u", F.normalize(start, dim=0))
        self.u: Tensor

    def forward(self, weight: Tensor) -> Tensor:
        """Return `weight` divided by the estimate of its largest singular value."""
        matrix = weight.detach().flatten(1)
        v = F.normalize(self.u @ matrix, dim=0, eps=self.eps)
        product = matrix @ v
        return weight / (product @ F.normalize(product, dim=0, eps=self.eps))


def add_spectral_norm(network: nn.Module, flavour: SpectralNormFlavour) -> None:
    """Divide all weights of `network` except `embedding` at each use, as published."""
    for layer in _normalised_layers(network):
        if flavour == "stored":
            spectral_norm(layer, "left_first")
        else:
            norm = IteratedSpectralNorm(layer.weight)
            parametrize.register_parametrization(layer, "weight", norm, unsafe=True)


def fold_spectral_norm(network: nn.Module) -> None:
    """Replace the weights of `network` by what they are divided into in evaluation."""
    network.eval()
    for layer in list(network.modules()):
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)


def _normalised_layers(network: nn.Module) -> Iterator[nn.Conv2d | nn.Linear | nn.Embedding]:
    for name, layer in list(network.named_modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.Embedding) and name != "embedding":
            yield layer
