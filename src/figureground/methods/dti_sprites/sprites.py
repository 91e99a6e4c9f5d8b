"""The learned pictures: sprites with masks, and backgrounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from figureground.methods.dti_sprites.transforms import soft_clamp

Clamp = Literal["soft", "hard", "straight", "none"]
ColorInit = Literal["constant", "random", "random_color", "gaussian", "mean", "sample", "kmeans"]
MaskInit = Literal["gaussian", "constant", "random"]
#: Initialisations that look at training pictures.
FROM_PICTURES = ("mean", "sample", "kmeans")
NUM_PICTURES = 100  # How many are looked at.

DUPLICATE_NOISE = 1e-4
_KMEANS_ROUNDS = 20


class SpriteBank(nn.Module):
    """K sprites and M backgrounds as free parameters (paper, section 3.1).

    Args:
        num_sprites: K, without the empty sprite.
        sprite_size: Height and width of the sprites.
        num_backgrounds: M.
        size: Height and width of the backgrounds.
        color_init: What sprites start from; `constant` is 0.9.
        mask_init: What masks start from; `gaussian` is the same bump for all.
        mask_std: Standard deviation of the bump in pixels.
        background_init: What backgrounds start from; `constant` is 0.5.
        clamp: How parameters, and colours that are changed, become values in [0, 1]: `soft` with a
            small slope outside, `hard`, `straight` (hard, with the gradient of the identity), or
            `none`.
        slope: Of the soft clamp.
    """

    def __init__(
        self,
        num_sprites: int,
        sprite_size: tuple[int, int],
        num_backgrounds: int,
        size: tuple[int, int],
        *,
        color_init: ColorInit = "constant",
        mask_init: MaskInit = "gaussian",
        mask_std: float = 5.0,
        background_init: ColorInit = "mean",
        clamp: Clamp = "soft",
        slope: float = 0.01,
    ) -> None:
        super().__init__()
        self.inits = (color_init, mask_init, background_init)
        self.mask_std = mask_std
        clamps: dict[str, Callable[[Tensor], Tensor]] = {
            "soft": partial(soft_clamp, slope=slope),
            "hard": partial(torch.clamp, min=0, max=1),
            "straight": _clamp_straight_through,
            "none": torch.clone,
        }
        self.clamp = clamps[clamp]
        self.color = nn.Parameter(torch.empty(num_sprites, 3, *sprite_size))
        self.mask = nn.Parameter(torch.empty(num_sprites, 1, *sprite_size))
        self.background = nn.Parameter(torch.empty(num_backgrounds, 3, *size))
        self.reset_parameters()

    def __len__(self) -> int:
        return len(self.color)

    @property
    def needs_pictures(self) -> bool:
        """Whether an initialisation looks at training pictures."""
        has_background = len(self.background) > 0
        return self.inits[0] in FROM_PICTURES or (has_background and self.inits[2] in FROM_PICTURES)

    @torch.no_grad()
    def reset_parameters(self, pictures: Tensor | None = None) -> None:
        """Draw all parameters anew.

        Args:
            pictures: Training pictures (N, 3, H, W) in [0, 1] for initialisations that need them;
                without, those start from their constants.
        """
        color_init, mask_init, background_init = self.inits
        self.color.copy_(_draw(color_init, self.color, 0.9, pictures))
        self.mask.copy_(_draw_masks(mask_init, self.mask, self.mask_std))
        self.background.copy_(_draw(background_init, self.background, 0.5, pictures))

    def raw(self) -> tuple[Tensor, Tensor]:
        """Colours (K, 3, h, w) and masks (K, 1, h, w) of the sprites before any clamp."""
        return self.color, self.mask

    def draw_noise(self) -> Tensor:
        """Normal noise for `duplicate`."""
        return torch.randn_like(self.color)

    def stack(self, *, with_canvas: bool, with_empty: bool, frozen: bool = False) -> Tensor:
        """All sprites as (K, C, h, w): colour, mask, and with a canvas a channel of ones.

        Under a canvas, masks are raw: noise is added to them before the clamp. The empty sprite is
        zero everywhere, its canvas too.
        """
        color, mask = (part.detach() if frozen else part for part in self.raw())
        parts = [self.clamp(color), mask if with_canvas else self.clamp(mask)]
        if with_canvas:
            parts.append(torch.ones_like(mask))
        stack = torch.cat(parts, dim=1)
        return F.pad(stack, (0, 0, 0, 0, 0, 0, 0, 1)) if with_empty else stack

    @torch.no_grad()
    def duplicate(
        self, targets: Sequence[int], source: int, noise: Tensor | None = None
    ) -> list[nn.Parameter]:
        """Make sprites `targets` near-copies of `source`.

        Args:
            targets: Sprites to overwrite.
            source: Sprite to copy.
            noise: As `draw_noise` gives it; drawn if None.

        Returns:
            Parameters of which rows were copied as they are.
        """
        noise = self.draw_noise() if noise is None else noise
        self.color[list(targets)] = self.color[source] + DUPLICATE_NOISE * noise[list(targets)]
        self.mask[list(targets)] = self.mask[source].clone()
        self.color[source] += DUPLICATE_NOISE * noise[source]
        return [self.mask]


def _clamp_straight_through(x: Tensor) -> Tensor:
    return x + (x.clamp(0, 1) - x).detach()


def _draw(init: str, like: Tensor, constant: float, pictures: Tensor | None) -> Tensor:
    count, size = len(like), (like.shape[2], like.shape[3])
    if init in FROM_PICTURES and pictures is not None and count:
        small = F.interpolate(pictures, size, mode="bilinear")
        if init == "mean":
            return small.mean(dim=0, keepdim=True).expand_as(like)
        chosen = small[torch.randint(len(small), (count,))]
        return chosen if init == "sample" else _find_centers(small, chosen)
    if init == "random":
        return torch.rand_like(like)
    if init == "random_color":
        return torch.rand_like(like[:, :, :1, :1]).expand_as(like)
    if init == "gaussian":
        return torch.randn_like(like)
    return torch.full_like(like, constant)


def _draw_masks(init: str, like: Tensor, std: float) -> Tensor:
    if init == "random":
        return torch.rand_like(like)
    if init == "constant":
        return torch.ones_like(like)
    rows, columns = (_bump(length, std, like) for length in like.shape[2:])
    return (rows.unsqueeze(1) * columns).expand_as(like)


def _bump(length: int, std: float, like: Tensor) -> Tensor:
    """Gaussian window of peak 1, centred."""
    place = torch.arange(length, dtype=like.dtype, device=like.device) - (length - 1) / 2
    return (-0.5 * (place / std).square()).exp()


def _find_centers(pictures: Tensor, centers: Tensor) -> Tensor:
    """Lloyd's algorithm on whole pictures."""
    flat = pictures.flatten(1)
    means = centers.flatten(1).clone()
    for _ in range(_KMEANS_ROUNDS):
        nearest = torch.cdist(flat, means).argmin(dim=1)
        for k in range(len(means)):
            if (nearest == k).any():
                means[k] = flat[nearest == k].mean(dim=0)
    return means.view_as(centers)
