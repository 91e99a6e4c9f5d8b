"""Drawn pictures and masks as bytes."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

#: `nearest` is ILSGAN's (and L2IC's) rounding of colours, `down` gan-segmenter's.
Rounding = Literal["nearest", "down"]


def quantize(color: Tensor, rounding: Rounding = "nearest") -> Tensor:
    """Turn colours in [-1, 1] into uint8, whatever lies outside being cut off."""
    half = 0.5 if rounding == "nearest" else 0.0
    return (color.float() * 127.5 + (127.5 + half)).clamp(0, 255).to(torch.uint8)


def quantize_share(share: Tensor) -> Tensor:
    """Turn shares in [0, 1] into uint8, rounded: a half becomes 128."""
    return (share.float() * 255 + 0.5).clamp(0, 255).to(torch.uint8)
