"""The losses of the papers' segmentation networks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from figureground.nn.precision import widen

_EPSILON = 1e-6  # L2IC's, inside both logarithms.


def cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Mean two-class cross-entropy (ILSGAN, gan-segmenter).

    Args:
        logits: (B, 2, H, W).
        mask: (B, H, W) int64, 0 = background, 1 = object.

    Returns:
        Scalar.
    """
    return F.cross_entropy(widen(logits), mask)


def binary_entropy(logits: Tensor, share: Tensor) -> Tensor:
    """Mean of -m log2(p + e) - (1 - m) log2(1 - p + e), e = 1e-6 (L2IC, section 4.3 of its spec).

    Args:
        logits: p before the sigmoid, (B, H, W).
        share: Soft mask m of the object, (B, H, W), in [0, 1].

    Returns:
        Scalar, in bits per pixel.
    """
    p = widen(logits).sigmoid()
    bits = share * torch.log2(p + _EPSILON) + (1 - share) * torch.log2(1 - p + _EPSILON)
    return -bits.mean()


def mask_distance(logits: Tensor, share: Tensor) -> Tensor:
    """Mean of |p - m| (DS-ComGAN); arguments as of `binary_entropy`."""
    return (widen(logits).sigmoid() - share).abs().mean()
