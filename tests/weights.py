"""Files of weights in published layouts, with random numbers in them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
import torchvision
from torch import nn
from torchvision.models.segmentation.deeplabv3 import DeepLabHead

from figureground.nn.efficientnet import EfficientNetLite0


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_efficientnet(path: Path) -> Path:
    """EfficientNet-Lite0: names begin with underscores."""
    state = {}
    for name, value in EfficientNetLite0().state_dict().items():
        *modules, last = name.split(".")
        parts = [part if part.isdigit() else f"_{part}" for part in modules]
        state[".".join([*parts, last])] = value
    torch.save(state, path)
    return path


def write_resnet(path: Path, style: str = "torchvision", embedding: int = 4) -> Path:
    """A ResNet-18 as torchvision, MoCo or MaskContrast store it, the latter with DeepLab's head."""
    trunk = torchvision.models.resnet18(weights=None).state_dict()
    state: dict[str, object] = dict(trunk)
    if style == "moco":
        state = {"state_dict": {f"module.encoder_q.{key}": value for key, value in trunk.items()}}
    if style == "maskcontrast":
        own = {f"backbone.{key}": value for key, value in trunk.items() if "fc" not in key}
        for key, value in DeepLabHead(512, embedding).state_dict().items():
            own[f"head.{key[2:]}" if key.startswith("4.") else f"decoder.{key}"] = value
        own["classification_head.weight"] = torch.zeros(1, 256, 1, 1)
        state = {"model": {f"module.model_q.{key}": value for key, value in own.items()}}
    torch.save(state, path)
    return path


def fill_by_sines(network: nn.Module, table: dict[str, str]) -> None:
    """The rule of golden/ilsgan/README.md; `table` leads from the authors' keys to ours."""
    state = network.state_dict()
    keys = sorted(key for key in table if not key.endswith("num_batches_tracked"))
    for number, key in enumerate(keys):
        tensor = state[table[key]]
        j = torch.arange(tensor.numel(), dtype=torch.float64)
        s = torch.sin(1.7 * number + 0.9 + (0.37 + 0.01 * (number % 7)) * j)
        if key.endswith("running_var"):
            s = 1 + 0.5 * s
        elif key.endswith("weight_g"):
            s = 1 + 0.2 * s
        elif tensor.ndim >= 2:
            s = s * (3 / tensor[0].numel()) ** 0.5
        elif key.endswith(("running_mean", "bias")):
            s = 0.1 * s
        else:
            s = 1 + 0.2 * s
        tensor.copy_(s.view(tensor.shape))
