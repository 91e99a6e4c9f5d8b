"""Features of pixels from a file of self-supervised weights, for `metrics.semantic`.

`load_features` takes a checkpoint of a method that embeds pixels (`method=mask_contrast`), or what
others have trained. Known by their keys are

- MaskContrast's models (`module.model_q.*`): a dilated ResNet, DeepLab's head (Chen et al. 2017)
  and a linear map to embeddings;
- MoCo v2's (`module.encoder_q.*`) and torchvision's own ResNets: the dilated trunk alone.

`read_resnet` gives those weights to methods that begin with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import DeepLabHead

from figureground.core.checkpoint import load_method
from figureground.core.errors import CheckpointError, UserError
from figureground.core.protocols import PixelEmbedder
from figureground.core.released import read_released
from figureground.nn.encoders import dilate

EXPECTED = (
    "expected MaskContrast's VOCSegmentation_unsupervised_saliency_model.pth.tar "
    "(github.com/wvangansbeke/Unsupervised-Semantic-Segmentation, Model Zoo), MoCo v2's "
    "moco_v2_800ep_pretrain.pth.tar (github.com/facebookresearch/moco), a ResNet of torchvision or "
    "a checkpoint of method=mask_contrast"
)
#: Blocks in each stage -> network, by whether blocks are bottlenecks.
_NETWORKS: dict[tuple[bool, tuple[int, ...]], str] = {
    (False, (2, 2, 2, 2)): "resnet18",
    (False, (3, 4, 6, 3)): "resnet34",
    (True, (3, 4, 6, 3)): "resnet50",
    (True, (3, 4, 23, 3)): "resnet101",
    (True, (3, 8, 36, 3)): "resnet152",
}
_TRUNK = ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4.")
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # Of ImageNet, in [0, 1].


class ResNetWeights(NamedTuple):
    """What a file holds, by torchvision's names.

    Attributes:
        name: Of the ResNet.
        trunk: Its weights.
        head: Those of DeepLab's head; empty if the file has none.
    """

    name: str
    trunk: dict[str, Tensor]
    head: dict[str, Tensor]


def load_features(weights: str) -> nn.Module:
    """Network from pictures (B, 3, H, W) in [-1, 1] to features (B, D, h, w) of pixels.

    Args:
        weights: The file; nothing in it is run.

    Raises:
        UserError: It is none of those above.
    """
    content = _open(weights)
    if isinstance(content, Mapping) and "figureground" in content:
        return MethodFeatures(weights)
    return PixelFeatures(weights)


class MethodFeatures(nn.Module):
    """What a trained method embeds pixels as.

    Args:
        ckpt: Its checkpoint.

    Raises:
        UserError: It embeds none.
    """

    def __init__(self, ckpt: str) -> None:
        super().__init__()
        method = load_method(ckpt)
        if not isinstance(method, PixelEmbedder):
            raise UserError(
                f"{ckpt}: {type(method).__name__} has no features of pixels; {EXPECTED}"
            )
        self.method = method.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Features (B, D, h, w) of `image` (B, 3, H, W) in [-1, 1]."""
        features: Tensor = self.method.embed(image)
        return features.float()


class PixelFeatures(nn.Module):
    """A dilated ResNet, with DeepLab's head if the file has one; an eighth of the pictures' size.

    Args:
        weights: The file; nothing in it is run.

    Attributes:
        name: Of the trunk.
        has_head: Whether the file has DeepLab's head.

    Raises:
        UserError: It is none of those above.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, weights: str) -> None:
        super().__init__()
        self.name, trunk, head = read_resnet(weights)
        self.has_head = bool(head)
        network = getattr(torchvision.models, self.name)(weights=None)
        dilate(network)
        width = network.fc.in_features
        network.fc = nn.Identity()
        _load(network, trunk, weights)
        self.trunk = nn.Sequential(*list(network.children())[:-2])
        self.head: nn.Module = nn.Identity()
        if head:
            count = head["4.weight"].shape[0] if "4.weight" in head else 1
            self.head = DeepLabHead(width, count)
            _load(self.head, head, weights)
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer(
            "deviation", torch.tensor(_DEVIATION).view(1, 3, 1, 1), persistent=False
        )
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Features (B, D, H / 8, W / 8) of `image` (B, 3, H, W) in [-1, 1]."""
        normed = ((image + 1) / 2 - self.mean) / self.deviation
        features: Tensor = self.head(self.trunk(normed))
        return features.float()


def read_resnet(path: str) -> ResNetWeights:
    """Read the weights that others have trained; nothing in the file is run.

    Raises:
        UserError: It holds no ResNet that is known.
    """
    content = _open(path)
    for section in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(section), Mapping):
            content = content[section]
    state = _tensors(content)
    head: dict[str, Tensor] = {}
    if any(".model_q." in f".{key}" for key in state):
        state = _below(state, "model_q.")
        head = _below(state, "decoder.")
        head |= {f"4.{key}": value for key, value in _below(state, "head.").items()}
        state = _below(state, "backbone.")
    elif any(".encoder_q." in f".{key}" for key in state):
        state = _below(state, "encoder_q.")
    trunk = {key: value for key, value in state.items() if key.startswith(_TRUNK)}
    return ResNetWeights(_find_name(trunk, path), trunk, head)


def _open(path: str) -> Any:
    try:
        return read_released(path)
    except CheckpointError as error:
        raise UserError(f"{error}; {EXPECTED}") from error


def _tensors(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    return {str(k).removeprefix("module."): v for k, v in content.items() if isinstance(v, Tensor)}


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _find_name(trunk: Mapping[str, Tensor], path: str) -> str:
    """Which ResNet of torchvision it is.

    Raises:
        UserError: None.
    """
    blocks = tuple(
        len({key.split(".")[1] for key in trunk if key.startswith(f"layer{stage}.")})
        for stage in range(1, 5)
    )
    name = _NETWORKS.get(("layer1.0.conv3.weight" in trunk, blocks))
    if name is None:
        raise UserError(f"{path} holds no ResNet (blocks found: {blocks}); {EXPECTED}")
    return name


def _load(network: nn.Module, state: Mapping[str, Tensor], path: str) -> None:
    try:
        network.load_state_dict(dict(state))
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:2]]
        raise UserError(
            f"{path} does not fit the network ({' '.join(lines)}); {EXPECTED}"
        ) from error
