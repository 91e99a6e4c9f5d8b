"""The four networks of ReDO: mask network M, region generators X, discriminator D, encoder Z.

Letters in the text: S image side, F base width of the network in question, K regions, D latent
size per region. Every network takes any power-of-two S (M any multiple of 4); at S = 128 all match
the authors' released weights, see `convert.py`.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from figureground.nn.attention import PooledSelfAttention
from figureground.nn.normalization import (
    ConditionalInstanceNorm,
    SpectralNormOrder,
    spectral_norm,
)
from figureground.nn.precision import widen
from figureground.nn.resample import conv3x3_downsample, upsample_conv3x3

_SMALLEST_MAP = 4  # D, X and Z go down to, or start from, 4 x 4 positions.
_LARGEST_ATTENTION = 64  # Attention sits where maps are 64 x 64, or half the image if smaller.
_WIDEST = 16  # No network is wider than 16 F.


class MaskNetwork(nn.Module):
    """M: cut an image into K soft regions that sum to one at every pixel (paper, section 4).

    A strided trunk with residual blocks, a pyramid of pooled context maps, two upsampling
    convolutions. Instance norm without running statistics: train and eval mode are the same.

    Args:
        resolution: Image side S, a multiple of 4, at least 24.
        num_regions: K. Two regions share one logit (sigmoid), more have one each (softmax).
        width: F.
        num_blocks: Residual blocks in the trunk.
        temperature: Divides the logits.
        channels: Image channels.
    """

    def __init__(
        self,
        *,
        resolution: int,
        num_regions: int = 2,
        width: int = 64,
        num_blocks: int = 3,
        temperature: float = 1.0,
        channels: int = 3,
    ) -> None:
        super().__init__()
        if resolution % 4 or resolution < 24:
            raise ValueError(f"resolution must be a multiple of 4 from 24 on, got {resolution}")
        self.temperature = temperature
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width // 4, 7, padding=3, padding_mode="reflect", bias=False),
            nn.InstanceNorm2d(width // 4, affine=True),
            nn.ReLU(),
            nn.Conv2d(width // 4, width // 2, 3, stride=2, padding=1, bias=False),
            nn.InstanceNorm2d(width // 2, affine=True),
            nn.ReLU(),
            nn.Conv2d(width // 2, width, 3, stride=2, padding=1, bias=False),
            nn.InstanceNorm2d(width, affine=True),
            nn.ReLU(),
        )
        self.blocks = nn.Sequential(*(_ResidualBlock(width) for _ in range(num_blocks)))
        side = resolution // 4
        self.pyramid = nn.ModuleList(
            nn.Sequential(nn.AvgPool2d(side // divisor), nn.Conv2d(width, 1, 1))
            for divisor in (1, 2, 3, 6)
        )
        width += len(self.pyramid)
        self.grow = nn.ModuleList([_UpsampleBlock(width, width // 2)])
        self.grow.append(_UpsampleBlock(width // 2, width // 4))
        self.head = nn.Conv2d(
            width // 4, 1 if num_regions == 2 else num_regions, 7, padding=3, padding_mode="reflect"
        )

    def features(self, image: Tensor) -> Tensor:
        """Trunk output (B, F, S/4, S/4) of `image` (B, C, S, S)."""
        features: Tensor = self.blocks(self.stem(image))
        return features

    def context(self, features: Tensor) -> list[Tensor]:
        """The four pooled maps of the pyramid, each upsampled to (B, 1, S/4, S/4)."""
        size = features.shape[-2:]
        return [F.interpolate(level(features), size, mode="bilinear") for level in self.pyramid]

    def forward(self, image: Tensor) -> Tensor:
        """Segment `image` (B, C, S, S) in [-1, 1] into probabilities (B, K, S, S)."""
        features = self.features(image)
        features = torch.cat([features, *self.context(features)], dim=1)
        for block in self.grow:
            features = block(features)
        logits = widen(self.head(features)) / self.temperature
        if logits.shape[1] > 1:
            return torch.softmax(logits, dim=1)
        region = torch.sigmoid(logits)
        return torch.cat([region, 1 - region], dim=1)


class RegionGenerators(nn.Module):
    """X: one generator per region, each of which repaints its region from a latent.

    Args:
        resolution: Image side S, a power of two from 16 on.
        num_regions: K.
        latent_dim: D.
        width: F.
        use_attention: Self-attention before the block that leaves 64 x 64 (S/2 if smaller).
        norm_order: Flavour of spectral norm (see `SpectralNorm`).
        channels: Image channels.
    """

    def __init__(
        self,
        *,
        resolution: int,
        num_regions: int = 2,
        latent_dim: int = 32,
        width: int = 64,
        use_attention: bool = False,
        norm_order: SpectralNormOrder = "right_first",
        channels: int = 3,
    ) -> None:
        super().__init__()
        self.regions = nn.ModuleList(
            _RegionGenerator(resolution, latent_dim, width, use_attention, norm_order, channels)
            for _ in range(num_regions)
        )

    def forward(self, masks: Tensor, latents: Tensor) -> Tensor:
        """Paint every region.

        Args:
            masks: (B, K, S, S), in [0, 1].
            latents: (B, K, D), standard normal.

        Returns:
            Paintings already multiplied by their masks, (B, K, C, S, S).
        """
        painted = [
            generate(masks[:, k : k + 1], latents[:, k]) for k, generate in enumerate(self.regions)
        ]
        return torch.stack(painted, dim=1)


class Discriminator(nn.Module):
    """D: tell pictures with a redrawn region from real ones; a real number per picture.

    Args:
        resolution: Image side S, a power of two from 16 on.
        width: F.
        use_attention: Self-attention where maps are 64 x 64 (S/2 if smaller).
        norm_order: Flavour of spectral norm (see `SpectralNorm`).
        channels: Image channels.
    """

    def __init__(
        self,
        *,
        resolution: int,
        width: int = 64,
        use_attention: bool = False,
        norm_order: SpectralNormOrder = "right_first",
        channels: int = 3,
    ) -> None:
        super().__init__()
        self.trunk = _ResidualTrunk(resolution, width, use_attention, norm_order, channels)
        self.head = nn.Linear(self.trunk.num_features, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Score `image` (B, C, S, S): (B,), high for real."""
        score: Tensor = self.head(self.trunk(image)).squeeze(1)
        return score


class LatentEncoder(nn.Module):
    """Z: recover the latents of all regions from the fully redrawn image.

    Args:
        resolution: Image side S, a power of two from 16 on.
        num_regions: K.
        latent_dim: D.
        width: F.
        norm_order: Flavour of spectral norm (see `SpectralNorm`).
        channels: Image channels.
    """

    def __init__(
        self,
        *,
        resolution: int,
        num_regions: int = 2,
        latent_dim: int = 32,
        width: int = 64,
        norm_order: SpectralNormOrder = "right_first",
        channels: int = 3,
    ) -> None:
        super().__init__()
        self.num_regions = num_regions
        self.trunk = _ResidualTrunk(resolution, width, False, norm_order, channels)
        self.head = nn.Linear(self.trunk.num_features, num_regions * latent_dim)

    def forward(self, image: Tensor) -> Tensor:
        """Estimate the latents (B, K, D) behind `image` (B, C, S, S)."""
        latents: Tensor = self.head(self.trunk(image))
        return latents.reshape(len(image), self.num_regions, -1)


class _ResidualBlock(nn.Module):
    """Two 3x3 convolutions with instance norm; the last norm follows the sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.InstanceNorm2d(width, affine=True),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.norm = nn.InstanceNorm2d(width, affine=True)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.norm(self.body(features) + features))


class _UpsampleBlock(nn.Module):
    """Nearest upsampling, 3x3 convolution, instance norm, ReLU."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(num_in, num_out, 3, padding=1, bias=False)
        self.norm = nn.InstanceNorm2d(num_out, affine=True)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.norm(upsample_conv3x3(features, self.conv.weight)))


class _RegionGenerator(nn.Module):
    """One region's generator: a latent grown to an image, with the mask shown at every size."""

    def __init__(
        self,
        resolution: int,
        latent_dim: int,
        width: int,
        use_attention: bool,
        norm_order: SpectralNormOrder,
        channels: int,
    ) -> None:
        super().__init__()
        num_blocks = _num_halvings(resolution)
        widths = [width * min(_WIDEST, 2**i) for i in reversed(range(num_blocks))]
        self.dense = nn.Linear(latent_dim, widths[0] * _SMALLEST_MAP**2)
        self.blocks = nn.ModuleList(
            _PaintBlock(num_in, num_out, latent_dim, norm_order)
            for num_in, num_out in zip([widths[0], *widths], widths, strict=False)
        )
        self.attention_at = min(_LARGEST_ATTENTION, resolution // 2)
        self.attention: nn.Module | None = None
        if use_attention:
            block = int(math.log2(self.attention_at // _SMALLEST_MAP))
            self.attention = PooledSelfAttention([widths[0], *widths][block], norm_order)
        self.norm = ConditionalInstanceNorm(width, latent_dim)
        self.head = spectral_norm(nn.Conv2d(width + 1, channels, 3, padding=1), norm_order)

    def forward(self, mask: Tensor, latent: Tensor) -> Tensor:
        """Paint under `mask` (B, 1, S, S) from `latent` (B, D): (B, C, S, S), masked."""
        features = self.dense(latent).unflatten(1, (-1, _SMALLEST_MAP, _SMALLEST_MAP))
        for block in self.blocks:
            side = features.shape[-1]
            if self.attention is not None and side == self.attention_at:
                features = self.attention(features)
            small = F.avg_pool2d(mask, mask.shape[-1] // side)
            features = block(features, small, latent)
        features = torch.cat([F.relu(self.norm(features, latent)), mask], dim=1)
        return torch.tanh(self.head(features)) * mask


class _PaintBlock(nn.Module):
    """Residual upsampling block of a region generator, conditioned on mask and latent."""

    def __init__(
        self, num_in: int, num_out: int, latent_dim: int, norm_order: SpectralNormOrder
    ) -> None:
        super().__init__()
        self.norm_a = ConditionalInstanceNorm(num_in, latent_dim)
        self.conv_a = spectral_norm(
            nn.Conv2d(num_in + 1, num_out, 3, padding=1, bias=False), norm_order
        )
        self.norm_b = ConditionalInstanceNorm(num_out, latent_dim)
        self.conv_b = spectral_norm(nn.Conv2d(num_out, num_out, 3, padding=1), norm_order)
        self.shortcut = spectral_norm(nn.Conv2d(num_in, num_out, 1), norm_order)

    def forward(self, features: Tensor, mask: Tensor, latent: Tensor) -> Tensor:
        """Double the size of `features` (B, N, H, W) under `mask` (B, 1, H, W)."""
        hidden = torch.cat([F.relu(self.norm_a(features, latent)), mask], dim=1)
        hidden = upsample_conv3x3(hidden, self.conv_a.weight)
        hidden = self.conv_b(F.relu(self.norm_b(hidden, latent)))
        # A 1x1 convolution commutes with nearest upsampling and costs a quarter before it.
        shortcut = F.interpolate(self.shortcut(features), scale_factor=2.0)
        return torch.add(hidden, shortcut)


class _ResidualTrunk(nn.Module):
    """Residual stack shared by D and Z: S x S image to one vector, summed over 4 x 4 positions."""

    def __init__(
        self,
        resolution: int,
        width: int,
        use_attention: bool,
        norm_order: SpectralNormOrder,
        channels: int,
    ) -> None:
        super().__init__()
        num_blocks = _num_halvings(resolution)
        widths = [width * min(_WIDEST, 2**i) for i in range(num_blocks)]
        self.num_features = widths[-1]
        self.blocks = nn.ModuleList([_DownBlock(channels, width, norm_order, is_first=True)])
        self.blocks.extend(
            _DownBlock(num_in, num_out, norm_order) for num_in, num_out in pairwise(widths)
        )
        self.last = _LastBlock(widths[-1], norm_order)
        self.attention_at = min(_LARGEST_ATTENTION, resolution // 2)
        self.attention: nn.Module | None = None
        if use_attention:
            halvings = int(math.log2(resolution // self.attention_at))
            self.attention = PooledSelfAttention(widths[halvings - 1], norm_order)

    def forward(self, image: Tensor) -> Tensor:
        """Encode `image` (B, C, S, S) as (B, num_features)."""
        features = image
        for block in self.blocks:
            features = block(features)
            if self.attention is not None and features.shape[-1] == self.attention_at:
                features = self.attention(features)
        features = self.last(features)
        return torch.sum(features, dim=(2, 3))


class _DownBlock(nn.Module):
    """Residual block that halves the map; the first one sees raw pixels, so no ReLU before it."""

    def __init__(
        self, num_in: int, num_out: int, norm_order: SpectralNormOrder, is_first: bool = False
    ) -> None:
        super().__init__()
        self.is_first = is_first
        self.conv_a = spectral_norm(nn.Conv2d(num_in, num_out, 3, padding=1), norm_order)
        self.conv_b = spectral_norm(nn.Conv2d(num_out, num_out, 3, padding=1), norm_order)
        self.shortcut = spectral_norm(nn.Conv2d(num_in, num_out, 1), norm_order)

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.conv_a(features if self.is_first else F.relu(features))
        hidden = conv3x3_downsample(F.relu(hidden), self.conv_b.weight, self.conv_b.bias)
        shortcut: Tensor = self.shortcut(F.avg_pool2d(features, 2))
        return hidden + shortcut


class _LastBlock(nn.Module):
    """Residual block at constant size and width."""

    def __init__(self, width: int, norm_order: SpectralNormOrder) -> None:
        super().__init__()
        self.conv_a = spectral_norm(nn.Conv2d(width, width, 3, padding=1), norm_order)
        self.conv_b = spectral_norm(nn.Conv2d(width, width, 3, padding=1), norm_order)

    def forward(self, features: Tensor) -> Tensor:
        hidden: Tensor = self.conv_b(F.relu(self.conv_a(F.relu(features))))
        return hidden + features


def _num_halvings(resolution: int) -> int:
    """How often `resolution` halves on the way to 4 pixels; a power of two from 16 on."""
    if resolution < 16 or resolution & (resolution - 1):
        raise ValueError(f"resolution must be a power of two from 16 on, got {resolution}")
    return int(math.log2(resolution // _SMALLEST_MAP))
