"""EfficientNet-Lite0 (Tan and Le 2019; the Lite family of 2020), for features."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

#: Expansion, channels, repeats, stride and kernel of each stage.
_STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
_STEM, _HEAD, _CLASSES = 32, 1280, 1000


class EfficientNetLite0(nn.Module):
    """Sixteen inverted residual blocks without squeeze-and-excitation, ReLU6 throughout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = _SameConv2d(3, _STEM, 3, stride=2)
        self.bn0 = _norm(_STEM)
        blocks, width = [], _STEM
        for expansion, channels, repeats, stride, kernel in _STAGES:
            for number in range(repeats):
                step = stride if number == 0 else 1
                blocks.append(_Block(width, channels, expansion, kernel, step))
                width = channels
        self.blocks = nn.ModuleList(blocks)
        self.conv_head = _SameConv2d(width, _HEAD, 1)
        self.bn1 = _norm(_HEAD)
        self.fc = nn.Linear(_HEAD, _CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        """Class logits (B, 1000) of `image` (B, 3, H, W), which is (bytes - 127) / 128."""
        logits: Tensor = self.fc(self.describe(image)[1])
        return logits

    def describe(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """Outputs of all blocks, (B, C, H, W) each, and the mean of the last maps, (B, 1280)."""
        x = F.relu6(self.bn0(self.conv_stem(image)))
        maps = []
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        return maps, F.relu6(self.bn1(self.conv_head(x))).mean(dim=(2, 3))

    def load_published(self, state: Mapping[str, Tensor]) -> None:
        """Take over weights whose names begin with underscores."""
        renamed = {name.removeprefix("_").replace("._", "."): x for name, x in state.items()}
        self.load_state_dict(renamed)


class _Block(nn.Module):
    def __init__(self, width: int, channels: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inner = width * expansion
        self.has_residual = stride == 1 and width == channels
        self.does_expand = expansion > 1
        if self.does_expand:
            self.expand_conv, self.bn0 = _SameConv2d(width, inner, 1), _norm(inner)
        self.depthwise_conv = _SameConv2d(inner, inner, kernel, stride=stride, groups=inner)
        self.bn1 = _norm(inner)
        self.project_conv, self.bn2 = _SameConv2d(inner, channels, 1), _norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = F.relu6(self.bn0(self.expand_conv(x))) if self.does_expand else x
        inner = F.relu6(self.bn1(self.depthwise_conv(inner)))
        inner = self.bn2(self.project_conv(inner))
        return x + inner if self.has_residual else inner


class _SameConv2d(nn.Conv2d):
    """Convolution padded as TensorFlow's `same`: the larger half goes to the right and bottom."""

    def __init__(
        self, width: int, channels: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(width, channels, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        step, kernel = self.stride[0], self.kernel_size[0]
        sides = []
        for length in (x.shape[3], x.shape[2]):
            total = max((-(-length // step) - 1) * step + kernel - length, 0)
            sides += [total // 2, total - total // 2]
        return super().forward(F.pad(x, sides))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)
