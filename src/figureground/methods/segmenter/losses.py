"""The losses of the papers' segmentation networks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from figureground.nn.precision import widen

_EPSILON = 1e-6  # L2IC's, inside both logarithms.


def cross_entropy(logits: Tensor, mask: Tensor, unsure: Tensor | None = None) -> Tensor:
    """Mean two-class cross-entropy (ILSGAN, gan-segmenter).

    Args:
        logits: (B, 2, H, W).
        mask: (B, H, W) int64, 0 = background, 1 = object.
        unsure: Pixels that do not count, (B, H, W) bool; None counts all.

    Returns:
        Scalar.
    """
    if unsure is None:
        return F.cross_entropy(widen(logits), mask)
    each = F.cross_entropy(widen(logits), mask, reduction="none")
    return _mean_of_sure(each, unsure)


def binary_entropy(logits: Tensor, share: Tensor, unsure: Tensor | None = None) -> Tensor:
    """Mean of -m log2(p + e) - (1 - m) log2(1 - p + e), e = 1e-6 (L2IC, section 4.3 of its spec).

    Args:
        logits: p before the sigmoid, (B, H, W).
        share: Soft mask m of the object, (B, H, W), in [0, 1].
        unsure: Pixels that do not count, (B, H, W) bool; None counts all.

    Returns:
        Scalar, in bits per pixel.
    """
    p = widen(logits).sigmoid()
    bits = share * torch.log2(p + _EPSILON) + (1 - share) * torch.log2(1 - p + _EPSILON)
    return -bits.mean() if unsure is None else -_mean_of_sure(bits, unsure)


def _mean_of_sure(values: Tensor, unsure: Tensor) -> Tensor:
    return values.masked_fill(unsure, 0).sum() / (~unsure).sum().clamp(min=1)


def mask_distance(logits: Tensor, share: Tensor, unsure: Tensor | None = None) -> Tensor:
    """Mean of |p - m| (DS-ComGAN); arguments as of `binary_entropy`."""
    each = (widen(logits).sigmoid() - share).abs()
    return each.mean() if unsure is None else _mean_of_sure(each, unsure)
