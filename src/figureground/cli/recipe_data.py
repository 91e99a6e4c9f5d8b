"""Data as the recipe of a method prepares it, for commands that know the method by its checkpoint.

`train` composes recipes; `evaluate` learns the method from the checkpoint, when its own options are
composed already. So the recipe's changes to `data` are found by composing `train` with and without
it, and made here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from omegaconf import DictConfig, OmegaConf

from figureground.cli.check import is_typed
from figureground.cli.composing import composed, config_folders
from figureground.core.errors import ConfigError

logger = logging.getLogger(__name__)

#: Of training, or given by the checkpoint itself.
_OTHER = ("resolution", "batch_size", "num_workers", "augment")

Change = tuple[str, Any, Any]


def follow_recipe(config: DictConfig, method: Any) -> None:
    """Make the changes to `config.data` that the recipe of `method` and this data makes.

    Options typed on the command line, or that have another value than without a recipe, stay.

    Args:
        config: Options of a command with a node `data`.
        method: The method, which knows what it was built from.
    """
    target = str(method.origin.get("method", {}).get("_target_", ""))
    if not target.startswith("figureground.methods."):
        return
    name, given, made = target.split(".")[2], _to_plain(config.data), []
    for option, before, after in _find_changes(name, _name_data(config), tuple(config_folders())):
        now = _look_up(given, option)
        if is_typed(f"data.{option}") or now != before or now == after:
            continue
        OmegaConf.update(config.data, option, after, force_add=True)
        made.append(option)
    if made:
        logger.info("data as the recipe of %s has it: %s", name, ", ".join(made))


def _name_data(config: DictConfig) -> str:
    """Which choice of the group `data` it is."""
    from hydra.core.hydra_config import HydraConfig

    if HydraConfig.initialized():
        return str(HydraConfig.get().runtime.choices["data"])
    return str(config.data.name)


@cache
def _find_changes(method: str, data: str, folders: tuple[str, ...]) -> tuple[Change, ...]:
    """Options of `data` that the recipe of `method` sets, without it and with it."""
    nodes = []
    for more in (("~recipe",), ()):
        try:
            with composed("train", [f"method={method}", f"data={data}", *more], folders) as config:
                nodes.append(_to_plain(config.data))
        except Exception as error:
            raise ConfigError(
                f"the recipe of method={method} data={data} cannot be composed: {error}"
            ) from error
    return tuple(_compare(*nodes))


def _compare(before: Mapping[str, Any], after: Mapping[str, Any], at: str = "") -> Iterator[Change]:
    for key, value in after.items():
        old = before.get(key)
        if not at and key in _OTHER:
            continue
        if isinstance(old, dict) and isinstance(value, dict):
            yield from _compare(old, value, f"{at}{key}.")
        elif old != value:
            yield f"{at}{key}", old, value


def _look_up(plain: Any, option: str) -> Any:
    """The value at `a.b.c`, or None."""
    for key in option.split("."):
        plain = plain.get(key) if isinstance(plain, dict) else None
    return plain


def _to_plain(node: Any) -> Any:
    """References are kept as text: they mean the same in both commands."""
    return OmegaConf.to_container(node, resolve=False) if OmegaConf.is_config(node) else node
