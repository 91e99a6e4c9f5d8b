"""The U-Net (Ronneberger et al. 2015) of all papers here that train one, as one class.

ILSGAN and gan-segmenter upsample bilinearly and let the block after the concatenation narrow the
channels; L2IC repeats pixels and narrows by a convolution before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: `bilinear_aligned` puts corner pixels on corner pixels, `bilinear` does not; `nearest_conv`
#: repeats pixels and convolves.
Upsampling = Literal["bilinear_aligned", "bilinear", "nearest_conv"]
BlockNorm = Literal["batch", "instance", "none"]


def unet_widths(width: int, depth: int, upsampling: Upsampling) -> list[int]:
    """Channels of each level: doubled from level to level, at the bottom as published.

    Without a narrowing convolution the bottom is no wider than the level above it.

    Args:
        width: Channels at full resolution.
        depth: Times that the resolution is halved.
        upsampling: See `UNet`.

    Returns:
        `depth` + 1 numbers.
    """
    bottom = depth if upsampling == "nearest_conv" else max(depth - 1, 0)
    return [width * 2 ** min(level, bottom) for level in range(depth + 1)]


class UNet(nn.Module):
    """Blocks of two convolutions down to the bottom and up again, with skips between.

    Any size from 2**depth pixels on works: where halving has rounded down, the upsampled map is
    padded with zeros to the size of its skip, the odd pixel at the right and the bottom.

    Args:
        num_inputs: Channels of the picture.
        num_outputs: Channels of the 1x1 convolution at the end; 0 leaves it out, so that `forward`
            returns the features (B, widths[0], H, W) for heads of other kinds.
        widths: Channels of each level from full resolution to the bottom.
        upsampling: How maps are enlarged.
        norm: Normalisation after each 3x3 convolution.
        bias: Whether the 3x3 convolutions have one.
    """

    def __init__(
        self,
        *,
        num_inputs: int = 3,
        num_outputs: int = 2,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        upsampling: Upsampling = "bilinear_aligned",
        norm: BlockNorm = "batch",
        bias: bool = True,
    ) -> None:
        super().__init__()
        if not widths:
            raise ValueError("a U-Net needs one level at least, got widths=[]")
        self.upsampling = upsampling
        narrows = upsampling == "nearest_conv"
        inner = list(widths[:-1])
        self.encode = nn.ModuleList(
            _Block(one, other, norm, bias)
            for one, other in zip([num_inputs, *inner], widths, strict=True)
        )
        # From the bottom up: what comes from below, and what its level hands on.
        below, self.narrow, self.decode = widths[-1], nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(len(inner))):
            skip = inner[level]
            if narrows:
                self.narrow.append(_Convolution(below, skip, norm, bias))
            width = skip if narrows else inner[max(level - 1, 0)]
            self.decode.append(_Block(skip + (skip if narrows else below), width, norm, bias))
            below = width
        self.head = nn.Conv2d(below, num_outputs, 1) if num_outputs else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, num_inputs, H, W) to (B, num_outputs, H, W), unbounded."""
        skips = []
        features = image
        for level, block in enumerate(self.encode):
            if level:
                skips.append(features)
                features = F.max_pool2d(features, 2)
            features = block(features)
        for step, block in enumerate(self.decode):
            skip = skips.pop()
            features = block(torch.cat([skip, _pad_to(self._enlarge(features, step), skip)], dim=1))
        result: Tensor = self.head(features)
        return result

    def _enlarge(self, features: Tensor, step: int) -> Tensor:
        if self.upsampling == "nearest_conv":
            narrowed: Tensor = self.narrow[step](F.interpolate(features, scale_factor=2))
            return narrowed
        aligned = self.upsampling == "bilinear_aligned"
        return F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=aligned)


class _Convolution(nn.Module):
    """3x3 convolution, normalisation, ReLU."""

    def __init__(self, num_in: int, num_out: int, norm: BlockNorm, bias: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(num_in, num_out, 3, padding=1, bias=bias)
        self.norm = _make_norm(norm, num_out)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(features)))


class _Block(nn.Module):
    """Two convolutions, both to `num_out` channels."""

    def __init__(self, num_in: int, num_out: int, norm: BlockNorm, bias: bool) -> None:
        super().__init__()
        self.first = _Convolution(num_in, num_out, norm, bias)
        self.second = _Convolution(num_out, num_out, norm, bias)

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.second(self.first(features))
        return result


def _make_norm(norm: BlockNorm, width: int) -> nn.Module:
    if norm == "batch":
        return nn.BatchNorm2d(width)
    return nn.InstanceNorm2d(width, affine=True) if norm == "instance" else nn.Identity()


def _pad_to(features: Tensor, skip: Tensor) -> Tensor:
    """Pad (B, C, h, w) with zeros to the height and width of `skip`."""
    down, right = (skip.shape[i] - features.shape[i] for i in (2, 3))
    if not down and not right:
        return features
    return F.pad(features, (right // 2, right - right // 2, down // 2, down - down // 2))
