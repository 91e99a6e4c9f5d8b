"""From configuration to objects: every option is checked before anything is created.

A config file holds constructor arguments, so the constructors' own annotations say what is allowed:
types, `Literal` choices and `Bounds`. Unknown keys, wrong types and values out of range are all
reported at once, each in one line.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import hydra.utils
from hydra.errors import InstantiationException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from figureground.core.bounds import Bounds
from figureground.core.errors import CheckpointError, ConfigError, FiguregroundError
from figureground.core.hints import find_mismatch, nearest
from figureground.core.resolvers import register_resolvers

register_resolvers()

_TRUSTED = ("figureground.", "torch.nn.", "torch.optim.")
_SPECIAL = frozenset({"_target_", "_partial_", "_convert_", "_recursive_"})
#: Ranges of optimiser options, whose own annotations have none.
_OPTIMIZER_BOUNDS = {
    "lr": Bounds(above=0, high=10),
    "eps": Bounds(above=0, high=1),
    "weight_decay": Bounds(0, 10),
    "momentum": Bounds(0, 1),
    "alpha": Bounds(0, 1),
}
_BETAS = Annotated[Sequence[Annotated[float, Bounds(0, 0.999999)]], "each"]


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


def build_trusted(node: Mapping[str, Any]) -> Any:
    """Make the object that a node from a file describes, which may come from anybody.

    Only classes defined in this package, `torch.nn` and `torch.optim` are made.

    Raises:
        CheckpointError: It asks for anything else; nothing was run.
    """
    for path, inner in _targets(node, ""):
        _require_trusted(path, inner)
    return build(OmegaConf.create(dict(node)))


def change_trusted(
    node: Mapping[str, Any], changes: Mapping[str, Any], name: str
) -> dict[str, Any]:
    """Copy a group of nodes from a file with `changes` to their options.

    Args:
        node: From name to node with `_target_`.
        changes: From name to options, checked as on the command line.
        name: Of the group, for messages.

    Raises:
        ConfigError: There is no such node or option, or a value is wrong.
        CheckpointError: A node asks for what `build_trusted` would refuse.
    """
    problems = [
        f"{name}.{key}: the checkpoint has none{nearest(key, list(node))}"
        for key in changes
        if key not in node
    ]
    changed = {key: {**value, **changes.get(key, {})} for key, value in node.items()}
    for path, inner in _targets(changed, name):
        _require_trusted(path, inner)
        problems += check_node(path, inner)
    if problems:
        raise ConfigError(*problems)
    return changed


def to_plain(config: DictConfig) -> dict[str, Any]:
    """Resolve `config` into plain containers, without the node `hydra`."""
    # Hydra's own node refers to things that exist only while a job runs.
    mine = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    plain = OmegaConf.to_container(mine, resolve=True)
    if not isinstance(plain, dict):
        raise TypeError(f"expected a mapping, got {type(plain).__name__}")
    return {str(key): value for key, value in plain.items()}


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


def check_node(path: str, node: dict[str, Any]) -> list[str]:
    """Check one `_target_` node against the signature of what it names."""
    target = node["_target_"]
    try:
        made = hydra.utils.get_object(str(target))
    except Exception as error:  # Importing runs other people's code.
        return [f"{path}._target_={target}: cannot be imported ({str(error).splitlines()[0]})"]
    try:
        signature = inspect.signature(made)
    except ValueError:  # Written in C, such as datetime.timedelta: nothing to compare with.
        return []
    problems = _check_arguments(path, node, signature, _hints_of(made))
    if not problems and hasattr(made, "check_options"):
        problems = [f"{path}: {problem}" for problem in _ask(made.check_options, signature, node)]
    return problems


def _hints_of(made: Any) -> dict[str, Any]:
    try:
        function = made.__init__ if inspect.isclass(made) else made
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError):
        return {}


def _check_arguments(
    path: str, node: dict[str, Any], signature: inspect.Signature, hints: dict[str, Any]
) -> list[str]:
    """Compare the arguments in `node` with a signature and its annotations."""
    target = str(node["_target_"])
    names = [n for n, p in signature.parameters.items() if p.kind is not p.VAR_KEYWORD]
    is_open = len(names) < len(signature.parameters)
    problems = []
    for key, value in node.items():
        if key in _SPECIAL:
            continue
        place = f"{path}.{key}"
        if key not in names:
            if not is_open:
                problems.append(f"{place}: there is no such option{nearest(key, names)}")
        elif problem := find_mismatch(value, hints.get(key, Any)) or _optimizer_mismatch(
            target, key, value
        ):
            problems.append(f"{place}={value}: {problem}")
    if not node.get("_partial_"):
        given = signature.parameters.items()
        needed = [n for n, p in given if p.default is p.empty and p.kind is p.KEYWORD_ONLY]
        problems += [
            f"{path}.{name} is not set; add {path}.{name}=..."
            for name in needed
            if name not in node
        ]
    return problems


def _ask(
    check_options: Callable[..., list[str]], signature: inspect.Signature, node: dict[str, Any]
) -> list[str]:
    """Let a class check its options together, defaults filled in."""
    options = {n: p.default for n, p in signature.parameters.items() if p.default is not p.empty}
    options |= {key: value for key, value in node.items() if key not in _SPECIAL}
    return check_options(**options)


def _optimizer_mismatch(target: str, key: str, value: Any) -> str | None:
    if not target.startswith("torch.optim."):
        return None
    if key in _OPTIMIZER_BOUNDS:
        return find_mismatch(value, Annotated[float, _OPTIMIZER_BOUNDS[key]])
    return find_mismatch(value, _BETAS) if key == "betas" else None


def _require_trusted(path: str, node: dict[str, Any]) -> None:
    """Raise unless a node names a class defined in a trusted package."""
    target, place = node["_target_"], f"{path or 'method'}._target_"
    refused = CheckpointError(
        f"{place}={target!r} is not allowed in a file; expected a class of "
        f"{', '.join(prefix.rstrip('.') for prefix in _TRUSTED)}. Nothing was run"
    )
    if not isinstance(target, str) or not target.startswith(_TRUSTED) or "_args_" in node:
        raise refused
    try:
        made = hydra.utils.get_object(target)
    except Exception as error:
        raise refused from error
    # A dotted path can lead through a trusted module to what that module imports.
    if not inspect.isclass(made) or not f"{made.__module__}.".startswith(_TRUSTED):
        raise refused


def _name_of(node: Any) -> str:
    target = node.get("_target_", "") if hasattr(node, "get") else ""
    return str(target).rpartition(".")[2] or "configuration"
