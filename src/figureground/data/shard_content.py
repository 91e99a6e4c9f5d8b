"""Drawn pictures and masks as bytes."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from figureground.data.fitting import fit_pixels
from figureground.data.samples import Pixels

#: `nearest` is ILSGAN's (and L2IC's) rounding of colours, `down` gan-segmenter's.
Rounding = Literal["nearest", "down"]

#: Part of a shard with hard masks, eight pixels of a row in a byte; in the place of `mask`.
BITS = "mask_bits"


def quantize(color: Tensor, rounding: Rounding = "nearest") -> Tensor:
    """Turn colours in [-1, 1] into uint8, whatever lies outside being cut off."""
    half = 0.5 if rounding == "nearest" else 0.0
    return (color.float() * 127.5 + (127.5 + half)).clamp(0, 255).to(torch.uint8)


def quantize_share(share: Tensor) -> Tensor:
    """Turn shares in [0, 1] into uint8, rounded: a half becomes 128."""
    return (share.float() * 255 + 0.5).clamp(0, 255).to(torch.uint8)


def shrink(image: Pixels, share: Pixels, resolution: int) -> tuple[Pixels, Pixels]:
    """Shrink pictures (B, H, W, 3) and shares (B, H, W), uint8, to a side, as for learning.

    Pictures that are not larger stay as they are.
    """
    if max(image.shape[1:3]) <= resolution:
        return image, share
    pairs = [fit_pixels(*pair, resolution) for pair in zip(image, share, strict=True)]
    images, shares = zip(*pairs, strict=True)
    return np.stack(images), np.stack(shares)


def pack(parts: dict[str, Pixels]) -> dict[str, Pixels]:
    """Store masks (B, H, W) as bits where all are hard; other parts as they are."""
    mask = parts["mask"]
    if not ((mask == 0) | (mask == 255)).all():
        return parts
    rest = {name: part for name, part in parts.items() if name != "mask"}
    return {**rest, BITS: np.packbits(mask > 0, axis=2)}


def unpack(bits: Pixels, shape: tuple[int, int]) -> Pixels:
    """Unpack one mask of `shape` (H, W): 0 and 255.

    Raises:
        ValueError: The bits are those of another shape.
    """
    if bits.dtype != np.uint8 or bits.shape != (shape[0], -(-shape[1] // 8)):
        raise ValueError(f"{BITS} has {bits.dtype} {bits.shape} for a picture of {shape}")
    return np.unpackbits(bits, axis=1, count=shape[1]) * np.uint8(255)
