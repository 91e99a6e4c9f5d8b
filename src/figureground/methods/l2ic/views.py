"""Augmented views of pictures, as contrastive learning compares them (Chen et al. 2020).

A part of 0.2 to 1 of the area, enlarged again; flips; with probability 0.8 changes of brightness,
contrast, saturation and hue; with 0.2 greys. All on the device of the pictures, by random numbers
of the global generator on the CPU.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_SMALLEST_AREA, _RATIO = 0.2, 4 / 3
_FLIP, _JITTER, _GREY = 0.5, 0.8, 0.2  # Probabilities.
_STRENGTH, _HUE = 0.4, 0.1  # Relative changes of colours; share of the colour circle.
_LUMA = (0.299, 0.587, 0.114)


def augment_view(image: Tensor) -> Tensor:
    """Draw a view of each of `image` (B, 3, S, S), in [-1, 1]; same shape and range."""
    view = crop_and_flip(image, draw_crops(len(image)))
    return (2 * change_colors((view + 1) / 2, draw_colors(len(image))) - 1).clamp(-1, 1)


def draw_crops(count: int) -> Tensor:
    """Draw where to look, (count, 2, 3): maps from output to input coordinates, some mirrored."""
    area = _SMALLEST_AREA + (1 - _SMALLEST_AREA) * torch.rand(count)
    ratio = torch.exp(math.log(_RATIO) * (2 * torch.rand(count) - 1))
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    x, y = (1 - width) * (2 * torch.rand(count) - 1), (1 - height) * (2 * torch.rand(count) - 1)
    flip = torch.where(torch.rand(count) < _FLIP, -1.0, 1.0)
    none = torch.zeros(count)
    return torch.stack([flip * width, none, x, none, height, y], dim=1).view(count, 2, 3)


def draw_colors(count: int) -> Tensor:
    """Draw factors of brightness, contrast, saturation, turns of hue and shares of grey.

    Returns:
        (5, count); neutral is 1, 1, 1, 0, 0.
    """
    factors = 1 + _STRENGTH * (2 * torch.rand(3, count) - 1)
    hue = _HUE * (2 * torch.rand(1, count) - 1)
    changes = torch.cat([factors, hue])
    neutral = torch.tensor([1.0, 1.0, 1.0, 0.0])[:, None]
    changes = torch.where(torch.rand(count) < _JITTER, changes, neutral)
    return torch.cat([changes, (torch.rand(1, count) < _GREY).float()])


def crop_and_flip(image: Tensor, crops: Tensor) -> Tensor:
    """Look at (B, C, S, S) through (B, 2, 3)."""
    grid = F.affine_grid(crops.to(image), list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, padding_mode="border", align_corners=False)


def change_colors(image: Tensor, colors: Tensor) -> Tensor:
    """Apply `draw_colors`, in this order, to (B, 3, S, S) in [0, 1]."""
    brightness, contrast, saturation, hue, grey = colors.to(image)[:, :, None, None, None]
    image = (image * brightness).clamp(0, 1)
    mean = _luma(image).mean(dim=(1, 2, 3), keepdim=True)
    image = (mean + contrast * (image - mean)).clamp(0, 1)
    luma = _luma(image)
    image = (luma + saturation * (image - luma)).clamp(0, 1)
    image = turn_hue(image, hue)
    return torch.lerp(image, _luma(image).expand_as(image), grey)


def _luma(image: Tensor) -> Tensor:
    weights = image.new_tensor(_LUMA)[:, None, None]
    return (image * weights).sum(dim=1, keepdim=True)


def turn_hue(image: Tensor, share: Tensor) -> Tensor:
    """Turn the hue of (B, 3, H, W) in [0, 1] by `share` (B, 1, 1, 1) of the circle (HSV)."""
    value, low = image.amax(dim=1, keepdim=True), image.amin(dim=1, keepdim=True)
    chroma = value - low
    red, green, blue = torch.split(image, 1, dim=1)
    scale = chroma.clamp(min=1e-8)
    sector = torch.where(
        value == red,
        (green - blue) / scale,
        torch.where(value == green, 2 + (blue - red) / scale, 4 + (red - green) / scale),
    )
    places = (image.new_tensor([5.0, 3.0, 1.0])[:, None, None] + sector + 6 * share) % 6
    return value - chroma * torch.minimum(places, 4 - places).clamp(0, 1)
