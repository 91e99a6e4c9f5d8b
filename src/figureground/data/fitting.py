"""Pairs at the size that a network learns at."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from figureground.data.samples import Pixels


def fit_pair(image: Tensor, share: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """Resize pictures bilinearly without antialias, masks to the nearest (gan-segmenter's rule).

    Args:
        image: (B, 3, H, W).
        share: (B, H, W).
        resolution: Side S.

    Returns:
        (B, 3, S, S) and (B, S, S).
    """
    size = (resolution, resolution)
    if image.shape[2:] == size:
        return image, share
    image = F.interpolate(image, size, mode="bilinear", align_corners=False)
    return image, F.interpolate(share[:, None], size, mode="nearest")[:, 0]


def fit_pixels(image: Pixels, share: Pixels, resolution: int) -> tuple[Pixels, Pixels]:
    """As `fit_pair`, one picture in bytes.

    Args:
        image: (H, W, 3) uint8.
        share: Times 255, (H, W) uint8.
        resolution: Side S.

    Returns:
        (S, S, 3) and (S, S), uint8, colours rounded to the nearest.
    """
    pixels = torch.tensor(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    shares = torch.tensor(np.ascontiguousarray(share))[None].float()
    resized, soft = fit_pair(pixels, shares, resolution)
    colors = resized[0].permute(1, 2, 0).round().to(torch.uint8)
    return colors.contiguous().numpy(), soft[0].to(torch.uint8).numpy()
