"""Options compared with the signature of what they are for: names, types, ranges."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from figureground.core.bounds import Bounds
from figureground.core.hints import find_mismatch, nearest

#: Keys of a node that are no arguments.
SPECIAL = frozenset({"_target_", "_partial_", "_convert_", "_recursive_"})
#: Ranges of optimiser options, whose own annotations have none.
_OPTIMIZER_BOUNDS = {
    "lr": Bounds(above=0, high=10),
    "eps": Bounds(above=0, high=1),
    "weight_decay": Bounds(0, 10),
    "momentum": Bounds(0, 1),
    "alpha": Bounds(0, 1),
}
_BETAS = Annotated[Sequence[Annotated[float, Bounds(0, 0.999999)]], "each"]
_SHOWN = 200  # Characters of a value.


def find_problems(path: str, made: Callable[..., Any], node: Mapping[str, Any]) -> list[str]:
    """List what is wrong with the arguments of a call, one by one and together.

    Args:
        path: Where they stand, for messages.
        made: What is to be called.
        node: Its arguments; keys with a meaning of their own are passed over.
    """
    try:
        signature = inspect.signature(made)
    except ValueError:  # Written in C, such as datetime.timedelta: nothing to compare with.
        return []
    problems = find_wrong_arguments(path, made, node)
    if not problems and hasattr(made, "check_options"):
        problems = [f"{path}: {problem}" for problem in _ask(made.check_options, signature, node)]
    return problems


def hints_of(made: Any) -> dict[str, Any]:
    """Annotations of the arguments of a class or function; none where they cannot be read."""
    try:
        function = made.__init__ if inspect.isclass(made) else made
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError):
        return {}


def find_wrong_arguments(path: str, made: Callable[..., Any], node: Mapping[str, Any]) -> list[str]:
    """List arguments that are unknown, missing, or do not fit their annotation."""
    signature, hints = inspect.signature(made), hints_of(made)
    names = [n for n, p in signature.parameters.items() if p.kind is not p.VAR_KEYWORD]
    is_open = len(names) < len(signature.parameters)
    problems = []
    for key, value in node.items():
        if key in SPECIAL:
            continue
        place = f"{path}.{key}"
        if key not in names:
            if not is_open:
                problems.append(f"{place}: there is no such option{nearest(key, names)}")
        elif problem := find_mismatch(value, hints.get(key, Any)) or _optimizer_mismatch(
            made, key, value
        ):
            problems.append(f"{place}={str(value)[:_SHOWN]}: {problem}")
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
    check_options: Callable[..., list[str]], signature: inspect.Signature, node: Mapping[str, Any]
) -> list[str]:
    """Let a class check its options together, defaults filled in."""
    options = {n: p.default for n, p in signature.parameters.items() if p.default is not p.empty}
    options |= {key: value for key, value in node.items() if key not in SPECIAL}
    return check_options(**options)


def _optimizer_mismatch(made: Callable[..., Any], key: str, value: Any) -> str | None:
    if not f"{getattr(made, '__module__', '')}.".startswith("torch.optim."):
        return None
    if key in _OPTIMIZER_BOUNDS:
        return find_mismatch(value, Annotated[float, _OPTIMIZER_BOUNDS[key]])
    return find_mismatch(value, _BETAS) if key == "betas" else None
