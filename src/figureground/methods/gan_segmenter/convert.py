"""Reads direction files: of this paper, and of "Big GANs Are Watching You" (Voynov et al. 2020).

The authors' `latest.pth` is {state_dict: {d}, iteration, cfg}, and cfg is a stored object of a
configuration library, of which nothing is made or run here. `bg_direction.pth` of the earlier paper
is a bare tensor. Neither says what its direction does to the foreground: a file with `dark` in its
name makes it darker, any other lighter; a folder may hold one of each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from figureground.core.checkpoint import ConvertedWeights
from figureground.core.content import explained
from figureground.core.errors import CheckpointError
from figureground.core.released import read_released

_EXPECTED = "expected a direction: {state_dict: {d}} or a bare tensor"
#: Packages whose objects are read as nothing.
_IGNORED = ("omegaconf", "typing", "hydra", "enum", "pathlib")


@explained
def convert_checkpoint(path: Path) -> ConvertedWeights:
    """Read a direction, or a folder with a light and a dark one; nothing in a file is run.

    Raises:
        CheckpointError: It holds something else, or asks for more than weights.
    """
    files = sorted(path.glob("*.pth")) if path.is_dir() else [path]
    found: dict[str, Tensor] = {}
    for file in files:
        side = "dark" if "dark" in file.stem.lower() else "light"
        if side in found:
            raise CheckpointError(
                f"{path} holds several {side} directions; expected one file with `dark` in its "
                "name and one without"
            )
        found[side] = _read_direction(file)
    if not found:
        raise CheckpointError(f"{path} holds no .pth file; expected latest.pth of a search")
    options: dict[str, Any] = {
        "directions": "both" if len(found) == 2 else next(iter(found)),
        "num_seeds": 1,
        "kind": "learned",
    }
    state = {f"directions.{side}": tensor for side, tensor in found.items()}
    state |= {
        "directions.loss": torch.zeros(len(found), 1),
        "directions.steps": torch.zeros((), dtype=torch.int64),
    }
    return ConvertedWeights(options, state, ["directions"])


def _read_direction(path: Path) -> Tensor:
    """The direction (1, *latent_shape) in a file."""
    try:
        content = read_released(path, ignored=_IGNORED)
    except CheckpointError as error:
        raise type(error)(f"{error}; {_EXPECTED}") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if isinstance(content, dict):
        if any("double_conv" in str(key) for key in content):
            raise CheckpointError(f"{path} holds a U-Net; convert it with method=segmenter")
        content = content.get("d", content.get("direction"))
    if not isinstance(content, Tensor) or content.ndim < 1 or not content.is_floating_point():
        raise CheckpointError(f"{path}: {_EXPECTED}")
    direction = content.detach().float().clone()
    if not direction.isfinite().all() or not direction.any():
        raise CheckpointError(f"{path} holds a direction that is nought or not finite")
    return direction if direction.ndim > 1 and len(direction) == 1 else direction[None]
