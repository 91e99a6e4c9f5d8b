"""Files of weights in published layouts, with random numbers in them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

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
