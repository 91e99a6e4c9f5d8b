"""Two random views of a picture, with the mask of its object moved along.

A view is a crop of any size and aspect, stretched to a square (Szegedy et al. 2015), a flip, and
changes of colour as in MoCo v2 (Chen et al. 2020), all by random numbers of the global generator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from figureground.core.bounds import Fraction

_TRIES = 3  # Crops of a picture before it is left out.
_ASPECT = 4 / 3  # Largest; the smallest is its inverse.
_LUMA = (0.299, 0.587, 0.114)


class View(NamedTuple):
    """Changed pictures.

    Attributes:
        image: (B, 3, S, S), in [-1, 1].
        mask: Their objects, (B, S, S), 0, 1 or void, of the pictures' dtype.
        is_usable: Whether the object covers neither too little nor too much, (B,) bool.
    """

    image: Tensor
    mask: Tensor
    is_usable: Tensor


@dataclass(frozen=True)
class ViewMaker:
    """Draws views; defaults are the published ones.

    Args:
        crop: Least and largest share of the picture that a crop takes.
        area: Objects that cover less or more of a view are not contrasted.
        jitter: Largest changes of brightness, contrast and saturation, relative, and of hue, in
            turns.
        jitter_probability: Of these changes.
        gray_probability: Of taking the colour away.
    """

    crop: Sequence[Fraction] = (0.2, 1.0)
    area: Sequence[Fraction] = (0.01, 0.99)
    jitter: Sequence[Fraction] = (0.4, 0.4, 0.4, 0.1)
    jitter_probability: Fraction = 0.8
    gray_probability: Fraction = 0.2

    @staticmethod
    def check_options(
        *, crop: Sequence[float], area: Sequence[float], jitter: Sequence[float], **_: object
    ) -> list[str]:
        """Problems of lists that are too long, too short or empty ranges."""
        problems = []
        if len(crop) != 2 or not 0 < crop[0] <= crop[1]:
            problems.append(f"crop={list(crop)}: expected [least, largest], such as [0.2, 1.0]")
        if len(area) != 2 or area[0] >= area[1]:
            problems.append(f"area={list(area)}: expected [least, largest], such as [0.01, 0.99]")
        if len(jitter) != 4:
            problems.append(
                f"jitter={list(jitter)}: expected brightness, contrast, saturation and hue, such "
                "as [0.4, 0.4, 0.4, 0.1]"
            )
        return problems

    def draw(self, image: Tensor, mask: Tensor, side: int) -> View:
        """Draw a view of each picture.

        Args:
            image: (B, 3, H, W), in [-1, 1].
            mask: Objects, (B, H, W), 0, 1 or void, which stays so.
            side: S of the views.
        """
        size = (len(image), 1, side, side)
        share = mask.unsqueeze(1).to(image)
        chosen, seen = torch.empty(0), torch.empty(0)
        fits = torch.zeros(len(image), dtype=torch.bool, device=image.device)
        for number in range(_TRIES):  # Always as many, so that masks do not change what follows.
            theta = draw_crops(len(image), self.crop).to(image)
            moved = _sample(share, theta, size, "nearest")[:, 0]
            new = ~fits if number else torch.ones_like(fits)
            chosen = theta if not number else torch.where(new[:, None, None], theta, chosen)
            seen = moved if not number else torch.where(new[:, None, None], moved, seen)
            cover = (seen == 1).to(seen).mean(dim=(1, 2))
            fits = (cover > self.area[0]) & (cover < self.area[1])
        cropped = _sample(image, chosen, (len(image), 3, side, side), "bilinear")
        return View(self._color(cropped), seen, fits)

    def _color(self, image: Tensor) -> Tensor:
        count = len(image)
        factors = 2 * torch.rand(count, 4) - 1
        changed = torch.rand(count) < self.jitter_probability
        factors = (factors * torch.tensor(self.jitter)).masked_fill(~changed[:, None], 0)
        gray = torch.rand(count) < self.gray_probability
        image = change_colors(image, factors.to(image))
        return torch.where(gray.to(image.device)[:, None, None, None], _luma(image), image)


def draw_crops(count: int, share: Sequence[float]) -> Tensor:
    """Draw crops with this least and largest share of the area, and flips of half of them.

    Returns:
        (B, 2, 3), from coordinates of the view to those of the picture, both from -1 to 1 at the
        borders.
    """
    area = share[0] + (share[1] - share[0]) * torch.rand(count)
    aspect = _ASPECT ** (2 * torch.rand(count) - 1)
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    left, top = 2 * torch.rand(2, count) - 1
    flip = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = flip * width, height
    theta[:, 0, 2], theta[:, 1, 2] = left * (1 - width), top * (1 - height)
    return theta


def change_colors(image: Tensor, change: Tensor) -> Tensor:
    """Change colours, each picture's by its own numbers.

    Args:
        image: (B, 3, H, W), in [-1, 1].
        change: Brightness, contrast and saturation, 0 for none, and hue in turns, (B, 4).

    Returns:
        (B, 3, H, W), in [-1, 1].
    """
    light, contrast, saturation, hue = change.view(-1, 4, 1, 1, 1).unbind(1)
    pixels = ((image + 1) / 2 * (1 + light)).clamp(0, 1)
    mean = _luma(pixels).mean(dim=(2, 3), keepdim=True)
    pixels = (mean + (pixels - mean) * (1 + contrast)).clamp(0, 1)
    gray = _luma(pixels)
    pixels = (gray + (pixels - gray) * (1 + saturation)).clamp(0, 1)
    return _turn(pixels, 2 * math.pi * hue).clamp(0, 1) * 2 - 1


def _turn(pixels: Tensor, angle: Tensor) -> Tensor:
    """Turn colours (B, 3, H, W) about the axis of greys by angles (B, 1, 1, 1) (Rodrigues)."""
    along = pixels.mean(dim=1, keepdim=True)
    red, green, blue = pixels.unbind(1)
    across = torch.stack([blue - green, red - blue, green - red], dim=1) / math.sqrt(3)
    return along + (pixels - along) * angle.cos() + across * angle.sin()


def _luma(image: Tensor) -> Tensor:
    weights = image.new_tensor(_LUMA).view(1, 3, 1, 1)
    return (image * weights).sum(dim=1, keepdim=True)


def _sample(maps: Tensor, theta: Tensor, size: tuple[int, int, int, int], mode: str) -> Tensor:
    grid = F.affine_grid(theta, list(size), align_corners=False)
    return F.grid_sample(maps, grid, mode=mode, padding_mode="border", align_corners=False)
