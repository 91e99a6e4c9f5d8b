"""Blocks of StyleGAN2-ADA's generator, one for each resolution (Karras et al. 2020).

Also what blocks of both players agree on: channels at a resolution, and what it computes in.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from figureground.nn.equalized import EqualizedConv2d
from figureground.nn.modulation import NoiseMode, SynthesisLayer, ToImage
from figureground.nn.precision import widen
from figureground.nn.resample import fir_taps, fir_upsample

LowPrecision = Literal["float16", "bfloat16"]

_SMALLEST_MAP = 4
_SKIP_GAIN = math.sqrt(0.5)


def feature_maps(resolution: int, channel_base: int, channel_max: int) -> int:
    """Return the number of channels at a resolution: min(channel_base / resolution, max)."""
    return min(channel_base // resolution, channel_max)


def block_resolutions(resolution: int) -> list[int]:
    """Return 4, 8, ..., `resolution`.

    Raises:
        ValueError: Not a power of two from 8 on.
    """
    if resolution < 2 * _SMALLEST_MAP or resolution & (resolution - 1):
        raise ValueError(f"resolution must be a power of two from 8 on, got {resolution}")
    return [2**power for power in range(2, resolution.bit_length())]


def low_precision_resolutions(resolution: int, count: int) -> set[int]:
    """Return the `count` largest block resolutions; maps of 4 x 4 always stay in float32."""
    return set(block_resolutions(resolution)[1:][-count:]) if count > 0 else set()


def block_dtype(is_low: bool, low_precision: LowPrecision, reference: Tensor) -> torch.dtype:
    """Return what a block computes in: half precision is for accelerators only."""
    if is_low and reference.device.type != "cpu":
        return torch.float16 if low_precision == "float16" else torch.bfloat16
    return widen(reference).dtype


def check_blocks(
    resolution: int,
    *,
    channel_base: int,
    conv_clamp: float | None,
    low_precision_blocks: int,
    low_precision: LowPrecision,
) -> list[str]:
    """Problems of options that the networks of both players have in common."""
    problems = []
    if channel_base < resolution:
        problems.append(
            f"channel_base must be the resolution ({resolution}) at least, or the largest "
            f"maps have no channels; got {channel_base}"
        )
    if low_precision_blocks and low_precision == "float16" and conv_clamp is None:
        problems.append(
            "float16 overflows without a limit of activations: set conv_clamp (256 as published), "
            "low_precision=bfloat16, or low_precision_blocks=0"
        )
    return problems


class SynthesisBlock(nn.Module):
    """All layers of one resolution.

    Args:
        in_channels: Channels of the incoming map; None for the first block, which has a constant.
        out_channels: Channels of the result.
        style_dim: Size of a style vector.
        resolution: Side of the result.
        image_channels: Channels of the picture; None if this block contributes none.
        has_skip: Whether a 1x1 convolution goes past the others (architecture "resnet").
        clamp: Limit of activations, or None.
    """

    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int | None,
        out_channels: int,
        style_dim: int,
        resolution: int,
        *,
        image_channels: int | None,
        has_skip: bool,
        clamp: float | None,
    ) -> None:
        super().__init__()
        self.has_skip = has_skip and in_channels is not None
        self.register_buffer("resample_filter", fir_taps(), persistent=False)
        if in_channels is None:
            self.const = nn.Parameter(torch.randn(out_channels, resolution, resolution))
        else:
            self.conv0 = SynthesisLayer(
                in_channels, out_channels, style_dim, resolution, upsample=True, clamp=clamp
            )
            if self.has_skip:
                self.skip = EqualizedConv2d(
                    in_channels, out_channels, 1, use_bias=False, resampling="up"
                )
        self.is_first = in_channels is None
        self.conv1 = SynthesisLayer(out_channels, out_channels, style_dim, resolution, clamp=clamp)
        self.torgb = (
            None
            if image_channels is None
            else ToImage(out_channels, image_channels, style_dim, clamp=clamp)
        )

    @property
    def num_convolutions(self) -> int:
        """Style vectors this block takes, without the one of the picture."""
        return 1 if self.is_first else 2

    def forward(
        self,
        features: Tensor | None,
        image: Tensor | None,
        styles: Iterator[Tensor],
        *,
        dtype: torch.dtype,
        noise: NoiseMode,
        generator: torch.Generator | None,
        fused: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the new map and the new picture (float32 or wider).

        Args:
            features: Map of half the resolution; None for the first block.
            image: Picture of half the resolution, or None if there is none yet.
            styles: Yields `num_convolutions` vectors (B, style_dim) and one for the picture.
            dtype: What the layers compute in.
            noise: See `SynthesisLayer`.
            generator: See `SynthesisLayer`.
            fused: See `SynthesisLayer`.
        """
        style = next(styles)
        if features is None:
            features = self.const.to(dtype).expand(len(style), -1, -1, -1)
            past = None
        else:
            features = features.to(dtype)
            past = self.skip(features, gain=_SKIP_GAIN) if self.has_skip else None
            features = self.conv0(features, style, noise=noise, generator=generator, fused=fused)
            style = next(styles)
        features = self.conv1(
            features,
            style,
            noise=noise,
            generator=generator,
            gain=1.0 if past is None else _SKIP_GAIN,
            fused=fused,
        )
        features = features if past is None else past + features
        if image is not None:
            image = fir_upsample(image, self.resample_filter)
        if self.torgb is not None:
            part = widen(self.torgb(features, next(styles), fused=fused))
            image = part if image is None else image + part
        return features, image
