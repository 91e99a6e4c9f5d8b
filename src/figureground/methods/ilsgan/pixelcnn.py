"""A conditional PixelCNN++ as learned density q(x | y) of one layer given the other.

Salimans, Karpathy, Chen, Kingma, "PixelCNN++", ICLR 2017. Pixels are drawn row by row, each from a
mixture of discretised logistics (`mixtures`) whose parameters depend on the pixels before it. Two
streams of features see the rows above (`above`), and these and the pixels to the left (`before`);
they pass three sizes downwards and back up with skips. The condition y becomes a vector by a
ResNet-18, which is added before every gate.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet18

from figureground.methods.ilsgan.mixtures import color_log_likelihood, mixture_log_likelihood
from figureground.nn.precision import widen

Sight = Literal["above", "before"]
#: Features of both streams, (B, width, H, W) each.
Streams = tuple[Tensor, Tensor]

_RESNET_OUTPUTS = 1000


class NormalizedConv2d(nn.Module):
    """Convolution with kernel g v / |v| (weight normalisation), over the first dimension of v.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the result.
        size: Of the kernel.
        stride: 1, or 2 to halve the sides.
        transposed: Whether stride 2 doubles the sides instead.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: tuple[int, int] = (1, 1),
        stride: int = 1,
        transposed: bool = False,
    ) -> None:
        super().__init__()
        kind = nn.ConvTranspose2d if transposed else nn.Conv2d
        plain = kind(in_channels, out_channels, size)
        if plain.bias is None:
            raise RuntimeError("convolutions have biases")
        self.direction = nn.Parameter(plain.weight.detach().clone())
        self.gain = nn.Parameter(_norm(self.direction).detach())
        self.bias = nn.Parameter(plain.bias.detach().clone())
        self.stride, self.transposed = stride, transposed

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, ...), without padding."""
        kernel = self.gain * self.direction / _norm(self.direction)
        if self.transposed:
            return F.conv_transpose2d(x, kernel, self.bias, self.stride, output_padding=1)
        return F.conv2d(x, kernel, self.bias, self.stride)


class CausalConv2d(nn.Module):
    """Convolution whose kernel ends at the pixel (`before`) or at its row (`above`).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the result.
        sight: What it sees.
        size: Of the kernel; None is (2, 3) for `above` and (2, 2) for `before`.
        resize: "down" halves the sides, "up" doubles them.
        shift: Moves the result down by a row (`above`) or right by a pixel (`before`), so that it
            knows nothing of the row or pixel itself.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        sight: Sight,
        *,
        size: tuple[int, int] | None = None,
        resize: Literal["down", "up"] | None = None,
        shift: bool = False,
    ) -> None:
        super().__init__()
        rows, columns = size or ((2, 3) if sight == "above" else (2, 2))
        self.conv = NormalizedConv2d(
            in_channels,
            out_channels,
            (rows, columns),
            stride=1 if resize is None else 2,
            transposed=resize == "up",
        )
        self.up, self.shift, self.sight = resize == "up", shift, sight
        side = (columns - 1) // 2
        self.cut = side if sight == "above" else 0
        # Left, right, top, bottom.
        self.padding = (side, side, rows - 1, 0)
        if sight == "before":
            self.padding = (columns - 1, 0, rows - 1, 0)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, ...)."""
        height, width = x.shape[2:]
        if self.up:
            x = self.conv(x)
            return x[:, :, : 2 * height, self.cut : self.cut + 2 * width]
        x = self.conv(F.pad(x, self.padding))
        if not self.shift:
            return x
        if self.sight == "above":
            return F.pad(x, (0, 0, 1, 0))[:, :, :-1]
        return F.pad(x, (1, 0, 0, 0))[:, :, :, :-1]


class GatedBlock(nn.Module):
    """x + a sigmoid(b), where (a, b) comes from x, from features at the side and the condition.

    Args:
        width: Channels of x.
        sight: What its convolutions see.
        side_width: Channels of the features at the side, or 0.
        condition_width: Size of the condition.
    """

    def __init__(self, width: int, sight: Sight, side_width: int, condition_width: int) -> None:
        super().__init__()
        self.conv_in = CausalConv2d(2 * width, width, sight)
        self.side = NormalizedConv2d(2 * side_width, width) if side_width else None
        self.dropout = nn.Dropout2d(0.5)
        self.conv_out = CausalConv2d(2 * width, 2 * width, sight)
        self.condition = nn.Linear(condition_width, 2 * width, bias=False)

    def forward(self, x: Tensor, condition: Tensor, side: Tensor | None = None) -> Tensor:
        """(B, width, H, W), with `condition` (B, N) and `side` (B, side_width, H, W)."""
        hidden = self.conv_in(_elu_pair(x))
        if self.side is not None and side is not None:
            hidden = hidden + self.side(_elu_pair(side))
        hidden = self.conv_out(self.dropout(_elu_pair(hidden)))
        gated, gate = (hidden + self.condition(condition)[:, :, None, None]).chunk(2, dim=1)
        result: Tensor = x + gated * gate.sigmoid()
        return result


class Stage(nn.Module):
    """Blocks of one size, in pairs: one of each stream.

    Args:
        num_blocks: Pairs.
        width: Channels of each stream.
        condition_width: Size of the condition.
        has_skips: Whether features of the way down come in at the side.
    """

    def __init__(self, num_blocks: int, width: int, condition_width: int, has_skips: bool) -> None:
        super().__init__()
        skip = width if has_skips else 0
        self.above = nn.ModuleList(
            GatedBlock(width, "above", skip, condition_width) for _ in range(num_blocks)
        )
        self.before = nn.ModuleList(
            GatedBlock(width, "before", width + skip, condition_width) for _ in range(num_blocks)
        )

    def forward(
        self, streams: Streams, condition: Tensor, skips: list[Streams] | None = None
    ) -> list[Streams]:
        """Both streams after each pair, which takes the last one off `skips` if there are any."""
        above, before = streams
        found = []
        for upper, lower in zip(self.above, self.before, strict=True):
            if skips is None:
                above = upper(above, condition)
                before = lower(before, condition, above)
            else:
                side_above, side_before = skips.pop()
                above = upper(above, condition, side_above)
                before = lower(before, condition, torch.cat([above, side_before], dim=1))
            found.append((above, before))
        return found


class Resize(nn.Module):
    """Halve or double the sides of both streams.

    Args:
        width: Channels of each.
        resize: "down" or "up".
    """

    def __init__(self, width: int, resize: Literal["down", "up"]) -> None:
        super().__init__()
        self.above = CausalConv2d(width, width, "above", resize=resize)
        self.before = CausalConv2d(width, width, "before", resize=resize)

    def forward(self, streams: Streams) -> Streams:
        """Both streams at their new size."""
        return self.above(streams[0]), self.before(streams[1])


class PixelDensity(nn.Module):
    """q(x | y) of pictures (B, 3, S, S) with values in [-1, 1]; S must be a multiple of 4.

    Args:
        width: Channels of each stream; 80 as published.
        num_blocks: Pairs of blocks at each size on the way down; one more at most sizes back up.
        num_mixtures: Logistics in each mixture.
        condition_width: Size of the vector that y becomes.
    """

    def __init__(
        self,
        width: int = 80,
        num_blocks: int = 3,
        num_mixtures: int = 10,
        condition_width: int = 200,
    ) -> None:
        super().__init__()

        def make_stages(counts: tuple[int, ...], has_skips: bool) -> nn.ModuleList:
            return nn.ModuleList(Stage(n, width, condition_width, has_skips) for n in counts)

        self.down = make_stages((num_blocks,) * 3, has_skips=False)
        self.up = make_stages((num_blocks, num_blocks + 1, num_blocks + 1), has_skips=True)
        self.shrink = nn.ModuleList(Resize(width, "down") for _ in range(2))
        self.enlarge = nn.ModuleList(Resize(width, "up") for _ in range(2))
        # Colours, and a channel of ones that tells the border of the picture.
        self.first_above = CausalConv2d(4, width, "above", shift=True)
        self.first_row = CausalConv2d(4, width, "above", size=(1, 3), shift=True)
        self.first_before = CausalConv2d(4, width, "before", size=(2, 1), shift=True)
        self.head = NormalizedConv2d(width, 10 * num_mixtures)
        self.encoder = resnet18(weights=None)
        self.to_condition = nn.Linear(_RESNET_OUTPUTS, condition_width)

    def describe(self, y: Tensor) -> Tensor:
        """The vector (B, condition_width) that stands for the condition y (B, 3, S, S)."""
        condition: Tensor = self.to_condition(self.encoder(y)).relu()
        return condition

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Parameters (B, 10 num_mixtures, S, S) of every pixel of x, given what `describe` found.

        Raises:
            ValueError: S is no multiple of 4.
        """
        if x.shape[2] % 4 or x.shape[3] % 4:
            raise ValueError(f"sides must be multiples of 4, got {tuple(x.shape)}")
        x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        features = [(self.first_above(x), self.first_row(x) + self.first_before(x))]
        for number, stage in enumerate(self.down):
            features += stage(features[-1], condition)
            if number < len(self.shrink):
                features.append(self.shrink[number](features[-1]))
        streams = features.pop()
        for number, stage in enumerate(self.up):
            streams = stage(streams, condition, features)[-1]
            if number < len(self.enlarge):
                streams = self.enlarge[number](streams)
        parameters: Tensor = widen(self.head(F.elu(streams[1])))
        return parameters

    def bound(self, x: Tensor, y: Tensor, negatives: Tensor) -> Tensor:
        """Sampled CLUB bound E log q(x_i | y_i) - E log q(x_p(i) | y_i), a scalar.

        Args:
            x: (B, 3, S, S).
            y: The condition, likewise.
            negatives: The shuffle p, (B,) int64.
        """
        condition = self.describe(y)
        own, other = (
            color_log_likelihood(each, self(each, condition)) for each in (x, x[negatives])
        )
        return (own - other).mean()

    def likelihood_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Negative log-likelihood of x given y, both (B, 3, S, S): summed over pixels, a scalar."""
        # The authors sum over the batch, too, which Adam makes up for.
        return -mixture_log_likelihood(x, self(x, self.describe(y))).mean()


def _elu_pair(x: Tensor) -> Tensor:
    """ELU of x and of -x, one after the other."""
    return F.elu(torch.cat([x, -x], dim=1))


def _norm(direction: Tensor) -> Tensor:
    return direction.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()
