"""The discriminator of StyleGAN2-ADA (Karras et al. 2020).

Blocks halve the resolution down to 4x4, where an epilogue compares the samples of a batch with each
other (`append_batch_deviation`) and gives a score. Plain operators throughout, so that the gradient
penalty R1 can differentiate twice. Submodules are named as in the released checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from figureground.nn.equalized import EqualizedConv2d, EqualizedLinear
from figureground.nn.precision import widen
from figureground.nn.resample import fir_downsample, fir_taps
from figureground.nn.style_blocks import (
    LowPrecision,
    block_dtype,
    block_resolutions,
    feature_maps,
    low_precision_resolutions,
)
from figureground.nn.style_mapping import MappingNetwork

DiscriminatorArchitecture = Literal["resnet", "skip", "orig"]

#: Pictures that are compared with each other unless another number is asked for.
GROUP_SIZE = 4

_SKIP_GAIN = math.sqrt(0.5)
_EPS = 1e-8


def append_batch_deviation(
    features: Tensor, group_size: int = GROUP_SIZE, num_channels: int = 1
) -> Tensor:
    """Append how much the samples of a group differ, so that too little variety can be seen.

    The standard deviation over a group is averaged over channels and pixels and is the same for all
    of the group. Samples of a group are B / group size apart (0, B/G, 2B/G, ...).

    Args:
        features: (B, C, H, W).
        group_size: Samples compared with each other; B if that is less.
        num_channels: Channels to append; each averages over its share of the C channels.

    Returns:
        (B, C + num_channels, H, W).

    Raises:
        ValueError: B is not a multiple of the group size.
    """
    batch, channels, height, width = features.shape
    size = min(group_size, batch)
    if batch % size:
        raise ValueError(f"a batch of {batch} cannot be cut into groups of {size}")
    shape = (size, batch // size, num_channels, channels // num_channels, height, width)
    groups = features.reshape(shape)
    deviation = (groups.var(dim=0, correction=0) + _EPS).sqrt()  # (B / G, N, C / N, H, W)
    deviation = deviation.mean(dim=(2, 3, 4)).repeat(size, 1)  # (B, N)
    plane = deviation[:, :, None, None].expand(-1, -1, height, width)
    return torch.cat([features, plane], dim=1)


class DiscriminatorBlock(nn.Module):
    """Two 3x3 convolutions that halve the resolution.

    Args:
        in_channels: Channels of the incoming map.
        out_channels: Channels of the result.
        image_channels: Channels of the picture this block takes in; None if it takes none.
        architecture: See `StyleDiscriminator`.
        clamp: Limit of activations, or None.
    """

    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        image_channels: int | None,
        architecture: DiscriminatorArchitecture,
        clamp: float | None,
    ) -> None:
        super().__init__()
        self.register_buffer("resample_filter", fir_taps(), persistent=False)
        self.passes_image = architecture == "skip"
        self.fromrgb = (
            None
            if image_channels is None
            else EqualizedConv2d(image_channels, in_channels, 1, activation="lrelu", clamp=clamp)
        )
        self.conv0 = EqualizedConv2d(in_channels, in_channels, 3, activation="lrelu", clamp=clamp)
        self.conv1 = EqualizedConv2d(
            in_channels, out_channels, 3, activation="lrelu", resampling="down", clamp=clamp
        )
        self.skip = (
            EqualizedConv2d(in_channels, out_channels, 1, use_bias=False, resampling="down")
            if architecture == "resnet"
            else None
        )

    def forward(
        self, features: Tensor | None, image: Tensor | None, *, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor | None]:
        """Return the map (B, out_channels, H/2, W/2) and the picture for the next block, if any.

        Args:
            features: (B, in_channels, H, W); None for the first block.
            image: (B, image_channels, H, W) for a block that takes one in, or None.
            dtype: What the layers compute in.
        """
        features = None if features is None else features.to(dtype)
        if self.fromrgb is not None and image is not None:
            part = self.fromrgb(image.to(dtype))
            features = part if features is None else features + part
            image = fir_downsample(image, self.resample_filter) if self.passes_image else None
        if self.skip is None:
            return self.conv1(self.conv0(features)), image
        past = self.skip(features, gain=_SKIP_GAIN)
        return past + self.conv1(self.conv0(features), gain=_SKIP_GAIN), image


class DiscriminatorEpilogue(nn.Module):
    """From the 4x4 map to one score, or to a vector that meets the class.

    Args:
        channels: Channels of the map.
        out_features: 1, or the size of the mapped class.
        image_channels: Channels of a picture added to the map; None for none.
        group_size: See `append_batch_deviation`.
        num_deviation_channels: See there; 0 leaves it out.
        clamp: Limit of activations, or None.
    """

    def __init__(
        self,
        channels: int,
        out_features: int,
        *,
        image_channels: int | None,
        group_size: int,
        num_deviation_channels: int,
        clamp: float | None,
    ) -> None:
        super().__init__()
        self.group_size = group_size
        self.num_deviation_channels = num_deviation_channels
        self.fromrgb = (
            None
            if image_channels is None
            else EqualizedConv2d(image_channels, channels, 1, activation="lrelu")
        )
        self.conv = EqualizedConv2d(
            channels + num_deviation_channels, channels, 3, activation="lrelu", clamp=clamp
        )
        self.fc = EqualizedLinear(channels * 16, channels, activation="lrelu")
        self.out = EqualizedLinear(channels, out_features)

    def forward(self, features: Tensor, image: Tensor | None) -> Tensor:
        """Map (B, channels, 4, 4) to (B, out_features)."""
        # Deviations over a batch are small differences, which half precision would lose.
        with torch.autocast(features.device.type, enabled=False):
            features = widen(features)
            if self.fromrgb is not None and image is not None:
                features = features + self.fromrgb(widen(image))
            if self.num_deviation_channels:
                features = append_batch_deviation(
                    features, self.group_size, self.num_deviation_channels
                )
            scores: Tensor = self.out(self.fc(self.conv(features).flatten(1)))
            return scores


class StyleDiscriminator(nn.Module):
    """Score pictures, larger for "looks real"; optionally given their class (projection).

    Args:
        resolution: Side of the picture, a power of two from 8 on.
        in_channels: Channels of the picture.
        num_classes: Classes of the condition; 0 for none.
        channel_base: Maps of side r have min(channel_base / r, channel_max) channels.
        channel_max: See `channel_base`.
        conv_clamp: Activations stay within this limit, which half precision needs; None for none.
        architecture: "resnet" adds 1x1 convolutions past each block, "skip" shows the picture to
            every block, "orig" has neither.
        group_size: Samples compared with each other, see `append_batch_deviation`.
        num_deviation_channels: Channels of that comparison; 0 leaves it out.
        mapping_depth: Dense layers of the class's mapping.
        class_dim: Size of the mapped class; None for the channels at 4x4.
        low_precision_blocks: How many of the largest resolutions run in half precision (never on
            a CPU).
        low_precision: Which half precision.
    """

    def __init__(
        self,
        resolution: int,
        *,
        in_channels: int = 3,
        num_classes: int = 0,
        channel_base: int = 16384,
        channel_max: int = 256,
        conv_clamp: float | None = 256.0,
        architecture: DiscriminatorArchitecture = "resnet",
        group_size: int = GROUP_SIZE,
        num_deviation_channels: int = 1,
        mapping_depth: int = 8,
        class_dim: int | None = None,
        low_precision_blocks: int = 0,
        low_precision: LowPrecision = "float16",
    ) -> None:
        super().__init__()
        self.low_precision: LowPrecision = low_precision
        self.low_resolutions = low_precision_resolutions(resolution, low_precision_blocks)
        self.resolutions = block_resolutions(resolution)[:0:-1]
        for side in self.resolutions:
            takes_image = architecture == "skip" or side == resolution
            block = DiscriminatorBlock(
                feature_maps(side, channel_base, channel_max),
                feature_maps(side // 2, channel_base, channel_max),
                image_channels=in_channels if takes_image else None,
                architecture=architecture,
                clamp=conv_clamp,
            )
            self.add_module(f"b{side}", block)
        channels = feature_maps(4, channel_base, channel_max)
        class_dim = channels if class_dim is None else class_dim
        self.mapping = (
            MappingNetwork(
                0, class_dim, 1, num_classes=num_classes, depth=mapping_depth, average_decay=None
            )
            if num_classes
            else None
        )
        self.b4 = DiscriminatorEpilogue(
            channels,
            class_dim if num_classes else 1,
            image_channels=in_channels if architecture == "skip" else None,
            group_size=group_size,
            num_deviation_channels=num_deviation_channels,
            clamp=conv_clamp,
        )

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        """Score pictures.

        Args:
            image: (B, in_channels, R, R).
            label: int64 classes (B,), or their weights (B, num_classes); for conditional networks.

        Returns:
            (B,).
        """
        scores = self.b4(*self._descend(image))  # (B, 1), or (B, class_dim)
        if self.mapping is not None:
            mapped = self.mapping(None, label)[:, 0]
            scores = scores * mapped / math.sqrt(mapped.shape[1])
        total: Tensor = scores.sum(dim=1)
        return total

    def features(self, image: Tensor) -> Tensor:
        """Return the map (B, C, 4, 4) that enters the epilogue for pictures (B, C', R, R)."""
        return widen(self._descend(image)[0])

    def _descend(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        features: Tensor | None = None
        remaining: Tensor | None = image
        for side in self.resolutions:
            dtype = block_dtype(side in self.low_resolutions, self.low_precision, image)
            block: DiscriminatorBlock = getattr(self, f"b{side}")
            features, remaining = block(features, remaining, dtype=dtype)
        if features is None:
            raise RuntimeError("the discriminator has no blocks")
        return features, remaining


def score_in_groups(
    judge: Callable[[Tensor], Tensor], image: Tensor, size: int = GROUP_SIZE
) -> Tensor:
    """Scores (B,) of any number of pictures (B, 3, S, S) by `judge`.

    Pictures are compared in groups of `size`; the last one is filled up with pictures from the
    start.
    """
    rest = len(image) % size if len(image) > size else 0
    filled = torch.cat([image, image[: size - rest]]) if rest else image
    return judge(filled)[: len(image)]


def check_groups(batch_size: int, group_size: int) -> list[str]:
    """Say so if batches of `batch_size` cannot be cut into groups of `group_size`."""
    if not batch_size % min(group_size, batch_size):
        return []
    return [
        f"the discriminator compares pictures in groups of {group_size}, so data.batch_size must "
        f"be a multiple of {group_size}, got {batch_size}"
    ]
