"""Residual generator networks of SNGAN, SAGAN, ACGAN, BigGAN, ContraGAN and BigBiGAN.

One network: a dense layer to 4x4 maps, one `ResidualBlock` for each doubling, attention after one
of them, and norm, ReLU, 3x3, tanh. What differs is widths and what the blocks are conditioned on:

- `none`: nothing;
- `class`: the class, by a table in each normalisation (SNGAN and its line);
- `shared`: one class vector for all blocks, joined with a chunk of the latent for each (BigGAN).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from figureground.generators.blocks import (
    Condition,
    ConditionalBatchNorm,
    ResidualBlock,
)
from figureground.nn.attention import PooledSelfAttention

Conditioning = Literal["none", "class", "shared"]


class ResNetGenerator(nn.Module):
    """Draws images from latents and classes with residual blocks.

    Args:
        multiples: Channels, in multiples of `width`, of the 4x4 maps and after each block; every
            block doubles the resolution.
        width: Channels that `multiples` are multiples of.
        latent_dim: Size D of the latent; with `shared` conditioning a multiple of the number of
            blocks plus 1.
        num_classes: Classes K.
        conditioning: What the blocks depend on.
        embedding_dim: Size E of the class vector with `shared` conditioning.
        attention_after: Number of blocks before self-attention; None for no attention.
        eps: Added to variances by the blocks.
        output_eps: Added to variances by the last normalisation.
    """

    def __init__(
        self,
        *,
        multiples: Sequence[int],
        width: int,
        latent_dim: int,
        num_classes: int,
        conditioning: Conditioning = "shared",
        embedding_dim: int = 128,
        attention_after: int | None = None,
        eps: float = 1e-4,
        output_eps: float = 1e-4,
    ) -> None:
        super().__init__()
        channels = [multiple * width for multiple in multiples]
        num_chunks = len(channels) if conditioning == "shared" else 1
        self.conditioning: Conditioning = conditioning
        self.chunk_dim = latent_dim // num_chunks
        if conditioning == "shared":
            self.embedding = nn.Embedding(num_classes, embedding_dim)
            condition = Condition("vector", embedding_dim + self.chunk_dim, eps)
        else:
            condition = Condition(conditioning, num_classes, eps)
        self.first = nn.Linear(self.chunk_dim, channels[0] * 16)
        layers: list[nn.Module] = [
            ResidualBlock(*pair, condition) for pair in itertools.pairwise(channels)
        ]
        if attention_after is not None:
            attention = PooledSelfAttention(channels[attention_after], norm_order=None)
            layers.insert(attention_after, attention)
        self.layers = nn.ModuleList(layers)
        self.norm = ConditionalBatchNorm(channels[-1], Condition(eps=output_eps))
        self.to_rgb = nn.Conv2d(channels[-1], 3, 3, padding=1)

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        """Draw images.

        Args:
            latent: (B, D).
            label: Classes int64 (B,), if there are any.

        Returns:
            Images (B, 3, R, R) in [-1, 1].
        """
        first, *chunks = torch.split(latent, self.chunk_dim, dim=1)
        conditions = iter([label] * len(self.layers))
        if self.conditioning == "shared":
            vector = self.embedding(label)  # (B, E)
            conditions = iter([torch.cat([vector, chunk], dim=1) for chunk in chunks])
        features = self.first(first).unflatten(1, (-1, 4, 4))
        for layer in self.layers:
            if isinstance(layer, ResidualBlock):
                features = layer(features, next(conditions))
            else:
                features = layer(features)
        return torch.tanh(self.to_rgb(F.relu(self.norm(features, label))))
