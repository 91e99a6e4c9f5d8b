"""The convolutional networks of SNGAN (Miyato et al. 2018, table 3), in the manner of DCGAN.

Maps of side s have min(S / s, 8) times the base width for pictures of side S, down to 4 x 4. The
generator has batch normalisation, the discriminator spectral norm.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from figureground.nn.normalization import spectral_norm

_SMALLEST_MAP = 4
_WIDEST = 8  # Times the base width.
_SLOPE = 0.1
_STD = 0.02  # Of the generator's first weights, as in DCGAN.


def channel_counts(resolution: int, width: int) -> list[int]:
    """Channels of the maps of side 4, 8, ..., `resolution`."""
    count = (resolution // _SMALLEST_MAP).bit_length()
    return [width * min(2**power, _WIDEST) for power in reversed(range(count))]


class ConvGenerator(nn.Module):
    """Latents to pictures: a dense layer to 4 x 4 maps, then transposed convolutions.

    Args:
        resolution: Side S of the pictures, a power of two from 8 on.
        latent_dim: Size D of latents.
        width: Channels at full resolution.
    """

    def __init__(self, resolution: int, *, latent_dim: int, width: int = 64) -> None:
        super().__init__()
        channels = channel_counts(resolution, width)
        self.first = nn.Linear(latent_dim, channels[0] * _SMALLEST_MAP**2)
        layers: list[nn.Module] = [nn.BatchNorm2d(channels[0]), nn.ReLU()]
        for before, after in itertools.pairwise(channels):
            layers.append(nn.ConvTranspose2d(before, after, 4, stride=2, padding=1))
            layers += [nn.BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.to_rgb = nn.Conv2d(channels[-1], 3, 3, padding=1)
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, std=_STD)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, latent: Tensor, *, truncation: float = 1.0, **_: Any) -> Tensor:
        """Draw pictures.

        Args:
            latent: (B, D), standard normal.
            truncation: Latents are multiplied by this; at 0 all pictures are the same.

        Returns:
            (B, 3, S, S) in [-1, 1].
        """
        features = self.first(truncation * latent).unflatten(1, (-1, _SMALLEST_MAP, _SMALLEST_MAP))
        return torch.tanh(self.to_rgb(self.layers(features)))


class ConvDiscriminator(nn.Module):
    """Score pictures, larger for "looks real".

    For each halving a 3x3 and a strided 4x4 convolution, a last 3x3 one, and a dense layer.

    Args:
        resolution: Side S of the pictures, a power of two from 8 on.
        width: Channels at full resolution.
        use_spectral_norm: Whether all weights are divided by their largest singular value.
    """

    def __init__(self, resolution: int, *, width: int = 64, use_spectral_norm: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        *halved, last = reversed(channel_counts(resolution, width))
        for after in halved:
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.LeakyReLU(_SLOPE)]
            layers += [nn.Conv2d(after, after, 4, stride=2, padding=1), nn.LeakyReLU(_SLOPE)]
            before = after
        layers += [nn.Conv2d(before, last, 3, padding=1), nn.LeakyReLU(_SLOPE), nn.Flatten()]
        layers.append(nn.Linear(last * _SMALLEST_MAP**2, 1))
        if use_spectral_norm:
            for layer in layers:
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    spectral_norm(layer)
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        """Scores (B,) of pictures (B, 3, S, S)."""
        score: Tensor = self.layers(image)
        return score.squeeze(1)
