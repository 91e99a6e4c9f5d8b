"""The strided convolutions that C3-GAN, ComGAN and L2IC look at pictures by."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

LEAK = 0.2  # Slope of leaky ReLUs.


class PictureBase(nn.Module):
    """Pictures down to 4x4 maps by convolutions of stride two, then one of stride one.

    Args:
        resolution: Side S, a power of two from 8 on.
        width: Channels after the first convolution, doubled up to eight times as many.
    """

    def __init__(self, resolution: int, width: int) -> None:
        super().__init__()
        num_halvings = (resolution // 4).bit_length() - 1
        widths = [3, *(width * min(2**step, 8) for step in range(num_halvings))]
        self.convs = nn.ModuleList(
            nn.Conv2d(one, other, 4, 2, 1, bias=False) for one, other in pairwise(widths)
        )
        self.convs.append(nn.Conv2d(widths[-1], 8 * width, 3, 1, 1, bias=False))
        # The first convolution has none.
        self.norms = nn.ModuleList(nn.BatchNorm2d(size) for size in (*widths[2:], 8 * width))

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 3, S, S) to (B, 8 * width, 4, 4)."""
        features = F.leaky_relu(self.convs[0](image), LEAK)
        for conv, norm in zip(self.convs[1:], self.norms, strict=True):
            features = F.leaky_relu(norm(conv(features)), LEAK)
        return features
