"""Blocks that image generators of the BigGAN line share; for inference, so statistics are stored.

`ResidualBlock` is that of SNGAN (Miyato et al. 2018), SAGAN (Zhang et al. 2019) and BigGAN (Brock
et al. 2019), `BottleneckBlock` that of BigGAN-deep. What a class may do to their normalisation is
the block's `Condition`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Resolution -> channels of the 4x4 maps and after each doubling, in multiples of the width.
CHANNEL_MULTIPLES: dict[int, tuple[int, ...]] = {
    32: (4, 4, 4, 4),
    64: (16, 8, 4, 2, 1),
    128: (16, 16, 8, 4, 2, 1),
    256: (16, 16, 8, 8, 4, 2, 1),
    512: (16, 16, 8, 8, 4, 2, 1, 1),
}
_WORTH_SUMMING = 16  # Smaller maps take less time than the sums of their many filters.

ConditionKind = Literal["none", "class", "vector"]


@dataclass(frozen=True, slots=True)
class Condition:
    """What scale and shift after a normalisation depend on.

    Attributes:
        kind: `none`: learned constants; `class`: a table with a row for each class; `vector`:
            linear functions, without bias, of a vector.
        size: Number of classes, or length of the vector.
        eps: Added to variances.
    """

    kind: ConditionKind = "none"
    size: int = 0
    eps: float = 1e-4

    def make_map(self, num_channels: int) -> nn.Module:
        """A fresh map from the condition to (B, num_channels); not for `none`."""
        if self.kind == "class":
            return nn.Embedding(self.size, num_channels)
        return nn.Linear(self.size, num_channels, bias=False)


class ConditionalBatchNorm(nn.Module):
    """Batch norm with stored statistics, scale and shift of which depend on a condition.

    out = (x - mean) / sqrt(variance + eps) * (1 + scale(y)) + shift(y), evaluated as one
    multiplication and one addition for each value.

    Args:
        num_channels: Channels C of the normalised map.
        condition: What scale and shift depend on.
        num_levels: Sets of statistics L, for truncations from 0 to 1 at equal distances.

    Attributes:
        level: Which set is used, and the share that the next one has in it; the last set at first.
    """

    def __init__(self, num_channels: int, condition: Condition, num_levels: int = 1) -> None:
        super().__init__()
        self.eps = condition.eps
        self.is_conditional = condition.kind != "none"
        self.register_buffer("mean", torch.zeros(num_levels, num_channels))
        self.register_buffer("variance", torch.ones(num_levels, num_channels))
        self.mean: Tensor
        self.variance: Tensor
        self.level: tuple[int, float] = (num_levels - 1, 0.0)
        if self.is_conditional:
            self.scale, self.shift = (condition.make_map(num_channels) for _ in range(2))
        else:
            self.weight = nn.Parameter(torch.ones(num_channels))
            self.bias = nn.Parameter(torch.zeros(num_channels))

    def forward(self, features: Tensor, condition: Tensor | None) -> Tensor:
        """Normalise `features` (B, C, H, W) under classes (B,), vectors (B, D), or None."""
        # Small variances would vanish in half precision.
        mean, variance = self._blend(self.mean.float()), self._blend(self.variance.float())
        inverse_deviation = torch.rsqrt(variance + self.eps)
        if self.is_conditional:
            gain = (1 + self.scale(condition)) * inverse_deviation  # (B, C)
            offset = self.shift(condition) - mean * gain
        else:
            gain = (self.weight * inverse_deviation).unsqueeze(0)  # (1, C)
            offset = self.bias - mean * gain
        gain, offset = (x.to(features.dtype)[:, :, None, None] for x in (gain, offset))
        return torch.addcmul(offset, features, gain)

    def _blend(self, statistics: Tensor) -> Tensor:
        """Statistics (C,) at the current level, of `statistics` (L, C)."""
        row, share = self.level
        return torch.lerp(statistics[row], statistics[row + 1], share) if share else statistics[row]


class ResidualBlock(nn.Module):
    """Norm, ReLU, doubling, 3x3, norm, ReLU, 3x3, beside a doubled 1x1 shortcut.

    Args:
        in_channels: Channels C of the input.
        out_channels: Channels D of the output.
        condition: Of both normalisations.
    """

    def __init__(self, in_channels: int, out_channels: int, condition: Condition) -> None:
        super().__init__()
        self.norm1 = ConditionalBatchNorm(in_channels, condition)
        self.norm2 = ConditionalBatchNorm(out_channels, condition)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, features: Tensor, condition: Tensor | None) -> Tensor:
        """Map `features` (B, C, H, W) to (B, D, 2H, 2W)."""
        hidden = convolve_doubled(F.relu(self.norm1(features, condition)), self.conv1)
        hidden = self.conv2(F.relu(self.norm2(hidden, condition)))
        # Doubling repeats pixels, so a 1x1 convolution before it gives the same at a quarter of the
        # cost.
        out: Tensor = hidden + double(self.shortcut(features))
        return out


class BottleneckBlock(nn.Module):
    """Four normalised convolutions, 1x1, 3x3, 3x3 and 1x1, the inner ones a quarter as wide.

    The shortcut drops channels that the output does not have.

    Args:
        in_channels: Channels C of the input.
        out_channels: Channels D of the output, at most C.
        condition: Of all four normalisations.
        upsample: Whether the first 3x3 convolution sees doubled maps.
        num_levels: See `ConditionalBatchNorm`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        condition: Condition,
        *,
        upsample: bool = False,
        num_levels: int = 1,
    ) -> None:
        super().__init__()
        inner = in_channels // 4
        self.upsample = upsample
        self.out_channels = out_channels
        widths = (in_channels, inner, inner, inner)
        self.norm1, self.norm2, self.norm3, self.norm4 = (
            ConditionalBatchNorm(width, condition, num_levels) for width in widths
        )
        self.conv1 = nn.Conv2d(in_channels, inner, 1)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1)
        self.conv3 = nn.Conv2d(inner, inner, 3, padding=1)
        self.conv4 = nn.Conv2d(inner, out_channels, 1)

    def forward(self, features: Tensor, condition: Tensor | None) -> Tensor:
        """Map `features` (B, C, H, W) to (B, D, H, W), or (B, D, 2H, 2W) when upsampling."""
        hidden = self.conv1(F.relu(self.norm1(features, condition)))
        hidden = F.relu(self.norm2(hidden, condition))
        kept = features[:, : self.out_channels]
        if self.upsample:
            hidden, kept = convolve_doubled(hidden, self.conv2), double(kept)
        else:
            hidden = self.conv2(hidden)
        hidden = F.relu(self.norm3(hidden, condition))
        out: Tensor = kept + self.conv4(F.relu(self.norm4(self.conv3(hidden), condition)))
        return out


def double(features: Tensor) -> Tensor:
    """Repeat each pixel of `features` (B, C, H, W) into (B, C, 2H, 2W)."""
    return F.interpolate(features, scale_factor=2, mode="nearest")


def convolve_doubled(features: Tensor, conv: nn.Conv2d) -> Tensor:
    """Double `features` (B, C, H, W) and apply a 3x3 `conv` with padding: (B, D, 2H, 2W).

    Of the nine pixels under the kernel only four differ, so a transposed convolution, the 4x4
    kernel of which is the 3x3 one summed over its four shifts, takes 4/9 of the multiplications.
    """
    if features.shape[-1] < _WORTH_SUMMING:
        doubled: Tensor = conv(double(features))
        return doubled
    flipped = conv.weight.flip(2, 3)
    rows = F.pad(flipped, (0, 0, 0, 1)) + F.pad(flipped, (0, 0, 1, 0))
    kernel = F.pad(rows, (0, 1)) + F.pad(rows, (1, 0))  # (D, C, 4, 4)
    return F.conv_transpose2d(features, kernel.transpose(0, 1), conv.bias, stride=2, padding=1)


def keep_variance(network: nn.Module) -> None:
    """Draw filters under which pictures of an untrained network differ.

    PyTorch's own are smaller, and what passes many layers of them fades to one grey.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
