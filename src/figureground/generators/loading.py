"""From a name, a file or options to a generator that is ready to paint."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from figureground.core.config import read_choice
from figureground.core.errors import CheckpointError, ConfigError
from figureground.core.rebuild import find_class
from figureground.core.signatures import find_problems
from figureground.generators.base import ImageGenerator
from figureground.generators.weights import (
    families,
    name_of,
    read_header,
    require_known,
    require_shapes,
)

_CHECKPOINT = "figureground.generators.checkpoint.CheckpointGenerator"


def load_generator(
    name_or_config: str | Path | Mapping[str, Any],
    weights: str | Path | None = None,
    *,
    map_location: str | torch.device = "cpu",
    **options: Any,
) -> ImageGenerator:
    """Build a generator, frozen and in evaluation mode.

    Args:
        name_or_config: Name of a file in `conf/generator`, such as `stylegan2_ffhq`; or a node with
            `_target_`; or a file that `convert generator=...` wrote; or a checkpoint or run
            directory of this suite.
        weights: Released or converted file; None for those of the configuration, mostly none, and
            then the network paints noise.
        map_location: Device of the network.
        options: Constructor arguments that differ from the configuration.

    Raises:
        ConfigError: There is no such generator or option, or a file is missing.
        CheckpointError: A file is damaged, unsafe, or of another family or size.
    """
    node = {**_find_node(name_or_config), **options}
    if weights is not None:
        node["weights"] = str(weights)
    family = find_class(node.pop("_target_"), ImageGenerator)
    if family is None:
        raise ConfigError("generator._target_ is not a generator of figureground.generators")
    if problems := find_problems("generator", family, node):
        raise ConfigError(*problems)
    if weights is None and not isinstance(name_or_config, Mapping):
        _require_own_shapes(node, name_or_config)
    try:
        # Called as it is: in the name of a file nothing is to be resolved.
        network: ImageGenerator = family(**node)
    except ValueError as error:
        raise ConfigError(f"{family.__name__}: {error}") from error
    return network.to(map_location)


def _find_node(source: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(source, Mapping):
        if "_target_" not in source:
            raise ConfigError("a generator's configuration needs _target_; name one of its classes")
        return dict(source)
    path = Path(source)
    if os.path.isdir(path) or path.suffix == ".ckpt":  # noqa: PTH112 - names of any length
        return {"_target_": _CHECKPOINT, "weights": str(path)}
    if os.path.isfile(path):  # noqa: PTH113
        return _node_of_file(path)
    return read_choice("generator", str(source))


def _require_own_shapes(node: Mapping[str, Any], source: str | Path) -> None:
    """Refuse a file of ours, `source`, whose options ask for a network that is not in it."""
    header = read_header(source) if os.path.isfile(source) else None  # noqa: PTH113
    if header is not None:
        (family,) = (each for each in families() if name_of(each) == header["family"])
        options = {k: v for k, v in node.items() if k != "weights"}
        require_shapes(family, options, Path(source))


def _node_of_file(path: Path) -> dict[str, Any]:
    """The node of a file that says its own family and options."""
    header = read_header(path)
    if header is None:
        raise CheckpointError(
            f"{path} does not say what it holds; name its generator: load_generator(name, "
            f"weights={str(path)!r})"
        )
    for family in families():
        if name_of(family) == header["family"]:
            require_known(family, header["options"], path)  # Anything may stand in a file.
            target = f"{family.__module__}.{family.__name__}"
            return {"_target_": target, **header["options"], "weights": str(path)}
    raise CheckpointError(f"{path} holds weights of {header['family']}, which is not known here")
