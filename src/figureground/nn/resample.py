"""Convolutions fused with the resampling beside them: same result, fewer multiplications.

Nearest upsampling repeats pixels and average pooling sums them, so a convolution next to either
multiplies the same numbers several times. Moving the repetition into the (tiny) kernel is exact up
to rounding and leaves 4/9 of the products for a 3x3 kernel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# A 3-tap kernel followed by the sum of two neighbours, as one 4-tap kernel.
_SPREAD_1D = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
# The same in two dimensions, from 9 to 16 taps, and with the taps in reverse order.
_SPREAD = torch.kron(_SPREAD_1D, _SPREAD_1D).T.contiguous()
_SPREAD_REVERSED = _SPREAD.flip(1)


def upsample_conv3x3(image: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve the nearest-upsampled (x2) image with a 3x3 kernel and zero padding 1.

    Equal to `conv2d(interpolate(image, scale_factor=2), weight, bias, padding=1)`.

    Args:
        image: (B, C, H, W).
        weight: (N, C, 3, 3).
        bias: (N,) or None.

    Returns:
        (B, N, 2H, 2W).
    """
    kernel = _spread(weight, _SPREAD_REVERSED).transpose(0, 1)
    return F.conv_transpose2d(image, kernel, bias, stride=2, padding=1)


def conv3x3_downsample(image: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve with a 3x3 kernel and zero padding 1, then average 2x2 blocks.

    Equal to `avg_pool2d(conv2d(image, weight, bias, padding=1), 2)`.

    Args:
        image: (B, C, H, W), H and W even.
        weight: (N, C, 3, 3).
        bias: (N,) or None.

    Returns:
        (B, N, H/2, W/2).
    """
    return F.conv2d(image, _spread(weight, 0.25 * _SPREAD), bias, stride=2, padding=1)


def _spread(weight: Tensor, spread: Tensor) -> Tensor:
    """Apply `spread` (9, 16) to the taps of a kernel: (N, C, 3, 3) to (N, C, 4, 4)."""
    return (weight.flatten(2) @ spread.to(weight)).view(*weight.shape[:2], 4, 4)
