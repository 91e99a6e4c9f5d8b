"""Generators of the papers that L2IC grew from: C3-GAN, ComGAN and DS-ComGAN.

C3-GAN (Kim & Ha, ICLR 2022, arXiv 2112.14971) draws backgrounds by a network of their own, and
foreground and mask from z, the category, and noise within the category. ComGAN (Ding et al.,
NeurIPS 2022) has no codes; DS-ComGAN adds one for the foreground and one for the background.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from figureground.methods.l2ic.blocks import (
    GatedConv,
    Head,
    JoinedConv,
    ResidualBlock,
    Start,
)
from figureground.methods.l2ic.codes import Codes
from figureground.methods.l2ic.composition import ComposedPicture
from figureground.methods.l2ic.generator import Trunk


def _residuals(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width) for _ in range(count)))


class _Backdrop(nn.Module):
    """Latents to maps of a quarter of `width` at full resolution, and colours from them.

    Args:
        resolution: Side S.
        latent_dim: D.
        width: Channels three enlargements from the start.
        num_blocks: Residual blocks.
        num_extra: Channels that join the 4x4 maps.
    """

    def __init__(
        self, resolution: int, latent_dim: int, width: int, num_blocks: int, num_extra: int = 0
    ) -> None:
        super().__init__()
        quarter, num_doublings = width // 4, (resolution // 4).bit_length() - 1
        widths = [width * 2**step for step in reversed(range(num_doublings - 1))]
        widths += [quarter, quarter]
        self.start = Start(latent_dim, widths[0])
        inputs = [widths[0] + num_extra, *widths[1:-1]]
        self.enlarge = nn.Sequential(
            *(GatedConv(one, other, 2) for one, other in zip(inputs, widths[1:], strict=True))
        )
        self.residuals = _residuals(quarter, num_blocks)

    def forward(self, latent: Tensor, *extra: Tensor) -> Tensor:
        """Map latents (B, D), and vectors (B, num_extra), to (B, width // 4, S, S)."""
        start = self.start(latent)
        tiled = [vector[:, :, None, None].expand(-1, -1, 4, 4) for vector in extra]
        maps: Tensor = self.residuals(self.enlarge(torch.cat([start, *tiled], dim=1)))
        return maps


class CategoryNoise(nn.Module):
    """Noise around a learned mean of each category: mean + exp(log-deviation) * noise.

    Args:
        num_categories: K.
        size: Length V of the noise.
    """

    def __init__(self, num_categories: int, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(num_categories, 4 * size)
        self.norm = nn.BatchNorm1d(4 * size)

    def forward(self, category: Tensor, noise: Tensor) -> Tensor:
        """Map categories (B,) int64 and noise (B, V) to (B, V)."""
        row = self.linear.weight.T.index_select(0, category) + self.linear.bias
        mean, log_deviation = F.glu(self.norm(row), dim=1).chunk(2, dim=1)
        return mean + log_deviation.exp() * noise


class C3Generator(nn.Module):
    """C3-GAN's generator; `num_blocks` counts those of colours, of what the mask sees, of grounds.

    Args:
        resolution: Side S, a power of two.
        latent_dim: D.
        width: Channels three enlargements from the start.
        num_categories: K.
        variation_dim: Length V of the noise within a category.
        num_blocks: Residual blocks of colours, of the foreground's maps, of the background's.
    """

    codes: ClassVar = ("z", "c")  # That can be set.

    def __init__(
        self,
        resolution: int,
        *,
        latent_dim: int = 64,
        width: int = 64,
        num_categories: int,
        variation_dim: int = 8,
        num_blocks: Sequence[int] = (2, 3, 3),
    ) -> None:
        super().__init__()
        quarter = width // 4
        colors, shared, ground = num_blocks
        self.background = _Backdrop(resolution, latent_dim, width, ground)
        self.background_head = Head(quarter, 3)
        self.noise = CategoryNoise(num_categories, variation_dim)
        self.foreground = _Backdrop(resolution, latent_dim, width, shared, variation_dim)
        self.mask_leave = GatedConv(quarter, quarter)
        self.mask_head = Head(quarter, 1)
        self.join = JoinedConv(quarter, num_categories, quarter)
        self.residuals = _residuals(quarter, colors)
        self.leave = GatedConv(quarter, quarter)
        self.head = Head(quarter, 3)

    def forward(self, codes: Codes, other_background: Tensor | None = None) -> ComposedPicture:
        """Draw pictures; their backgrounds know of no code."""
        around = self.noise(codes.category, codes.variation)
        features = self.foreground(codes.latent, around)
        colors = self.residuals(self.join(features, codes.category))
        return ComposedPicture(
            self.mask_head(self.mask_leave(features)),
            self.head(self.leave(colors)),
            self.background_head(self.background(codes.latent)),
        )


class FlatBranch(nn.Module):
    """Maps at full resolution to one layer.

    Args:
        width: Channels that come in.
        inner: Channels of the residual blocks.
        outer: Channels before the last convolution.
        num_residuals: Blocks.
        num_out: 1 for a mask in [0, 1], 3 for colours in [-1, 1].
        num_codes: Length of a code that joins the maps; 0 for none.
    """

    def __init__(
        self, width: int, inner: int, outer: int, num_residuals: int, num_out: int,
        num_codes: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.enter: nn.Module = (
            JoinedConv(width, num_codes, inner, code_first=True)
            if num_codes
            else GatedConv(width, inner)
        )
        self.residuals = _residuals(inner, num_residuals)
        self.leave = GatedConv(inner, outer)
        self.head = Head(outer, num_out)

    def forward(self, features: Tensor, *code: Tensor) -> Tensor:
        """Map (B, width, S, S), and codes (B,) int64 if it takes any, to (B, num_out, S, S)."""
        layer: Tensor = self.head(self.leave(self.residuals(self.enter(features, *code))))
        return layer


class ComGANGenerator(nn.Module):
    """ComGAN's generator: layers of one latent, and no codes.

    Args:
        resolution: Side S, a power of two.
        latent_dim: D.
        width: Four times the channels at full resolution.
        num_blocks: Residual blocks of foreground, mask and background.
    """

    codes: ClassVar = ("z",)  # That can be set.

    def __init__(
        self,
        resolution: int,
        *,
        latent_dim: int = 100,
        width: int = 64,
        num_blocks: Sequence[int] = (3, 0, 3),
    ) -> None:
        super().__init__()
        quarter = width // 4
        foreground, mask, background = num_blocks
        self.trunk = Trunk(latent_dim, quarter, (resolution // 4).bit_length() - 1)
        sizes = (quarter, 2 * quarter, quarter)
        self.mask = FlatBranch(*sizes, mask, 1)
        self.foreground = FlatBranch(*sizes, foreground, 3)
        self.background = FlatBranch(*sizes, background, 3)

    def forward(self, codes: Codes, other_background: Tensor | None = None) -> ComposedPicture:
        """Draw pictures of `codes.latent`."""
        features = self.trunk(codes.latent)
        return ComposedPicture(
            self.mask(features), self.foreground(features), self.background(features)
        )


class DSComGANGenerator(nn.Module):
    """DS-ComGAN's generator: the last three sizes of the trunk together are what layers see.

    Args:
        resolution: Side S, a power of two.
        latent_dim: D.
        width: Channels that layers see.
        num_categories: Length of the foreground's code.
        num_backgrounds: That of the background's.
        num_blocks: Residual blocks of foreground, mask and background.
    """

    codes: ClassVar = ("z", "c", "b")  # That can be set.

    def __init__(
        self,
        resolution: int,
        *,
        latent_dim: int = 100,
        width: int = 64,
        num_categories: int,
        num_backgrounds: int,
        num_blocks: Sequence[int] = (2, 1, 2),
    ) -> None:
        super().__init__()
        half, quarter = width // 2, width // 4
        foreground, mask, background = num_blocks
        self.trunk = Trunk(latent_dim, quarter, (resolution // 4).bit_length() - 1)
        self.sketch = Head(quarter, 3)
        self.from_half = GatedConv(half, quarter, 2)
        self.from_quarter = GatedConv(2 * half, half, 4)
        inner = 2 * quarter + half  # Channels that layers see: the width, if four divides it.
        self.mask = FlatBranch(inner, 2 * width, quarter, mask, 1)
        self.foreground = FlatBranch(inner, 2 * width, quarter, foreground, 3, num_categories)
        self.background = FlatBranch(inner, 2 * width, quarter, background, 3, num_backgrounds)

    def forward(self, codes: Codes, other_background: Tensor | None = None) -> ComposedPicture:
        """Draw pictures, and the sketch of each."""
        *_, quarter, half, full = self.trunk.stages(codes.latent)
        features = torch.cat([self.from_half(half), self.from_quarter(quarter), full], dim=1)
        return ComposedPicture(
            self.mask(features),
            self.foreground(features, codes.category),
            self.background(features, codes.background),
            sketch=self.sketch(full),
        )
