"""Layered pictures, and the small random move of the foreground that tells layers apart.

A composite must look real wherever its foreground is put, so what belongs to the object has to be
in the foreground and what is behind it has to be in the background (Yang et al., "Learning
Foreground-Background Segmentation from Improved Layered GANs", WACV 2022).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from figureground.core.bounds import Fraction, NonNegativeFloat


@dataclass(slots=True)
class LayeredPicture:
    """A foreground with soft mask before a background.

    Attributes:
        background: (B, 3, H, W); values may leave [-1, 1].
        foreground: (B, 3, H, W); values may leave [-1, 1].
        mask: (B, 1, H, W), in [0, 1].
    """

    background: Tensor
    foreground: Tensor
    mask: Tensor

    @property
    def composite(self) -> Tensor:
        """(1 - m) b + m f, (B, 3, H, W)."""
        return (1 - self.mask) * self.background + self.mask * self.foreground

    @property
    def cutout(self) -> Tensor:
        """Foreground on white, (1 - m) + m f, (B, 3, H, W)."""
        return (1 - self.mask) + self.mask * self.foreground

    def detach(self) -> LayeredPicture:
        """The same without gradients."""
        return LayeredPicture(
            self.background.detach(), self.foreground.detach(), self.mask.detach()
        )


@dataclass(frozen=True)
class Perturbation:
    """How far layers are moved at most.

    Either the foreground is shifted by whole pixels, or it is moved by an affine map; besides, the
    background's contrast may change.

    Attributes:
        shift: Largest shift by whole pixels, as a share of the side.
        translate: Largest shift of the affine map, as a share of the side.
        rotate: Largest angle in degrees.
        scale: Largest scale, as a power of two.
        contrast: Largest change of the background's contrast, as a share of it.
    """

    shift: Fraction = 0.125
    translate: Fraction = 0.0
    rotate: NonNegativeFloat = 0.0
    scale: NonNegativeFloat = 0.0
    contrast: Fraction = 0.0

    def __post_init__(self) -> None:
        if problems := self.check_options(shift=self.shift, is_affine=self.is_affine):
            raise ValueError("; ".join(problems))

    @staticmethod
    def check_options(
        *,
        shift: float,
        translate: float = 0.0,
        rotate: float = 0.0,
        scale: float = 0.0,
        is_affine: bool = False,
        **_: Any,
    ) -> list[str]:
        """Problems of options that are fine one by one but not together."""
        if shift > 0 and (is_affine or max(translate, rotate, scale) > 0):
            return ["either shift by whole pixels, or translate, rotate and scale; set shift=0"]
        return []

    @property
    def is_affine(self) -> bool:
        """Whether the foreground is resampled."""
        return max(self.translate, self.rotate, self.scale) > 0

    @property
    def moves(self) -> bool:
        """Whether the foreground moves against the background at all."""
        return self.is_affine or self.shift > 0

    @property
    def acts(self) -> bool:
        """Whether anything changes at all."""
        return self.moves or self.contrast > 0

    @property
    def num_draws(self) -> int:
        """Random numbers per picture: x, y, angle, scale, contrast; later ones only if used."""
        if self.contrast > 0:
            return 5
        return 4 if self.is_affine else 2

    def __call__(self, picture: LayeredPicture, draws: Tensor) -> LayeredPicture:
        """Move the layers of `picture`; `draws` is (B, num_draws) in [-1, 1]."""
        if self.contrast > 0:
            background = change_contrast(picture.background, self.contrast * draws[:, 4])
            picture = replace(picture, background=background)
        if not self.moves:
            return picture
        layer = torch.cat([picture.foreground, picture.mask], dim=1)
        if self.is_affine:
            moved = move_affinely(
                layer,
                translate=self.translate * draws[:, :2],
                degrees=self.rotate * draws[:, 2],
                octaves=self.scale * draws[:, 3],
            )
        else:
            # Rounds halves to even, as the published shifts do.
            moved = shift_pixels(layer, (draws[:, :2] * self.shift * layer.shape[3]).round().long())
        return replace(picture, foreground=moved[:, :3], mask=moved[:, 3:])


def shift_pixels(image: Tensor, shift: Tensor) -> Tensor:
    """Shift pictures by whole pixels, each by its own; what comes in is zero.

    Args:
        image: (B, C, H, W).
        shift: To the right and down, (B, 2) int64.
    """
    count, channels, height, width = image.shape
    row = torch.arange(height, device=image.device) - shift[:, 1:]  # (B, H)
    column = torch.arange(width, device=image.device) - shift[:, :1]  # (B, W)
    from_inside = ((row >= 0) & (row < height)).unsqueeze(2)
    from_inside = from_inside & ((column >= 0) & (column < width)).unsqueeze(1)
    source = row.clamp(0, height - 1).unsqueeze(2) * width + column.clamp(0, width - 1).unsqueeze(1)
    source = source.view(count, 1, -1).expand(-1, channels, -1)
    moved = image.flatten(2).gather(2, source).view_as(image)
    return torch.where(from_inside.unsqueeze(1), moved, 0)


def change_contrast(image: Tensor, change: Tensor) -> Tensor:
    """Stretch values about each picture's mean by 1 + change, cut at its own extremes.

    Args:
        image: (B, C, H, W).
        change: (B,).
    """
    mean = image.mean(dim=(1, 2, 3), keepdim=True)
    low, high = image.amin(dim=(1, 2, 3), keepdim=True), image.amax(dim=(1, 2, 3), keepdim=True)
    stretched = (image - mean) * (1 + change.view(-1, 1, 1, 1)) + mean
    return stretched.minimum(high).maximum(low)


def move_affinely(image: Tensor, translate: Tensor, degrees: Tensor, octaves: Tensor) -> Tensor:
    """Scale, rotate and then shift pictures about their centre, bilinearly; what comes in is zero.

    Args:
        image: (B, C, S, S).
        translate: To the right and down, as a share of the side, (B, 2).
        degrees: Clockwise angle, (B,).
        octaves: Logarithm to base two of the scale, (B,).
    """
    angle, shrink = torch.deg2rad(degrees), torch.exp2(-octaves)
    cosine, sine = angle.cos() * shrink, angle.sin() * shrink
    # Output to input: the other way about. A picture's side is 2 in these coordinates.
    x, y = -2 * translate.unbind(dim=1)[0], -2 * translate.unbind(dim=1)[1]
    rows = [cosine, sine, cosine * x + sine * y, -sine, cosine, cosine * y - sine * x]
    grid = F.affine_grid(
        torch.stack(rows, dim=1).view(-1, 2, 3).to(image), list(image.shape), align_corners=False
    )
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
