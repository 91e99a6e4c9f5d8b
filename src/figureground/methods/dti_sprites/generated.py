"""Sprites from codes, an option of later work (arXiv 2604.19480)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from figureground.methods.dti_sprites.sprites import DUPLICATE_NOISE, SpriteBank


class GeneratedBank(SpriteBank):
    """Sprites that one perceptron draws, each from a learned code.

    What the perceptron draws is added to the pictures that a `SpriteBank` starts from, and is zero
    at first; so both start alike. Backgrounds stay free.

    Args:
        num_sprites: K, without the empty sprite.
        sprite_size: Height and width of the sprites.
        code_dim: Length of a code.
        width: Hidden units.
        options: See `SpriteBank`.
    """

    def __init__(
        self,
        num_sprites: int,
        sprite_size: tuple[int, int],
        *args: Any,
        code_dim: int = 128,
        width: int = 128,
        **options: Any,
    ) -> None:
        super().__init__(num_sprites, sprite_size, *args, **options)
        self.color.requires_grad_(False)
        self.mask.requires_grad_(False)
        self.codes = nn.Parameter(torch.empty(num_sprites, code_dim))
        height, columns = sprite_size
        self.decoder = nn.Sequential(
            nn.Linear(code_dim, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, 4 * height * columns),
            nn.Unflatten(1, (4, height, columns)),
        )
        self._reset_decoder()

    def reset_parameters(self, pictures: Tensor | None = None) -> None:
        """Draw everything anew, see `SpriteBank`."""
        super().reset_parameters(pictures)
        if hasattr(self, "decoder"):  # The base calls this before there is one.
            self._reset_decoder()

    @torch.no_grad()
    def _reset_decoder(self) -> None:
        self.codes.normal_()
        linear = [part for part in self.decoder if isinstance(part, nn.Linear)]
        for part in linear:
            part.reset_parameters()
        linear[-1].weight.zero_()
        linear[-1].bias.zero_()

    def raw(self) -> tuple[Tensor, Tensor]:
        """See `SpriteBank.raw`."""
        drawn = self.decoder(self.codes)
        return self.color + drawn[:, :3], self.mask + drawn[:, 3:]

    def draw_noise(self) -> Tensor:
        """Normal noise for `duplicate`."""
        return torch.randn_like(self.codes)

    @torch.no_grad()
    def duplicate(
        self, targets: Sequence[int], source: int, noise: Tensor | None = None
    ) -> list[nn.Parameter]:
        """See `SpriteBank.duplicate`; here it is the codes that are copied."""
        noise = self.draw_noise() if noise is None else noise
        for parameter in (self.color, self.mask):  # Where the sprites start from.
            parameter[list(targets)] = parameter[source].clone()
        self.codes[list(targets)] = self.codes[source] + DUPLICATE_NOISE * noise[list(targets)]
        return []
