"""What a trained GAN can draw, all by the averaged generator and without random noise."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from figureground.core.types import Layers
from figureground.nn.ema import WeightAverage
from figureground.nn.stylegan2 import StyleGenerator


class PictureDrawing:
    """Draws whole pictures, as layered ones of a single layer.

    Attributes:
        ema: Average of the generator.
        generator: The generator; says where the weights are.
        latent_dim: D.
        truncation: Share of the distance from the mean picture that is kept where nothing else is
            asked for.
    """

    ema: WeightAverage
    generator: nn.Module
    latent_dim: int
    truncation: float

    def draw(self, latent: Tensor, truncation: float = 1.0) -> Tensor:
        """Pictures (B, 3, S, S) of `latent` (B, D), always the same ones, cut to [-1, 1]."""
        image: Tensor = self.ema(self._here(latent), truncation=truncation, noise="const")
        return image.clamp(-1, 1)

    def sample(
        self,
        count: int,
        *,
        generator: torch.Generator | None = None,
        truncation: float | None = None,
    ) -> Layers:
        """Draw `count` pictures."""
        latent = self.latent(count, generator=generator)
        return self.decode_truncated(latent, self.truncation if truncation is None else truncation)

    def latent(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw latents (`count`, D), standard normal."""
        return self._here(torch.randn(count, self.latent_dim, generator=generator))

    def decode(self, latent: Tensor) -> Layers:
        """The pictures of `latent` (B, D), as `sample` returns them."""
        return self.decode_truncated(latent, self.truncation)

    def decode_truncated(self, latent: Tensor, truncation: float) -> Layers:
        """The same at another truncation; at 0 all are the same picture.

        Styles are pulled to their mean; where there are none, latents are shrunk.
        """
        return _as_layers(self.draw(latent, truncation))

    @property
    def num_styles(self) -> int:
        """Styles of one picture; 0 for a network without."""
        average = self.ema.average
        return average.synthesis.num_styles if isinstance(average, StyleGenerator) else 0

    def styles(self, latent: Tensor, *, truncation: float | None = None) -> Tensor:
        """Styles (B, N, W) of `latent` (B, D), pulled to their mean by `truncation`."""
        share = self.truncation if truncation is None else truncation
        found: Tensor = self._painter.mapping(self._here(latent), truncation=share)
        return found

    def decode_styles(self, styles: Tensor) -> Layers:
        """The pictures of `styles` (B, N, W), as `decode` returns them."""
        image: Tensor = self._painter.synthesis(self._here(styles), noise="const")
        return _as_layers(image.clamp(-1, 1))

    @property
    def _painter(self) -> StyleGenerator:
        average = self.ema.average
        if not isinstance(average, StyleGenerator):
            raise ValueError("this network has no styles; expected network=stylegan2")
        return average

    def _here(self, values: Tensor) -> Tensor:
        return values.to(next(self.generator.parameters()))


def _as_layers(image: Tensor) -> Layers:
    """Pictures (B, 3, S, S) as a single layer each."""
    return Layers(image[:, None], image.new_ones(len(image), 1, 1, *image.shape[2:]))
