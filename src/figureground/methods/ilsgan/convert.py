"""Reads the authors' snapshots (`network-snapshot-*.pkl`) without running what is in them.

A snapshot is a pickle of whole modules, of which only parameters and buffers are taken; see
`core.released`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from figureground.core.checkpoint import ConvertedWeights
from figureground.core.content import explained
from figureground.core.errors import CheckpointError, RefusedFileError
from figureground.core.released import collect_module, read_pickle
from figureground.nn.stylegan2 import convert_released

logger = logging.getLogger(__name__)

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


@explained
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
    options |= _read_clamp(content.get("G") or content.get("G_ema"))
    if content.get("D") is not None:
        options |= _read_discriminator(content["D"], state, path)
    networks = sorted({key.partition(".")[0] for key in state} & {"generator", "discriminator"})
    networks += ["ema"] if "G_ema" in content else []
    return ConvertedWeights(options, state, networks, optional=frozenset({"augmentation"}))


def convert_network(name: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the state dict of one of their networks (`G` or `D`) to ours."""
    converted = {}
    for key, tensor in convert_released(state).items():
        for pattern, replacement in TABLE[name]:
            key = re.sub(f"^{pattern}", replacement, key)
        converted[key] = tensor
    return converted


def _unpickle(path: Path) -> Any:
    try:
        return read_pickle(path)
    except Exception as error:  # Whatever a crafted file provokes means the same.
        raise RefusedFileError(
            f"{path} is not one of the authors' snapshots, or it asks for more than weights "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); it was "
            "refused and nothing in it was run"
        ) from error


def _collect(module: Any, path: Path, name: str) -> dict[str, Tensor]:
    """Gather parameters and buffers of a stored module and of those inside it."""
    try:
        return collect_module(module)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {name} is {error}") from error


def _read_clamp(network: Any) -> dict[str, Any]:
    """Limit of activations, which no weight tells: all layers of their G have it as an attribute.

    Nothing if none has; the usual limit holds then.
    """
    for clamp in _find_attribute(network, "conv_clamp"):
        is_plain = clamp is None or (isinstance(clamp, int | float) and clamp is not True)
        return {"conv_clamp": clamp if clamp is None else float(clamp)} if is_plain else {}
    return {}


def _read_discriminator(network: Any, state: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """Architecture of D, which its weights tell, and its group size, an attribute of one layer."""
    keys = [key for key in state if key.startswith("discriminator.")]
    # "skip" shows the picture to every block, "resnet" only to the first.
    num_readers = sum(key.endswith(".fromrgb.weight") for key in keys)
    has_skips = any(key.endswith(".skip.weight") for key in keys)
    architecture = "resnet" if has_skips else "skip" if num_readers > 1 else "orig"
    options: dict[str, Any] = {"discriminator_architecture": architecture}
    for size in _find_attribute(network, "group_size"):
        if isinstance(size, int) and size is not True:
            return options | {"group_size": size}
    logger.warning(
        "%s does not say how many pictures its discriminator compares; method.group_size stays as "
        "it is (4 as published). Type method.group_size=... if it was trained with others",
        path,
    )
    return options


def _find_attribute(network: Any, name: str) -> Iterator[Any]:
    """Values of attribute `name` of a stored module and of those inside it, outermost first."""
    waiting, seen = [network], set()
    while waiting:
        module = waiting.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))  # A file may hold a module within itself.
        state = module.get("state") if isinstance(module, Mapping) else None
        if not isinstance(state, Mapping):
            continue
        if name in state:
            yield state[name]
        children = state.get("_modules")
        waiting += children.values() if isinstance(children, Mapping) else []


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
