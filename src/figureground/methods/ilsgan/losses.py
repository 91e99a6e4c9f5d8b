"""What keeps masks from being grey or empty; see `independence` for the paper's own loss."""

from __future__ import annotations

import torch
from torch import Tensor


def mask_binarity(mask: Tensor) -> Tensor:
    """Mean over pixels of min(m, 1 - m), (B,), of `mask` (B, 1, H, W) in [0, 1]."""
    return torch.minimum(mask, 1 - mask).flatten(1).mean(dim=1)


def mask_shortage(mask: Tensor, floor: float = 0.25) -> Tensor:
    """What the area of `mask` (B, 1, H, W) lacks to `floor`, max(0, floor - mean m), (B,)."""
    return (floor - mask.flatten(1).mean(dim=1)).clamp(min=0)
