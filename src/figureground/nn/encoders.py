"""Image encoders: pictures of any size to one vector each, or to maps of features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

EncoderName = Literal[
    "resnet20", "resnet32", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
    "resnext50_32x4d", "resnext101_32x8d", "wide_resnet50_2", "wide_resnet101_2", "vgg16",
    "default",
]  # fmt: skip

_SMALL_DEPTHS = {"resnet20": 3, "resnet32": 5}  # Blocks in each of three stages.


class Encoder(nn.Module):
    """Convolutional trunk, average pooling to a few cells, flattening.

    Args:
        name: `resnet20` and `resnet32` are the small ones for pictures up to 64 pixels (He et al.
            2016, section 4.2); other ResNets and `vgg16` are torchvision's without their heads;
            `default` is two plain convolutions.
        pool: Rows and columns of cells.

    Attributes:
        num_features: Length of the vector.
    """

    def __init__(self, name: EncoderName = "resnet20", pool: Sequence[int] = (1, 1)) -> None:
        super().__init__()
        self.trunk, width = build_trunk(name)
        self.pool = (int(pool[0]), int(pool[1]))
        self.num_features = width * self.pool[0] * self.pool[1]

    def forward(self, image: Tensor) -> Tensor:
        """Encode `image` (B, 3, H, W) as (B, num_features), channel by channel."""
        return F.adaptive_avg_pool2d(self.trunk(image), self.pool).flatten(1)


def build_trunk(name: str, small_width: int = 16) -> tuple[nn.Module, int]:
    """Build the convolutions of an encoder, without pooling.

    Args:
        name: See `Encoder`.
        small_width: Channels of the first stage of `resnet20` and `resnet32`; the others have a
            width of their own.

    Returns:
        The network, (B, 3, H, W) to (B, C, h, w), and C.
    """
    if name in _SMALL_DEPTHS:
        return _SmallResNet(_SMALL_DEPTHS[name], small_width), 4 * small_width
    if name == "default":
        return _build_default(), 10
    if name == "vgg16":
        return torchvision.models.vgg16_bn(weights=None).features, 512
    # torchvision's own initialisation: Kaiming normal by fan out, norms at one and zero.
    network = getattr(torchvision.models, name)(weights=None)
    width = network.fc.in_features
    return nn.Sequential(*list(network.children())[:-2]), width


def dilate(network: torchvision.models.ResNet) -> None:
    """Keep the third and fourth stage at an eighth of the size by dilation, in place."""
    for stage, rate in ((network.layer3, 2), (network.layer4, 4)):
        for conv in (each for each in stage.modules() if isinstance(each, nn.Conv2d)):
            # What strode looks as far around as the stage before did.
            reach = rate // 2 if conv.stride == (2, 2) else rate
            conv.stride = (1, 1)
            if conv.kernel_size == (3, 3):
                conv.dilation = conv.padding = (reach, reach)


def _build_default() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 7),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2, 2),
        nn.Conv2d(8, 10, 5),
        nn.BatchNorm2d(10),
        nn.ReLU(),
        nn.MaxPool2d(2, 2),
    )


class _SmallResNet(nn.Sequential):
    """Three stages of W, 2 W and 4 W channels; shortcuts without parameters."""

    def __init__(self, num_blocks: int, width: int = 16) -> None:
        super().__init__(
            nn.Conv2d(3, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            _build_stage(width, width, num_blocks, 1),
            _build_stage(width, 2 * width, num_blocks, 2),
            _build_stage(2 * width, 4 * width, num_blocks, 2),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, image: Tensor) -> Tensor:
        # So few channels are convolved and normed faster on CPUs when they lie side by side.
        if image.device.type == "cpu":
            image = image.contiguous(memory_format=torch.channels_last)
        for module in self:
            image = module(image)
        return image


def _build_stage(num_in: int, num_out: int, num_blocks: int, stride: int) -> nn.Sequential:
    first = _BasicBlock(num_in, num_out, stride)
    return nn.Sequential(first, *(_BasicBlock(num_out, num_out) for _ in range(num_blocks - 1)))


class _BasicBlock(nn.Module):
    def __init__(self, num_in: int, num_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_in, num_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(num_out)
        self.conv2 = nn.Conv2d(num_out, num_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(num_out)
        self.stride, self.num_missing = stride, num_out - num_in

    def forward(self, features: Tensor) -> Tensor:
        hidden = F.relu(self.bn1(self.conv1(features)))
        shortcut = features
        if self.num_missing or self.stride > 1:
            half = self.num_missing // 2
            shortcut = F.pad(
                features[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, half)
            )
        return F.relu(torch.add(self.bn2(self.conv2(hidden)), shortcut))
