"""From configuration to objects: every option is checked before anything is created.

A config file holds constructor arguments, so the constructors' own annotations say what is allowed:
types, `Literal` choices and `Bounds`. Unknown keys, wrong types and values out of range are all
reported at once, each in one line.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import hydra.utils
from hydra.errors import InstantiationException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from figureground.core.errors import ConfigError, FiguregroundError
from figureground.core.hints import find_mismatch, nearest
from figureground.core.rebuild import (
    build_trusted as build_trusted,
)  # Beside `build`, its live twin.
from figureground.core.resolvers import register_resolvers
from figureground.core.signatures import find_problems

register_resolvers()

_HYDRA_KEYS = frozenset({"_convert_", "_recursive_"})


def config_dir() -> str:
    """Folder of the configuration files: of the installed package, else of the checkout."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parents[1] / "conf"
    return str(checkout if (checkout / "train.yaml").is_file() else package / "conf")


def read_choice(group: str, name: str) -> dict[str, Any]:
    """The node that a file of the configuration folder holds, such as `generator/biggan`.

    Raises:
        ConfigError: There is no such file.
    """
    folder = Path(config_dir()) / group
    options = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in options:
        raise ConfigError(f"{group}={name}: there is no such choice{nearest(name, options)}")
    plain = OmegaConf.to_container(OmegaConf.load(folder / f"{name}.yaml"), resolve=True)
    if not isinstance(plain, dict):
        raise TypeError(f"{group}/{name}.yaml holds no mapping")
    return {str(key): value for key, value in plain.items()}


def check(config: DictConfig, settings: type) -> list[str]:
    """List everything wrong with a composed configuration.

    Args:
        config: Of one job; the node `hydra` is left alone.
        settings: Dataclass whose fields are the allowed top-level keys with their types; its
            `check_options`, if it has one, checks them together.

    Returns:
        One line for each problem; empty if there is none.
    """
    problems, plain = _resolve(config)
    hints = typing.get_type_hints(settings, include_extras=True)
    for key, value in plain.items():
        if key == "hydra":
            continue
        if key not in hints:
            problems.append(f"{key}: there is no such option{nearest(str(key), list(hints))}")
        elif problem := find_mismatch(value, hints[key]):
            problems.append(f"{key}={value}: {problem}")
    if problems:
        return problems  # Cheap to find; the rest imports the classes that are to be made.
    for path, node in _targets(plain, ""):
        problems += check_node(path, node)
    # What is made within something else, such as method.generator, may stand by itself, too.
    problems = [each for each in problems if each.partition(".")[2] not in problems]
    if not problems and hasattr(settings, "check_options"):
        problems = settings.check_options(**plain)
    return problems


def require_valid(config: DictConfig, settings: type) -> None:
    """Raise `ConfigError` with all problems of `config`, one a line; see `check`."""
    if problems := check(config, settings):
        raise ConfigError(*problems)


def build(node: Any, **more: Any) -> Any:
    """Make the object that `node` describes, with `more` arguments.

    For nodes that the user typed or keeps in configuration files: they may name anything. What
    comes from any other file goes to `core.rebuild.build_trusted`.

    Raises:
        ConfigError: Its constructor refuses the options.
    """
    try:
        return hydra.utils.instantiate(node, **more, _convert_="all")
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, FiguregroundError):
                raise cause from error
            if isinstance(cause, ValueError) and not isinstance(cause, OmegaConfBaseException):
                raise ConfigError(f"{_name_of(node)}: {cause}") from error
            cause = cause.__cause__
        raise


def to_plain(config: DictConfig) -> dict[str, Any]:
    """Resolve `config` into plain containers, without the node `hydra`."""
    # Hydra's own node refers to things that exist only while a job runs.
    mine = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    plain = OmegaConf.to_container(mine, resolve=True)
    if not isinstance(plain, dict):
        raise TypeError(f"expected a mapping, got {type(plain).__name__}")
    return {str(key): value for key, value in plain.items()}


def drop_hydra_keys(node: Any) -> Any:
    """Copy plain options without what only tells Hydra how to build them, which no file may."""
    if isinstance(node, dict):
        kept = {key: each for key, each in node.items() if key not in _HYDRA_KEYS}
        return {key: drop_hydra_keys(each) for key, each in kept.items()}
    return [drop_hydra_keys(each) for each in node] if isinstance(node, list) else node


def flatten(plain: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested dicts into `a.b.c` -> value; lists stay values."""
    if not isinstance(plain, dict) or not plain:
        return {prefix: plain} if prefix else {}
    flat: dict[str, Any] = {}
    for key, value in plain.items():
        flat.update(flatten(value, f"{prefix}.{key}" if prefix else str(key)))
    return flat


def _resolve(config: DictConfig) -> tuple[list[str], dict[str, Any]]:
    """Resolve leaf by leaf; return problems and what could be resolved."""
    problems: list[str] = []
    consequences: list[str] = []  # What refers to an option that is not set.

    def walk(node: DictConfig | ListConfig, path: str) -> Any:
        keys: list[Any] = (
            list(range(len(node))) if isinstance(node, ListConfig) else list(node.keys())
        )
        values = {}
        for key in keys:
            place = f"{path}.{key}" if path else str(key)
            if place == "hydra":
                continue
            try:
                if OmegaConf.is_missing(node, key):
                    problems.append(f"{place} is not set; add {place}=...")
                    continue
                value = node[key]
            except (OmegaConfBaseException, RecursionError) as error:
                reason = str(error).splitlines()[0] if str(error) else "it refers to itself"
                if isinstance(error, RecursionError):
                    reason = "its references go round in a circle"
                is_consequence = isinstance(error, InterpolationToMissingValueError)
                (consequences if is_consequence else problems).append(f"{place}: {reason}")
                continue
            values[key] = (
                walk(value, place) if isinstance(value, DictConfig | ListConfig) else value
            )
        return list(values.values()) if isinstance(node, ListConfig) else values

    plain = walk(config, "")
    return problems or consequences, plain


def _targets(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """All nodes with a `_target_` at or below `node`, with their paths."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield path, node
        for key, value in node.items():
            yield from _targets(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list | tuple):
        for number, value in enumerate(node):
            yield from _targets(value, f"{path}[{number}]")


def check_node(path: str, node: Mapping[str, Any]) -> list[str]:
    """Check one `_target_` node, typed or of a configuration file, by what it names."""
    target = node["_target_"]
    try:
        made = hydra.utils.get_object(str(target))
    except Exception as error:  # Importing runs other people's code.
        return [f"{path}._target_={target}: cannot be imported ({str(error).splitlines()[0]})"]
    return find_problems(path, made, node)


def _name_of(node: Any) -> str:
    target = node.get("_target_", "") if hasattr(node, "get") else ""
    return str(target).rpartition(".")[2] or "configuration"
