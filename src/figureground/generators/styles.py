"""What generators with a mapping network share: latents are styles (w) or what they come from (z).

Truncation acts on styles alone, wherever latents come from.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor

from figureground.core.types import Latent
from figureground.generators.base import ImageGenerator
from figureground.generators.sampling import draw_classes, draw_normal

LatentSpace = Literal["w", "z"]


class StyleImageGenerator(ImageGenerator):
    """A generator whose pictures are painted under styles.

    Args:
        latent_dim: Size of z.
        style_dim: Size of w.
        latent_space: Which of the two latents are.
        common: Arguments of `ImageGenerator`.
    """

    def __init__(
        self, *, latent_dim: int, style_dim: int, latent_space: LatentSpace, **common: Any
    ) -> None:
        super().__init__(latent_dim=style_dim if latent_space == "w" else latent_dim, **common)
        self.latent_space = latent_space
        self._input_dim = latent_dim

    @abstractmethod
    def map(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Truncated styles of z (B, D) and classes (B,), if there are any."""

    @abstractmethod
    def paint_styles(self, styles: Tensor) -> Tensor:
        """Pictures (B, 3, R, R) of what `map` gives; the range has no limits."""

    @torch.no_grad()
    def latent(self, count: int, *, generator: torch.Generator | None = None) -> Latent:
        """Draw `count` latents: z and classes, or the truncated styles of such.

        Args:
            count: How many.
            generator: Source of the draws (on any device); None for the global generator.

        Raises:
            ValueError: `count` is negative.
        """
        z = draw_normal(count, self._input_dim, generator=generator).to(next(self.parameters()))
        label = None
        if self.num_classes:
            label = draw_classes(count, self.num_classes, generator=generator).to(self.device)
        if self.latent_space == "z":
            return Latent(z, label)
        return Latent(self.map(z, label))

    def paint(self, vector: Tensor, label: Tensor | None) -> Tensor:
        """See `ImageGenerator.paint`; the range has no limits."""
        styles = vector if self.latent_space == "w" else self.map(vector, label)
        return self.paint_styles(styles)
