"""Objects from what a file says: the classes that our own constructors ask for, and no others.

What is allowed follows from annotations. A node with `_target_` is taken where the argument is
annotated with a class of this package or of torchmetrics, or with a factory of optimisers, and it
has to name such a class: one defined in the packages below, by the module it is in. Nothing else is
imported, no function is called, no reference is resolved. The node is copied once (`core.plain`)
and read into a `Blueprint`, with types and ranges checked; only that is built.
"""

from __future__ import annotations

import importlib
import inspect
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, NoReturn, Union, get_args, get_origin

from figureground.core.errors import CheckpointError, ConfigError, FiguregroundError
from figureground.core.hints import nearest
from figureground.core.plain import copy_options, summarize
from figureground.core.signatures import find_problems, find_wrong_arguments, hints_of

#: Where classes that a file may name are defined.
_OURS = tuple(f"figureground.{name}." for name in ("methods", "generators", "metrics", "nn"))
_TORCH = ("torch.nn", "torch.optim", "torch.optim.lr_scheduler")
_NAME = re.compile(r"[A-Za-z]\w*(?:\.[A-Za-z_]\w*)*\.[A-Za-z]\w*", re.ASCII)
_SHOWN = 3  # Problems.


@dataclass(frozen=True)
class Blueprint:
    """What a file describes, checked and ready to be built.

    Attributes:
        kind: A class that is allowed.
        options: Plain values, lists and dicts of them, and further blueprints.
        is_partial: Whether it is called later, with more arguments.
    """

    kind: type
    options: Mapping[str, Any]
    is_partial: bool

    def build(self) -> Any:
        """Make the object.

        Raises:
            FiguregroundError: The constructor refuses the options.
        """
        options = {name: _build(value) for name, value in self.options.items()}
        if self.is_partial:
            return partial(self.kind, **options)
        try:
            return self.kind(**options)
        except FiguregroundError:
            raise
        except Exception as error:  # Options of a file may be anything that fits one by one.
            reason = summarize(error) or type(error).__name__
            raise CheckpointError(f"{self.kind.__name__}: {reason}") from error


def build_trusted(node: Mapping[str, Any], kind: type | None = None) -> Any:
    """Make the object that a node from a file describes, which may come from anybody.

    Args:
        node: With `_target_` and options.
        kind: Base class of what it may describe; None for any module of PyTorch.

    Raises:
        CheckpointError: It asks for anything else, or its options do not fit; nothing was run.
    """
    return read_blueprint(node, kind).build()


def read_blueprint(node: Mapping[str, Any], kind: type | None = None) -> Blueprint:
    """Check what `build_trusted` would make, without making it.

    Raises:
        CheckpointError: See there.
    """
    from torch.nn import Module  # Takes seconds.

    reader = _Reader()
    wanted = (kind or Module, False)
    blueprint = reader.read_node(copy_options(node, "method"), wanted, "method")
    if reader.problems:
        more = len(reader.problems) - _SHOWN
        shown = "; ".join(map(summarize, reader.problems[:_SHOWN]))
        raise CheckpointError(shown + (f"; and {more} more" if more > 0 else ""))
    return blueprint


def change_trusted(
    node: Mapping[str, Any], changes: Mapping[str, Any], kind: type, name: str
) -> dict[str, Any]:
    """Copy a group of nodes from a file with `changes` to their options.

    Args:
        node: From name to node with `_target_`.
        changes: From name to options, checked as on the command line.
        kind: Base class of what the nodes may describe.
        name: Of the group, for messages.

    Raises:
        ConfigError: There is no such node or option, or a value is wrong.
        CheckpointError: A node asks for what `build_trusted` would refuse.
    """
    nodes = copy_options(node, name)
    problems = [
        f"{name}.{key}: the checkpoint has none{nearest(key, list(nodes))}"
        for key in changes
        if not isinstance(nodes.get(key), dict)
    ]
    for key in changes.keys() & nodes.keys() if not problems else ():
        nodes[key] |= copy_options(changes[key], f"{name}.{key}")
        made = find_class(nodes[key].get("_target_"), kind)
        if made is None:
            _refuse_target(f"{name}.{key}", nodes[key].get("_target_"), kind)
        problems += find_problems(f"{name}.{key}", made, nodes[key])
    if problems:
        raise ConfigError(*problems)
    return dict(nodes)


def find_class(target: object, kind: type) -> type | None:
    """The class that a file names, if it may name it here.

    Args:
        target: `module.Class`; only our packages and three of torch are looked into.
        kind: Base class.
    """
    if not isinstance(target, str) or not _NAME.fullmatch(target):
        return None
    module, _, name = target.rpartition(".")
    if not module.startswith(_OURS) and module not in _TORCH:
        return None
    try:
        found = vars(importlib.import_module(module)).get(name)
    except Exception:  # There is no such module.
        return None
    # A module has names of what it imports, too.
    home = _OURS if module.startswith(_OURS) else ("torch.nn.", "torch.optim.")
    if not isinstance(found, type) or not f"{found.__module__}.".startswith(home):
        return None
    return found if issubclass(found, kind) else None


class _Reader:
    """Turns nodes into blueprints by the annotations of what they are for.

    Attributes:
        problems: Wrong options, a line each.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []

    def read_node(
        self, node: dict[str, Any], wanted: tuple[type, bool] | None, place: str
    ) -> Blueprint:
        """Read one node.

        Args:
            node: Plain, with `_target_`.
            wanted: Base class, and whether it is to be a partial; None where none is expected.
            place: For messages.

        Raises:
            CheckpointError: It names what it may not name.
        """
        target = node.get("_target_")
        if wanted is None:
            raise CheckpointError(
                f"{place}._target_ is not allowed in a file here; nothing was run"
            )
        kind, is_partial = wanted
        made = find_class(target, kind)
        if made is None:
            _refuse_target(place, target, kind)
        if node.get("_partial_", False) is not is_partial:
            self.problems.append(f"{place}._partial_: expected {str(is_partial).lower()}")
        taken = next(iter(inspect.signature(made).parameters), None) if is_partial else None
        if taken in node:  # What a partial is called with later.
            self.problems.append(f"{place}.{taken}: there is no such option")
        self.problems += find_wrong_arguments(place, made, node)
        hints = hints_of(made)
        options = {
            key: self._read(value, hints.get(key), f"{place}.{key}")
            for key, value in node.items()
            if key not in {"_target_", "_partial_"}
        }
        return Blueprint(made, options, is_partial)

    def _read(self, value: Any, hint: Any, place: str) -> Any:
        if isinstance(value, dict) and not {"_target_", "_partial_"}.isdisjoint(value):
            return self.read_node(value, find_wanted(hint), place)
        if isinstance(value, dict):
            inner = _inner_hint(hint, Mapping)
            return {key: self._read(each, inner, f"{place}.{key}") for key, each in value.items()}
        if isinstance(value, list):
            return [self._read(each, None, f"{place}[{n}]") for n, each in enumerate(value)]
        return value


def find_wanted(hint: Any) -> tuple[type, bool] | None:
    """Base class that nodes at an argument may name, and whether they are partials of it.

    Args:
        hint: The argument's annotation.

    Returns:
        None where no node is expected.
    """
    origin = get_origin(hint)
    if origin in {Annotated, Union, types.UnionType}:
        return next(filter(None, map(find_wanted, get_args(hint))), None)
    if origin is Callable:
        wanted = find_wanted(get_args(hint)[-1])
        return wanted and (wanted[0], True)
    is_node = isinstance(hint, type) and f"{hint.__module__}.".startswith(
        (*_OURS, "torchmetrics.", "torch.optim.")
    )
    return (hint, False) if is_node else None


def _inner_hint(hint: Any, kind: type) -> Any:
    """Annotation of the values of a mapping; None if `hint` is none."""
    origin = get_origin(hint)
    if origin in {Annotated, Union, types.UnionType}:
        found = (_inner_hint(each, kind) for each in get_args(hint))
        return next((each for each in found if each is not None), None)
    is_kind = inspect.isclass(origin) and issubclass(origin, kind)
    return get_args(hint)[-1] if is_kind and get_args(hint) else None


def _build(value: Any) -> Any:
    if isinstance(value, Blueprint):
        return value.build()
    if isinstance(value, dict):
        return {key: _build(each) for key, each in value.items()}
    return [_build(each) for each in value] if isinstance(value, list) else value


def _refuse_target(place: str, target: object, kind: type) -> NoReturn:
    raise CheckpointError(
        f"{place}._target_={summarize(repr(target))[:100]} is not allowed in a file; expected a "
        f"{kind.__name__} of figureground or torch by the module it is in. Nothing was run"
    )
