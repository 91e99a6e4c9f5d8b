"""Random changes of training pairs, as ILSGAN trains its U-Net (section 6.2 of its spec).

Operations are those of StyleGAN2-ADA (Karras et al. 2020), each drawn for each picture and left
out with probability one half; `photo` has milder ones of its own.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from figureground.core.types import VOID
from figureground.methods.segmenter.photo import compress_some, draw_view, jitter

Augmentation = Literal["none", "color", "geom", "gc", "photo"]

_PROBABILITY = 0.5  # Of each operation.
_BRIGHTNESS, _CONTRAST, _SATURATION = 0.2, 0.5, 1.0  # Standard deviations; the last two in octaves.
_SCALE, _SHIFT = 0.2, 0.125  # In octaves, and in coordinates from -1 to 1.


def augment_pairs(kind: Augmentation, image: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Change pictures and their masks by random numbers of the global generator.

    Args:
        kind: `color` leaves the masks alone, `geom` warps both, `gc` warps, then changes colours;
            `photo` is flip, zoom, mild colours and JPEG, see `photo`.
        image: (B, 3, H, W).
        share: Masks (B, H, W): int64 in {0, 1}, void pixels `VOID`; or soft ones in [0, 1], void
            pixels NaN. Whatever a void pixel falls into is void.

    Returns:
        Both, changed; colours may leave [-1, 1].
    """
    if kind == "photo":
        matrix = draw_view(len(image), min(image.shape[2:])).to(image)
        image, share = warp(image, matrix), warp_mask(share, matrix)
        return compress_some(jitter(image)), share
    if kind in {"geom", "gc"}:
        matrix = draw_geometry(len(image)).to(image)
        image, share = warp(image, matrix), warp_mask(share, matrix)
    if kind in {"color", "gc"}:
        image = change_colors(image, draw_colors(len(image)).to(image))
    return image, share


def draw_colors(count: int) -> Tensor:
    """Draw brightness, contrast, luma flip, hue and saturation in this order, (B, 4, 4)."""
    identity = torch.eye(4).expand(count, 4, 4)
    axis = torch.tensor([1.0, 1.0, 1.0, 0.0]) / math.sqrt(3)  # The axis of greys.
    gray = torch.outer(axis, axis)
    brightness = _gate(_BRIGHTNESS * torch.randn(count), 0.0)
    matrix = identity.clone()
    matrix[:, :3, 3] = brightness[:, None]
    contrast = _gate(2 ** (_CONTRAST * torch.randn(count)), 1.0)
    scale = torch.stack([contrast, contrast, contrast, torch.ones(count)], dim=1)
    matrix = torch.diag_embed(scale) @ matrix
    flip = _gate(torch.randint(2, (count,)).float(), 0.0)
    matrix = (identity - 2 * gray * flip.view(-1, 1, 1)) @ matrix
    matrix = _rotate_hue(_gate(_uniform_angle(count), 0.0), axis) @ matrix
    saturation = _gate(2 ** (_SATURATION * torch.randn(count)), 1.0).view(-1, 1, 1)
    return (gray + (identity - gray) * saturation) @ matrix


def draw_geometry(count: int) -> Tensor:
    """Draw flip, scale, rotation and shift; (B, 3, 3) maps output to input coordinates."""
    zero, one = torch.zeros(count), torch.ones(count)
    flip = 1 - 2 * _gate(torch.randint(2, (count,)).float(), 0.0)
    matrix = _stack([flip, zero, zero, zero, one, zero])
    scale = _gate(2 ** (_SCALE * torch.randn(count)), 1.0)
    matrix = matrix @ _stack([1 / scale, zero, zero, zero, 1 / scale, zero])
    angle = _gate(_uniform_angle(count), 0.0)
    cos, sin = angle.cos(), angle.sin()
    matrix = matrix @ _stack([cos, sin, zero, -sin, cos, zero])  # Back by what it turns forth.
    x, y = _gate(_SHIFT * torch.randn(2, count), 0.0)
    return matrix @ _stack([one, zero, -x, zero, one, -y])


def change_colors(image: Tensor, matrix: Tensor) -> Tensor:
    """Apply (B, 4, 4) to the colours of (B, 3, H, W)."""
    colors = matrix[:, :3, :3] @ image.flatten(2) + matrix[:, :3, 3:]
    return colors.view_as(image)


def warp(image: Tensor, matrix: Tensor) -> Tensor:
    """Sample (B, C, H, W) bilinearly where (B, 3, 3) points to, zeros outside."""
    grid = F.affine_grid(matrix[:, :2], list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, align_corners=False)


def warp_mask(share: Tensor, matrix: Tensor) -> Tensor:
    """Warp masks (B, H, W): soft ones as pictures, hard ones one-hot and decided again."""
    if share.is_floating_point():
        return warp(share.unsqueeze(1), matrix)[:, 0].clamp(0, 1)
    known = share.to(matrix).masked_fill(share == VOID, math.nan)
    # Outside the picture both classes are zero, which is background.
    ground, figure = warp(torch.stack([1 - known, known], dim=1), matrix).unbind(dim=1)
    return (figure > ground).long().masked_fill(figure.isnan(), VOID)


def _gate(values: Tensor, neutral: float) -> Tensor:
    """Replace what a coin rules out by the neutral value, one coin for each of the last size."""
    return torch.where(torch.rand(values.shape[-1]) < _PROBABILITY, values, neutral)


def _uniform_angle(count: int) -> Tensor:
    return (2 * torch.rand(count) - 1) * math.pi


def _rotate_hue(angle: Tensor, axis: Tensor) -> Tensor:
    """Rotate colours about `axis` (Rodrigues' formula), (B, 4, 4)."""
    x, y, z, _ = axis.tolist()
    cross = torch.zeros(4, 4)
    cross[:3, :3] = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    along = torch.outer(axis, axis)
    across = torch.diag(torch.tensor([1.0, 1.0, 1.0, 0.0])) - along
    sin, cos = angle.sin().view(-1, 1, 1), angle.cos().view(-1, 1, 1)
    rotation = along + cos * across + sin * cross
    rotation[:, 3, 3] = 1
    return rotation


def _stack(rows: list[Tensor]) -> Tensor:
    """Build (B, 3, 3) from the six numbers of the upper two rows."""
    matrix = torch.zeros(len(rows[0]), 3, 3)
    matrix[:, :2] = torch.stack(rows, dim=1).view(-1, 2, 3)
    matrix[:, 2, 2] = 1
    return matrix
