"""MaskContrast's network: a dilated ResNet, DeepLab's head and two linear maps of its features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import ASPP

from figureground.core.checkpoint import check_fits
from figureground.nn.encoders import build_trunk, dilate

TrunkName = Literal["resnet20", "resnet32", "resnet18", "resnet34", "resnet50", "resnet101"]
Head = Literal["deeplab", "none"]

#: Trunks that are torchvision's, so that weights of theirs fit.
FOR_PHOTOGRAPHS = ("resnet18", "resnet34", "resnet50", "resnet101")
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # Of ImageNet, in [0, 1].


class EmbeddingNetwork(nn.Module):
    """Embeddings and saliency of pixels, at an eighth of the size (a quarter by small trunks).

    Args:
        trunk: `resnet20` and `resnet32` are for pictures up to 64 pixels; the others are
            torchvision's, their last two stages dilated (Chen et al. 2017).
        trunk_width: Channels of the first stage of the small trunks.
        head: `deeplab`, convolutions of several rates, or none.
        head_width: Channels of that head.
        rates: Its dilations.
        embedding_dim: D.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        *,
        trunk: TrunkName,
        trunk_width: int,
        head: Head,
        head_width: int,
        rates: Sequence[int],
        embedding_dim: int,
    ) -> None:
        super().__init__()
        if trunk in FOR_PHOTOGRAPHS:
            network = getattr(torchvision.models, trunk)(weights=None)
            dilate(network)
            width = network.fc.in_features
            self.trunk: nn.Module = nn.Sequential()
            for name, stage in list(network.named_children())[:-2]:
                self.trunk.add_module(name, stage)
        else:
            self.trunk, width = build_trunk(trunk, trunk_width)
        self.head: nn.Module = nn.Identity()
        if head == "deeplab":
            self.head = nn.Sequential(
                ASPP(width, list(rates), head_width),
                nn.Conv2d(head_width, head_width, 3, padding=1, bias=False),
                nn.BatchNorm2d(head_width),
                nn.ReLU(),
            )
            width = head_width
        self.embedding = nn.Conv2d(width, embedding_dim, 1)
        self.saliency = nn.Conv2d(width, 1, 1, bias=False)
        for name, values in (("mean", _MEAN), ("deviation", _DEVIATION)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings (B, D, h, w) and logits of saliency (B, 1, h, w) of `image` (B, 3, H, W)."""
        features = self.head(self.trunk(((image + 1) / 2 - self.mean) / self.deviation))
        return self.embedding(features), self.saliency(features)


def load_initial(
    network: EmbeddingNetwork, trunk: Mapping[str, Tensor], head: Mapping[str, Tensor], source: str
) -> None:
    """Take over weights of a ResNet, and of DeepLab's head and its map if there are such.

    Args:
        network: What gets them.
        trunk: By torchvision's names.
        head: By those of torchvision's `DeepLabHead`; may be empty.
        source: Where they come from, for messages.

    Raises:
        CheckpointError: They do not fit.
    """
    parts: list[tuple[nn.Module, Mapping[str, Tensor]]] = [(network.trunk, trunk)]
    if head and isinstance(network.head, nn.Sequential):
        last = {key.removeprefix("4."): value for key, value in head.items() if key[:2] == "4."}
        first = {key: value for key, value in head.items() if key[:2] != "4."}
        parts += [(network.head, first), (network.embedding, last)]
    for part, state in parts:
        check_fits(part, state, source)
    for part, state in parts:
        part.load_state_dict(dict(state))
