"""Learned densities q(x | y) of a hidden layer given a visible one, for the learned bounds."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from figureground.methods.ilsgan.independence import Independence
from figureground.methods.ilsgan.pixelcnn import PixelDensity


class LayerDensity(nn.Module):
    """U-Net from one layer to mean and log-scale of the other, pixel by pixel.

    Serves both families: for Laplace densities the scale is b, for normal ones the variance.

    Args:
        width: Channels at full resolution; 64 in the paper.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.stem = ConvolutionPair(3, width)
        self.down = nn.ModuleList(
            ConvolutionPair(i * width, o * width) for i, o in ((1, 2), (2, 4), (4, 4), (4, 4))
        )
        self.up = nn.ModuleList(
            ConvolutionPair(i * width, o * width) for i, o in ((8, 4), (8, 2), (4, 1), (2, 1))
        )
        self.mean = _make_head(width)
        self.log_scale = _make_head(width)

    def forward(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-scale in [-1, 1], each (B, 3, S, S), for `condition` (B, 3, S, S).

        S must be a multiple of 16.
        """
        features = [self.stem(condition)]
        for block in self.down:
            features.append(block(F.max_pool2d(features[-1], 2)))
        x = features.pop()
        for block in self.up:
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)
            x = block(torch.cat([features.pop(), x], dim=1))
        return self.mean(x), self.log_scale(x).tanh()


def make_densities(options: Independence | None, width: int | None) -> nn.ModuleList:
    """Make the densities that `options` asks for, of `width` channels at full size.

    Without a width they have the authors', 64, and 80 of those that draw pixel by pixel.
    """
    kind = PixelDensity if options is not None and options.is_autoregressive else LayerDensity
    count = options.num_densities if options else 0
    return nn.ModuleList(kind() if width is None else kind(width) for _ in range(count))


class ConvolutionPair(nn.Module):
    """Twice: 3x3 convolution, batch normalisation, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv_a = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm_a = nn.BatchNorm2d(out_channels)
        self.conv_b = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.norm_b = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H, W)."""
        x = F.relu(self.norm_a(self.conv_a(x)))
        return F.relu(self.norm_b(self.conv_b(x)))


def _make_head(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, 3, 1))
