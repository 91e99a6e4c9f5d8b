"""What a trained ILSGAN can draw: samples, given latents, layers of different latents, near-copies.

The capabilities of `core.protocols` that ILSGAN has, all by the averaged generator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from figureground.core.types import Layers, check_image
from figureground.methods.ilsgan.networks import LayeredGenerator
from figureground.methods.ilsgan.perturbation import LayeredPicture
from figureground.methods.ilsgan.projection import search_styles
from figureground.nn.ema import WeightAverage
from figureground.nn.modulation import NoiseMode
from figureground.nn.regions import RegionStatistics


class LayerDrawing:
    """Draws layered pictures by an average of a `LayeredGenerator`.

    Attributes:
        ema: The average.
        latent_dim: D.
        resolution: Side S of the pictures.
        truncation: Share of styles' distance from the mean that is kept where nothing else is
            asked for.
        statistics: Says where the weights are.
    """

    ema: WeightAverage
    latent_dim: int
    resolution: int
    truncation: float
    statistics: RegionStatistics

    def draw(
        self,
        latent: Tensor,
        truncation: float = 1.0,
        noise: NoiseMode = "const",
        generator: torch.Generator | None = None,
    ) -> LayeredPicture:
        """Layers of `latent` (B, D); always the same ones, unless noise is `random`."""
        picture: LayeredPicture = self.ema(
            self._here(latent), truncation=truncation, noise=noise, generator=generator
        )
        return picture

    def sample(
        self,
        count: int,
        *,
        generator: torch.Generator | None = None,
        truncation: float | None = None,
    ) -> Layers:
        """Draw `count` pictures as background and foreground; colours may leave [-1, 1]."""
        return self.sample_with(count, truncation=truncation, generator=generator)

    def sample_with(
        self,
        count: int,
        *,
        noise: NoiseMode = "const",
        truncation: float | None = None,
        generator: torch.Generator | None = None,
    ) -> Layers:
        """The same with other noise per pixel than the stored one, or with none."""
        latent = self.latent(count, generator=generator)
        share = self.truncation if truncation is None else truncation
        return to_layers(self.draw(latent, share, noise, generator))

    def latent(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw latents (`count`, D), standard normal."""
        return self._here(torch.randn(count, self.latent_dim, generator=generator))

    def decode(self, latent: Tensor) -> Layers:
        """The pictures of `latent` (B, D), as `sample` returns them."""
        return self.decode_truncated(latent, self.truncation)

    def decode_truncated(self, latent: Tensor, truncation: float) -> Layers:
        """The same at another truncation; at 0 all are the mean picture."""
        return to_layers(self.draw(latent, truncation))

    @property
    def num_styles(self) -> int:
        """Styles of one picture: the background's and as many of the foreground."""
        network: LayeredGenerator = self.ema.average  # type: ignore[assignment]  # of one
        return 2 * network.synthesis_background.num_styles

    def styles(self, latent: Tensor, *, truncation: float | None = None) -> Tensor:
        """Styles (B, N, W) of `latent` (B, D): the background's, then the foreground's."""
        network: LayeredGenerator = self.ema.average  # type: ignore[assignment]  # of one
        share = self.truncation if truncation is None else truncation
        return torch.cat(network.map(self._here(latent), truncation=share), dim=1)

    def decode_styles(self, styles: Tensor) -> Layers:
        """The pictures of `styles`, as `decode` returns those of their latent."""
        network: LayeredGenerator = self.ema.average  # type: ignore[assignment]  # of one
        background, foreground = self._here(styles).chunk(2, dim=1)
        return to_layers(network.synthesize(background, foreground, noise="const"))

    def decode_layers(self, latent: Tensor) -> Layers:
        """Backgrounds of `latent[:, 0]` and foregrounds of `latent[:, 1]`; `latent` is (B, 2, D).

        Raises:
            ValueError: There is another number of layers.
        """
        if latent.shape[1:] != (2, self.latent_dim):
            raise ValueError(
                f"latent must be (B, 2, {self.latent_dim}), a latent for each of two layers, got "
                f"{tuple(latent.shape)}"
            )
        backs, fronts = (
            self.draw(part, self.truncation) for part in self._here(latent).unbind(dim=1)
        )
        return to_layers(LayeredPicture(backs.background, fronts.foreground, fronts.mask))

    def project(
        self,
        image: Tensor,
        *,
        steps: int,
        generator: torch.Generator | None = None,
        features: Callable[[Tensor], list[Tensor]] | None = None,
        report: Callable[[int, Tensor], object] | None = None,
    ) -> Layers:
        """Layers that come near to `image` (B, 3, S, S) when put together, see `search_styles`.

        Raises:
            ValueError: Pictures are of another size.
        """
        check_image(image)
        side = self.resolution
        if image.shape[1:] != (3, side, side):
            raise ValueError(f"expected images (B, 3, {side}, {side}), got {tuple(image.shape)}")
        network: LayeredGenerator = self.ema.average  # type: ignore[assignment]  # of one
        # Inference mode, which commands run in, would leave nothing to search by.
        with torch.inference_mode(False), torch.enable_grad():
            picture = search_styles(
                network,
                self._here(image).clone(),
                steps=steps,
                generator=generator,
                features=features,
                report=report,
            )
        layers = to_layers(picture)
        return replace(layers, color=layers.color.clamp(-1, 1))

    def _here(self, values: Tensor) -> Tensor:
        return values.to(self.statistics.area_sum)


def to_layers(picture: LayeredPicture) -> Layers:
    """Background and foreground; backgrounds are whole.

    Colours stay as they were drawn: the composite is made of these, and what is written is cut.
    """
    color = torch.stack([picture.background, picture.foreground], dim=1)
    mask = picture.mask
    alpha = torch.stack([1 - mask, mask], dim=1)
    return Layers(color, alpha, opacity=torch.stack([torch.ones_like(mask), mask], dim=1))
