"""What a trained generator of composed pictures can draw: samples, given codes, mixed layers."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from figureground.core.types import Layers
from figureground.methods.l2ic.codes import (
    BackgroundDrawing,
    Codes,
    Drawing,
    draw_categories,
    parent_of,
)
from figureground.methods.l2ic.composition import ComposedPicture
from figureground.nn.ema import WeightAverage
from figureground.nn.regions import RegionStatistics


class CompositionDrawing:
    """Draws pictures by a generator, or by the average of its weights where there is one.

    Attributes:
        generator: Of `ComposedPicture` from `Codes`.
        ema: Its average, or None.
        latent_dim: D.
        latent_scale: Standard deviation of z.
        variation_dim: V.
        num_categories: K.
        num_backgrounds: Length of b.
        background_drawing: Whether b belongs to c or is drawn by itself.
        statistics: Says where the weights are.
    """

    generator: nn.Module
    ema: WeightAverage | None
    latent_dim: int
    latent_scale: float
    variation_dim: int
    num_categories: int
    num_backgrounds: int
    background_drawing: BackgroundDrawing
    statistics: RegionStatistics

    def draw(self, codes: Codes) -> ComposedPicture:
        """The pictures of `codes`."""
        network = self.generator if self.ema is None else self.ema
        picture: ComposedPicture = network(codes)
        return picture

    def draw_codes(
        self, count: int, how: Drawing = "uniform", generator: torch.Generator | None = None
    ) -> Codes:
        """Codes of `count` pictures; backgrounds belong to categories unless drawn by themselves.

        Args:
            count: Pictures.
            how: Of the categories, see `codes`.
            generator: Source of random numbers; None for the global one.
        """
        like = self.statistics.area_sum
        latent = self.latent_scale * torch.randn(count, self.latent_dim, generator=generator)
        category = draw_categories(count, self.num_categories, how, generator)
        if self.background_drawing == "tied":
            background = parent_of(category, self.num_categories, self.num_backgrounds)
        else:
            background = draw_categories(count, self.num_backgrounds, "uniform", generator)
        variation = torch.randn(count, self.variation_dim, generator=generator)
        device = like.device
        return Codes(
            latent.to(like), category.to(device), background.to(device), variation.to(like)
        )

    def sample(self, count: int, *, generator: torch.Generator | None = None) -> Layers:
        """Draw `count` pictures as background and foreground, of any categories."""
        return to_layers(self.draw(self.draw_codes(count, generator=generator)))

    def sample_of(self, category: Tensor, *, generator: torch.Generator | None = None) -> Layers:
        """Draw a picture of each of `category` (B,) int64, otherwise as `sample` does."""
        codes = self.draw_codes(len(category), generator=generator)
        category, background = category.to(codes.category), codes.background
        if self.background_drawing == "tied":
            background = self.background_of(category)
        return to_layers(self.draw(replace(codes, category=category, background=background)))

    @property
    def codes(self) -> tuple[str, ...]:
        """Codes that can be set: of C3-GAN not b, of ComGAN z alone."""
        found: tuple[str, ...] = self.generator.codes  # type: ignore[assignment]  # of ours
        return found

    def draw_poses(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw `count` times z, with C3-GAN's noise within a category behind it, (B, D + V)."""
        codes = self.draw_codes(count, generator=generator)
        return torch.cat([codes.latent, codes.variation], dim=1)

    def background_of(self, category: Tensor) -> Tensor:
        """Background (B,) that goes with each of `category` (B,) in training."""
        return parent_of(category, self.num_categories, self.num_backgrounds)

    def compose(self, pose: Tensor, category: Tensor, background: Tensor) -> Layers:
        """The pictures of z (B, D + V), as `draw_poses` gives it, c (B,) and b (B,)."""
        like = self.statistics.area_sum
        latent, variation = torch.split(pose.to(like), [self.latent_dim, self.variation_dim], dim=1)
        category, background = category.to(like.device), background.to(like.device)
        return to_layers(self.draw(Codes(latent, category, background, variation)))

    def latent(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw codes as one vector each, (`count`, D + K + K_b + V): z, c, b and the variation.

        c and b are one-hot; of others `decode` takes the largest entry.
        """
        codes = self.draw_codes(count, generator=generator)
        parts = [
            codes.latent,
            F.one_hot(codes.category, self.num_categories).to(codes.latent),
            F.one_hot(codes.background, self.num_backgrounds).to(codes.latent),
            codes.variation,
        ]
        return torch.cat(parts, dim=1)

    def decode(self, latent: Tensor) -> Layers:
        """The pictures of `latent`, as `sample` returns them."""
        return to_layers(self.draw(self._split(latent)))

    def decode_layers(self, latent: Tensor) -> Layers:
        """Backgrounds of `latent[:, 0]` and foregrounds of `latent[:, 1]`, which is (B, 2, ...).

        Raises:
            ValueError: There is another number of layers.
        """
        if latent.ndim != 3 or latent.shape[1] != 2:
            raise ValueError(
                f"latent must be (B, 2, D), one for each of two layers, got {tuple(latent.shape)}"
            )
        back, front = (self.draw(self._split(part)) for part in latent.unbind(dim=1))
        return to_layers(replace(front, background=back.background))

    def _split(self, latent: Tensor) -> Codes:
        sizes = [self.latent_dim, self.num_categories, self.num_backgrounds, self.variation_dim]
        if latent.shape[1] != sum(sizes):
            raise ValueError(f"latent must be (B, {sum(sizes)}), got {tuple(latent.shape)}")
        parts = torch.split(latent.to(self.statistics.area_sum), sizes, dim=1)
        # Contiguous, so that equal codes draw equal bits where products depend on strides.
        z, category, background, variation = (part.contiguous() for part in parts)
        return Codes(z, category.argmax(dim=1), background.argmax(dim=1), variation)


def to_layers(picture: ComposedPicture) -> Layers:
    """Background and foreground; backgrounds are whole."""
    color = torch.stack([picture.background, picture.foreground], dim=1)
    mask = picture.mask
    alpha = torch.stack([1 - mask, mask], dim=1)
    return Layers(color, alpha, opacity=torch.stack([torch.ones_like(mask), mask], dim=1))
