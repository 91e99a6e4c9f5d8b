"""How C3-GAN moves foregrounds before composing: no background can hold what moves."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from figureground.methods.l2ic.composition import ComposedPicture

Strength = Literal["none", "weak", "strong"]

#: Smallest and largest factor, largest angle in degrees, largest shift in half sides.
_RANGES: dict[Strength, tuple[float, float, float, float]] = {
    "weak": (0.9, 1.1, 2.0, 0.08),
    "strong": (0.8, 1.5, 15.0, 0.15),
}


def draw_moves(count: int, strength: Strength) -> Tensor | None:
    """Draw maps (count, 2, 3) from output to input coordinates by the global generator.

    They are [[s cos r, -s sin r, x], [s sin r, s cos r, y]]; None where nothing moves.
    """
    if strength == "none":
        return None
    low, high, turn, shift = _RANGES[strength]
    scale = low + (high - low) * torch.rand(count)
    angle = torch.deg2rad(turn * (2 * torch.rand(count) - 1))
    x, y = shift * (2 * torch.rand(2, count) - 1)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    return torch.stack([cos, -sin, x, sin, cos, y], dim=1).view(count, 2, 3)


def move(picture: ComposedPicture, moves: Tensor | None) -> ComposedPicture:
    """Move foregrounds and masks alike by `moves` (B, 2, 3), zeros (grey, no mask) outside."""
    if moves is None:
        return picture
    layer = torch.cat([picture.foreground, picture.mask], dim=1)
    grid = F.affine_grid(moves.to(layer), list(layer.shape), align_corners=True)
    moved = F.grid_sample(layer, grid, align_corners=True)
    # Bilinear weights may add up to a hair more than one.
    return replace(picture, foreground=moved[:, :3], mask=moved[:, 3:].clamp(0, 1))
