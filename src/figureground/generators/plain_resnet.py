"""Residual generator without normalisation, of Mescheder et al. (2018) and Liu et al. (2020)."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from figureground.generators.blocks import convolve_doubled, double

_SLOPE = 0.2
_RESIDUAL_SCALE = 0.1
#: Channels before and after each pair of blocks, in multiples of the width.
_MULTIPLES = (16, 16, 16, 8, 4, 2, 1)


class ScaledResidualBlock(nn.Module):
    """A shortcut plus a tenth of leaky ReLU, 3x3, leaky ReLU, 3x3.

    Args:
        in_channels: Channels C of the input.
        out_channels: Channels D of the output; where it differs from C the shortcut is 1x1.
        upsample: Whether the input is doubled first.
    """

    def __init__(self, in_channels: int, out_channels: int, *, upsample: bool = False) -> None:
        super().__init__()
        self.upsample = upsample
        hidden = min(in_channels, out_channels)
        self.conv1 = nn.Conv2d(in_channels, hidden, 3, padding=1)
        self.conv2 = nn.Conv2d(hidden, out_channels, 3, padding=1)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map `features` (B, C, H, W) to (B, D, H, W), or (B, D, 2H, 2W) when upsampling."""
        hidden, kept = F.leaky_relu(features, _SLOPE), self.shortcut(features)
        if self.upsample:
            hidden, kept = convolve_doubled(hidden, self.conv1), double(kept)
        else:
            hidden = self.conv1(hidden)
        out: Tensor = kept + _RESIDUAL_SCALE * self.conv2(F.leaky_relu(hidden, _SLOPE))
        return out


class PlainResNetGenerator(nn.Module):
    """Draws images from latents and clusters with residual blocks that normalise nothing.

    Args:
        resolution: Height and width R of the images, a multiple of 32.
        width: Channels at the highest resolution.
        latent_dim: Size D of the latent.
        num_classes: Clusters; 0 for a network without them.
        embedding_dim: Size of the cluster vector, which is brought to length 1.
    """

    def __init__(
        self,
        *,
        resolution: int,
        width: int,
        latent_dim: int,
        num_classes: int,
        embedding_dim: int = 256,
    ) -> None:
        super().__init__()
        self.base = resolution // 32
        channels = [multiple * width for multiple in _MULTIPLES]
        self.embedding = nn.Embedding(num_classes, embedding_dim) if num_classes else None
        in_dim = latent_dim + (embedding_dim if num_classes else 0)
        self.first = nn.Linear(in_dim, channels[0] * self.base**2)
        self.layers = nn.ModuleList(
            nn.Sequential(
                ScaledResidualBlock(before, after, upsample=number > 0),
                ScaledResidualBlock(after, after),
            )
            for number, (before, after) in enumerate(itertools.pairwise(channels))
        )
        self.to_rgb = nn.Conv2d(channels[-1], 3, 3, padding=1)

    def forward(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        """Draw images.

        Args:
            latent: (B, D).
            label: Clusters int64 (B,), if there are any; too large ones count as the last.

        Returns:
            Images (B, 3, R, R) in [-1, 1].
        """
        if self.embedding is not None and label is not None:
            label = label.clamp(max=self.embedding.num_embeddings - 1)
            latent = torch.cat([latent, F.normalize(self.embedding(label), dim=1)], dim=1)
        features = self.first(latent).unflatten(1, (-1, self.base, self.base))
        for pair in self.layers:
            features = pair(features)
        return torch.tanh(self.to_rgb(F.leaky_relu(features, _SLOPE)))
