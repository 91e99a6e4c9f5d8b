"""Reads direction files: of this paper, and of "Big GANs Are Watching You" (Voynov et al. 2020).

The authors' `latest.pth` is {state_dict: {d}, iteration, cfg}, and cfg is a stored object of a
configuration library, of which nothing is made or run here. `bg_direction.pth` of the earlier paper
is a bare tensor. Neither says what its direction does to the foreground: a file with `dark` in its
name makes it darker, any other lighter; a folder may hold one of each.
"""

from __future__ import annotations

import pickle
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from figureground.core.checkpoint import ConvertedWeights
from figureground.core.errors import CheckpointError

_EXPECTED = "expected a direction: {state_dict: {d}} or a bare tensor"
#: Modules whose objects are read as nothing.
_IGNORED = ("omegaconf", "typing", "hydra", "enum", "pathlib")
#: Types that a configuration names; `__builtin__` holds them in older files.
_TYPES = {"dict", "list", "tuple", "str", "unicode", "bytes", "int", "long", "float", "bool"}
_REBUILT = {"_rebuild_tensor_v2", "_rebuild_parameter"}


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
    content = _read(path)
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if isinstance(content, dict):
        if any("double_conv" in str(key) for key in content):
            raise CheckpointError(f"{path} holds a U-Net; convert it with method=segmenter")
        content = content.get("d", content.get("direction"))
    if not isinstance(content, Tensor) or content.ndim < 1 or not content.is_floating_point():
        raise CheckpointError(f"{path}: {_EXPECTED}")
    if content.numel() * content.element_size() > content.untyped_storage().nbytes():
        raise CheckpointError(f"{path} claims {content.numel()} numbers that are not stored")
    direction = content.detach().float().clone()
    if not direction.isfinite().all() or not direction.any():
        raise CheckpointError(f"{path} holds a direction that is nought or not finite")
    return direction if direction.ndim > 1 and len(direction) == 1 else direction[None]


def _read(path: Path) -> Any:
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file; {_EXPECTED}")
    reader = SimpleNamespace(Unpickler=_Reader, load=_load, __name__="reader")
    try:
        with warnings.catch_warnings(action="ignore"):  # Old files are what is expected here.
            # The reader below decides what is made, and it makes tensors and containers only.
            return torch.load(path, map_location="cpu", pickle_module=reader, weights_only=False)
    except Exception as error:  # Whatever a crafted file provokes means the same.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} cannot be read as weights ({reason}); it was refused and nothing in it was "
            f"run; {_EXPECTED}"
        ) from error


class _Nothing:
    """Stands for objects of a configuration, whatever these are made of."""

    def __new__(cls, *_: Any, **__: Any) -> _Nothing:
        """Take any arguments."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Take nothing over."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Take nothing over."""

    def append(self, value: Any) -> None:
        """Take nothing over."""

    def extend(self, values: Any) -> None:
        """Take nothing over."""


class _Reader(pickle.Unpickler):
    """Unpickler of tensors and plain containers; objects of a configuration become nothing."""

    def find_class(self, module: str, name: str) -> Any:
        """What stands for `module.name`; nothing is imported on a file's behalf."""
        if module == "torch._utils" and name in _REBUILT:
            rebuild: Callable[..., Any] = getattr(torch._utils, name)
            return rebuild
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) in {("torch", "device"), ("collections", "defaultdict")}:
            return _Nothing
        if module.partition(".")[0] in _IGNORED:
            return _Nothing
        if module in {"builtins", "__builtin__"} and name in _TYPES:
            return _Nothing
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _load(file: Any, **options: Any) -> Any:
    return _Reader(file, **options).load()
