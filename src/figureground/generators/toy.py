"""A generator without training: formulas paint a warm shape before a cool, textured ground.

What it paints is much like the dataset `toy`, is smooth in the latent, and has a known mask: to try
out, in seconds, what is searched in latent spaces of networks of 70 million parameters.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from figureground.core.bounds import NonNegativeFloat, PositiveInt
from figureground.core.checkpoint import ConvertedWeights
from figureground.core.errors import CheckpointError
from figureground.core.types import Latent, Layers
from figureground.generators.base import GeneratorCard, ImageGenerator

# Place of each quantity in the latent; three numbers mix three anchors of the palette.
_PLACE, _RADIUS, _CORNERS, _SHADE = slice(0, 2), 2, 3, 4
_WARM, _LIGHT, _COOL, _GROUND = slice(5, 8), 8, slice(9, 12), 12
_ANGLE, _PHASE, _FREQUENCY = 13, 14, 15
_LATENT_DIM = 16

#: Red, yellow and pink for shapes; green, blue and grey for grounds. In [0, 1].
_PALETTE = (
    ((1.0, 0.15, 0.1), (1.0, 0.8, 0.15), (1.0, 0.25, 0.6)),
    ((0.3, 1.0, 0.5), (0.35, 0.5, 1.0), (0.8, 0.8, 0.9)),
)


class ToyGenerator(ImageGenerator):
    """Paints one soft-edged shape: of any place, size, roundness, colour and brightness.

    Args:
        resolution: Side R of the pictures.
        truncation: Below 1 latents are likelier and pictures less varied.
        weights: None: there are none to load.
    """

    card = GeneratorCard(
        family="toy generator",
        project="figureground",
        files="none",
        licence="that of this suite",
        note="Not trained: formulas.",
    )

    def __init__(
        self,
        *,
        resolution: PositiveInt = 32,
        truncation: NonNegativeFloat = 1.0,
        weights: None = None,
    ) -> None:
        super().__init__(resolution=resolution, latent_dim=_LATENT_DIM, truncation=truncation)
        self.palette = nn.Parameter(torch.tensor(_PALETTE))
        self.eval().requires_grad_(False)

    def layers(self, latent: Latent) -> Layers:
        """Ground and shape of `latent`, colours in [-1, 1]."""
        z = latent.vector.to(self.palette)[:, :, None, None]
        axis = (torch.arange(self.resolution).to(z) + 0.5) / self.resolution * 2 - 1
        x, y = axis.view(1, 1, -1), axis.view(1, -1, 1)
        opacity = self._draw_shape(z, x, y)
        wave = torch.cos(z[:, _ANGLE]) * x + torch.sin(z[:, _ANGLE]) * y
        wave = torch.sin((14 + 4 * torch.tanh(z[:, _FREQUENCY])) * wave + z[:, _PHASE])
        light = torch.sigmoid(1 + z[:, _LIGHT]) * (1 + 0.1 * torch.sin(6 * y + z[:, _SHADE]))
        ground = torch.sigmoid(z[:, _GROUND]) * (1 + 0.25 * wave)
        light = light.expand_as(ground)
        parts = ((1, z[:, _COOL], ground), (0, z[:, _WARM], light))
        color = torch.stack([self._mix(row, z) * value[:, None] for row, z, value in parts], dim=1)
        alpha = torch.stack([1 - opacity, opacity], dim=1)[:, :, None]
        return Layers((2 * color - 1).clamp(-1, 1), alpha)

    def paint(self, vector: Tensor, label: Tensor | None) -> Tensor:
        """See `ImageGenerator.paint`."""
        return self.layers(Latent(vector)).composite

    def _draw_shape(self, z: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Opacity (B, R, R) of a disc to rounded square anywhere inside the picture."""
        left, top = (0.4 * torch.tanh(z[:, _PLACE])).unbind(dim=1)
        power = 4 + 2 * torch.tanh(z[:, _CORNERS])
        radius = 0.5 + 0.12 * torch.tanh(z[:, _RADIUS])
        distance = (((x - left).abs() + 1e-3) ** power + ((y - top).abs() + 1e-3) ** power) ** (
            1 / power
        )
        return torch.sigmoid((radius - distance) * self.resolution)

    def _mix(self, row: int, share: Tensor) -> Tensor:
        """Colours (B, 3, 1, 1) between the anchors of a row of the palette."""
        return torch.einsum("baxy,ac->bcxy", share.softmax(dim=1), self.palette[row])

    @classmethod
    def convert(cls, content: Any) -> ConvertedWeights:
        """Never: there are no weights."""
        raise CheckpointError("it is no file of the toy generator, which has none")
