"""Reads the authors' snapshots (`network-snapshot-*.pkl`) without running what is in them.

A snapshot is a pickle of whole modules. Each is stored as a call that would compile source text
found in the file; here that call gives back its argument, a plain dict, of which only parameters
and buffers are taken. Anything else that the file asks for by name is refused.
"""

from __future__ import annotations

import io
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from figureground.core.checkpoint import ConvertedWeights
from figureground.core.errors import CheckpointError
from figureground.nn.stylegan2 import convert_released

#: Patterns of their keys -> ours, tried in order; keys without any keep their names.
TABLE: dict[str, tuple[tuple[str, str], ...]] = {
    "G": (
        (r"(mapping|synthesis)_bg\.", r"\1_background."),
        (r"(mapping|synthesis)_fg\.", r"\1_foreground."),
    ),
    "D": (),
}
#: Their networks -> where they belong; the live generator is not kept where the averaged one is.
NETWORKS = {"G": "generator", "D": "discriminator", "G_ema": "ema.average"}

_NUMBERS = {
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "scalar"),  # Before NumPy 2,
    ("numpy._core.multiarray", "scalar"),  # and since.
}
_MODULE = ("torch_utils.persistence", "_reconstruct_persistent_obj")


def convert_checkpoint(path: Path) -> ConvertedWeights:
    """Read a snapshot; nothing in it is run.

    Args:
        path: A file with `G`, `D` and `G_ema`, or some of them.

    Raises:
        CheckpointError: Not such a file, or it asks for more than weights.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file; expected network-snapshot-NNNNNN.pkl")
    content = _unpickle(path)
    if not isinstance(content, Mapping) or not set(NETWORKS) & set(content):
        raise CheckpointError(
            f"{path} has none of {', '.join(NETWORKS)}; it is not a snapshot of ILSGAN's training"
        )
    state: dict[str, Tensor] = {}
    for theirs, ours in NETWORKS.items():
        if content.get(theirs) is not None:
            network = _collect(content[theirs], path, theirs)
            converted = convert_network(theirs.removesuffix("_ema"), network)
            state |= {f"{ours}.{key}": tensor for key, tensor in converted.items()}
    pipe = content.get("augment_pipe")
    if pipe is not None:
        state["augmentation.p"] = _collect(pipe, path, "augment_pipe")["p"]
    try:
        options = _infer_options(state)
    except KeyError as error:
        raise CheckpointError(
            f"{path} has no layered generator ({error.args[0]} is missing)"
        ) from error
    networks = sorted({key.partition(".")[0] for key in state} & {"generator", "discriminator"})
    return ConvertedWeights(options, state, [*networks, *(["ema"] if "G_ema" in content else [])])


def convert_network(name: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the state dict of one of their networks (`G` or `D`) to ours."""
    converted = {}
    for key, tensor in convert_released(state).items():
        for pattern, replacement in TABLE[name]:
            key = re.sub(f"^{pattern}", replacement, key)
        converted[key] = tensor
    return converted


class _Reader(pickle.Unpickler):
    """Unpickler that makes tensors and plain containers only."""

    def find_class(self, module: str, name: str) -> Any:
        """Stand-ins for what a snapshot names; nothing is imported on its behalf."""
        allowed: dict[tuple[str, str], Callable[..., Any]] = {
            _MODULE: _identity,
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
            ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
            ("torch.storage", "_load_from_bytes"): _load_storage,
        }
        if name == "EasyDict" and module in {"dnnlib.util", "dnnlib"}:
            return dict
        if (module, name) in _NUMBERS:
            return _Number
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return allowed[module, name]


class _Number:
    """What NumPy's numbers and their types are read as: options hold some, weights none."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        """Take nothing over."""


def _identity(meta: Any) -> Any:
    return meta


def _rebuild_tensor(
    storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Tensor:
    tensor: Tensor = torch._utils._rebuild_tensor_v2(  # type: ignore[no-untyped-call]  # torch's
        storage, offset, size, stride, False, OrderedDict()
    )
    return tensor


def _rebuild_parameter(data: Tensor, *_: Any) -> Tensor:
    return data


def _load_storage(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _unpickle(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return _Reader(file).load()
    except Exception as error:  # Whatever a crafted file provokes means the same.
        raise CheckpointError(
            f"{path} is not one of the authors' snapshots, or it asks for more than weights "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); it was "
            "refused and nothing in it was run"
        ) from error


def _collect(module: Any, path: Path, name: str, prefix: str = "") -> dict[str, Tensor]:
    """Gather parameters and buffers of a stored module and of those inside it."""
    try:
        inner = module["state"]
        found = {
            f"{prefix}{key}": tensor.detach()
            for group in ("_parameters", "_buffers")
            for key, tensor in inner[group].items()
            if tensor is not None
        }
        for key, child in inner["_modules"].items():
            found |= _collect(child, path, name, f"{prefix}{key}.")
    except (TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: {name} is not a stored network ({prefix or 'its top'} lacks {error})"
        ) from error
    return found


def _infer_options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read sizes off the weights."""
    stem = "generator" if "generator.mapping_background.fc0.weight" in state else "ema.average"
    first = state[f"{stem}.mapping_background.fc0.weight"]
    layers = [key for key in state if key.startswith(f"{stem}.mapping_background.fc")]
    widths = {
        int(key.split(".b")[1].split(".")[0]): len(tensor)
        for key, tensor in state.items()
        if re.search(r"synthesis_background\.b\d+\.conv1\.bias$", key) and key.startswith(stem)
    }
    resolution = max(widths)
    return {
        "resolution": resolution,
        "latent_dim": first.shape[1],
        "style_width": first.shape[0],
        "mapping_depth": sum(key.endswith("weight") for key in layers),
        "max_width": widths[4],
        # Where the last maps are as wide as the first, any larger base is the same.
        "channel_base": max(width * side for side, width in widths.items()),
    }
