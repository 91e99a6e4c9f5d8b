"""What an option's annotation says against its value, and which name was probably meant."""

from __future__ import annotations

import difflib
import inspect
import sys
import types
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from figureground.core.bounds import Bounds


def nearest(name: str, options: Sequence[str]) -> str:
    """Hint at the option closest to `name`, as `; did you mean 'x'?`, or list its neighbours."""
    strangers = [option for option in options if not name.startswith(f"{option}.")]
    close = difflib.get_close_matches(name, strangers, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    parent = name.rpartition(".")[0]
    neighbours = sorted({option for option in options if option.rpartition(".")[0] == parent})
    return f"; there are: {', '.join(neighbours)}" if neighbours else ""


def find_mismatch(value: Any, hint: Any) -> str | None:
    """Say what was expected where `value` does not fit the annotation `hint`, else None."""
    origin = get_origin(hint)
    if origin is Annotated:
        base, *marks = get_args(hint)
        bounds = next((mark for mark in marks if isinstance(mark, Bounds)), None)
        problem = find_mismatch(value, base)
        if bounds is not None and (problem or value not in bounds):
            return f"expected {_describe(base)} {bounds}"
        return problem
    if origin in {Union, types.UnionType}:
        found = [find_mismatch(value, option) for option in get_args(hint)]
        if None in found:
            return None
        wanted = [problem.removeprefix("expected ") for problem in found if problem]
        return "expected " + " or ".join(dict.fromkeys(wanted))
    if origin is Literal:
        options = [str(option) for option in get_args(hint)]
        if value in get_args(hint):
            return None
        hint_at = nearest(str(value), options).partition("; there")[0]
        return f"expected one of {', '.join(options)}{hint_at}"
    is_scalar = hint is None or hint in {bool, int, float, str, Path, type(None)}
    if isinstance(value, dict) and "_target_" in value and not is_scalar:
        return None  # Checked on its own.
    return _plain_mismatch(value, hint, origin)


def _plain_mismatch(value: Any, hint: Any, origin: Any) -> str | None:
    expected = f"expected {_describe(hint)}"
    if hint is None or hint is type(None):
        return None if value is None else "expected null"
    if hint is bool:
        return None if isinstance(value, bool) else expected
    if hint is int:
        return None if isinstance(value, int) and not isinstance(value, bool) else expected
    if hint is float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return None if is_number and abs(value) <= sys.float_info.max else expected
    if hint in {str, Path}:
        return None if isinstance(value, str) else expected
    kind = origin or hint
    if inspect.isclass(kind) and issubclass(kind, Mapping):
        return None if isinstance(value, dict) else expected
    if inspect.isclass(kind) and issubclass(kind, Sequence):
        return _sequence_mismatch(value, hint, kind)
    is_ours = inspect.isclass(hint) and hint.__module__.startswith("figureground.")
    if is_ours and not (getattr(hint, "_is_protocol", False) and value is None):
        return f"expected a node with `_target_` that makes a {hint.__name__}"
    return None  # Nothing is known of other annotations.


def _sequence_mismatch(value: Any, hint: Any, kind: type) -> str | None:
    if not isinstance(value, list | tuple):
        is_single = isinstance(value, str | int | float)
        return f"expected a list, such as [{value}]" if is_single else "expected a list"
    items = [item for item in get_args(hint) if item is not Ellipsis]
    if kind is tuple and len(items) > 1 and len(items) != len(value):
        return f"expected a list of {len(items)}"
    for number, item in enumerate(value):
        if items and (problem := find_mismatch(item, items[min(number, len(items) - 1)])):
            return f"element {number}: {problem}"
    return None


def _describe(hint: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    names |= {Path: "a path", type(None): "null"}
    if isinstance(hint, partial) or get_origin(hint) is not None:
        return str(hint).replace("typing.", "")
    return names.get(hint, getattr(hint, "__name__", str(hint)))
