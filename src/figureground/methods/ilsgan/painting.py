"""What both players train on: new pictures by the live generator, as drawn and perturbed."""

from __future__ import annotations

import torch
from torch import Tensor

from figureground.methods.ilsgan.mixing import StyleMixing
from figureground.methods.ilsgan.networks import LayeredGenerator
from figureground.methods.ilsgan.perturbation import LayeredPicture, Perturbation
from figureground.nn.regions import RegionStatistics


class Painting:
    """Paints pictures for training.

    Attributes:
        generator: G.
        latent_dim: Size of latents.
        perturbation: How layers move before D looks.
        style_mixing: Which styles come from a second latent, and how often.
        statistics: Says where the weights are.
    """

    generator: LayeredGenerator
    latent_dim: int
    perturbation: Perturbation
    style_mixing: StyleMixing
    statistics: RegionStatistics

    def _draw_pair(self, count: int) -> tuple[LayeredPicture, LayeredPicture]:
        """Draw `count` pictures, and the same perturbed."""
        latent, draws = self._draw_inputs(count)
        picture = self.generator.synthesize(*self._draw_styles(latent))
        return picture, self.perturbation(picture, draws)

    def _draw_styles(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Styles of both layers of `latent` (B, D), mixed with others if that is asked for."""
        styles = self.generator.map(latent, update_average=True)
        if self.style_mixing.probability == 0:
            return styles
        return self.style_mixing(styles, self.generator.map(torch.randn_like(latent)))

    def _draw_inputs(self, count: int) -> tuple[Tensor, Tensor]:
        """Latents (B, D), and uniform numbers in [-1, 1] for the perturbation."""
        like = self.statistics.area_sum
        draws = torch.rand(count, self.perturbation.num_draws) * 2 - 1
        return torch.randn(count, self.latent_dim).to(like), draws.to(like)
