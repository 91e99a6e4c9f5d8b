"""Spectral norm of published generators: folded into plain weights, or as they compute it.

In evaluation the largest singular value of each weight is a constant, so dividing by it once gives
the same function. `SpectralGenerator` does so while reading a released file, unless told not to.

Weights under spectral norm are known by their names, those of `torch.nn.utils.parametrize`:
`<layer>.parametrizations.weight.original`, and with `.0.u` and `.0.v` the stored singular vectors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from figureground.core.checkpoint import ConvertedWeights
from figureground.core.errors import CheckpointError
from figureground.core.released import read_released
from figureground.generators.base import IGNORED, ImageGenerator
from figureground.generators.blocks import keep_variance
from figureground.generators.renaming import whole_network
from figureground.nn.normalization import SpectralNorm

ORIGINAL = ".parametrizations.weight.original"
_LEFT, _RIGHT = ".parametrizations.weight.0.u", ".parametrizations.weight.0.v"


class IteratedSpectralNorm(nn.Module):
    """Divide a weight by its largest singular value after one power iteration from a stored vector.

    With W seen as a matrix: v = u W / |u W|, u' = v W^T / |v W^T|, sigma = v W^T u'^T. The step is
    made in evaluation too but never stored, so equal inputs give equal outputs.

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


class SpectralGenerator(ImageGenerator, ABC):
    """A family whose released weights are under spectral norm.

    Constructors set `network` and `fold`, whether the norm is computed once, while reading.
    """

    network: nn.Module
    fold: bool

    @classmethod
    @abstractmethod
    def rename(cls, content: Any) -> ConvertedWeights:
        """As `convert`, for the names of `network` alone and with spectral norm as published."""

    @classmethod
    def convert(cls, content: Any) -> ConvertedWeights:
        """Rename a released state dict and fold spectral norm into its weights."""
        with whole_network(cls.card.family):
            found = cls.rename(content)
            folded = fold_state(found.state_dict)
        return replace(found, state_dict={f"network.{key}": x for key, x in folded.items()})

    def initialise(self, weights: str | None) -> None:
        """As `ImageGenerator.initialise`; without `fold`, put the published norm back.

        Raises:
            CheckpointError: Also if the norm in `weights` is folded already.
        """
        if weights is None:
            keep_variance(self.network)
        super().initialise(weights)
        if weights is None or self.fold:
            return
        content = read_released(self.find_file(weights), ignored=IGNORED)
        try:
            state = self.rename(content).state_dict
        except CheckpointError as error:
            raise CheckpointError(
                f"{weights} has its spectral norm folded; give the released file or fold=true"
            ) from error
        add_spectral_norm(self.network, state)
        self.network.load_state_dict(state)
        self.requires_grad_(False)


def add_spectral_norm(network: nn.Module, keys: Iterable[str]) -> None:
    """Put weights of `network` under spectral norm, computed at each use.

    Args:
        network: Changed in place; singular vectors are random.
        keys: Of a state dict with the norm, which says what is under it and what is stored.
    """
    keys = set(keys)
    for name in sorted(key.removesuffix(ORIGINAL) for key in keys if key.endswith(ORIGINAL)):
        layer = network.get_submodule(name)
        norm = _make_norm(getattr(layer, "weight"), name + _RIGHT in keys)  # noqa: B009
        parametrize.register_parametrization(layer, "weight", norm, unsafe=True)
    network.eval()


@torch.no_grad()
def fold_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Replace weights under spectral norm by what they are divided into in evaluation.

    Args:
        state: State dict; see the module's docstring for names.
    """
    folded = {}
    for key, value in state.items():
        if key.endswith(ORIGINAL):
            name = key.removesuffix(ORIGINAL)
            right = state.get(name + _RIGHT)
            norm = _make_norm(value, right is not None).eval()
            stored = {"u": state[name + _LEFT]} | ({} if right is None else {"v": right})
            norm.load_state_dict(stored)
            folded[f"{name}.weight"] = norm(value)
        elif not key.endswith((_LEFT, _RIGHT)):
            folded[key] = value
    return folded


def _make_norm(weight: Tensor, has_both: bool) -> nn.Module:
    return SpectralNorm(weight) if has_both else IteratedSpectralNorm(weight)
