"""What stands in a file, copied once into exact containers, so that check and use see the same.

A pickle may hold subclasses of `dict` whose methods a file has replaced, lists that share their
elements or hold themselves, and texts that a configuration library would resolve. None of them
comes through here. Nothing is imported or called on a file's behalf.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, NoReturn

from figureground.core.errors import CheckpointError
from figureground.core.escaping import one_line

_MOST_DEPTH = 32
_MOST_OPTIONS, _MOST_VALUES = 10_000, 2_000_000  # In all, of a configuration and of a checkpoint.
_MOST_KEYS = 256  # Of one mapping of a configuration.
_LONGEST_KEY, _LONGEST_TEXT = 200, 4096
_LARGEST = 2**63  # Integers beyond are no option, and Python refuses to print the largest.
_SHOWN, _LONGEST_SUMMARY = 80, 500
#: Keys with a meaning of their own that options need; `_args_` and others are refused.
_SPECIAL = frozenset({"_target_", "_partial_"})
_MAPPINGS: dict[type, Callable[[Any], Any]] = {dict: dict, OrderedDict: dict, Counter: Counter}


def copy_options(value: Any, place: str) -> Any:
    """Copy a configuration that stood in a file into exact dicts, lists, texts and numbers.

    Args:
        value: Anything.
        place: What it is, for messages.

    Returns:
        The copy; tuples become lists, an `OrderedDict` a dict.

    Raises:
        CheckpointError: It holds anything else, a reference such as `${...}`, a key with a meaning
            that options do not need, or is nested or large beyond all use.
    """
    return _Copier(_MOST_OPTIONS, _copy_option, _check_key).copy(value, place, 0)


def copy_containers(value: Any, place: str) -> Any:
    """Copy the containers of a checkpoint into exact ones; of tensors the numbers are taken.

    Args:
        value: Anything.
        place: What it is, for messages.

    Returns:
        The copy; an `OrderedDict` becomes a dict, tuples stay.

    Raises:
        CheckpointError: It holds more than tensors, plain values and containers of them, or is
            nested or large beyond all use.
    """
    return _Copier(_MOST_VALUES, _copy_state, None).copy(value, place, 0)


def strip_attributes(content: Any) -> None:
    """Take from the mappings in `content`, in place, the attributes that a pickle has given them.

    An `OrderedDict` takes any, so that its `items` may be something else.
    """
    waiting, seen = [content], set()
    while waiting:
        item = waiting.pop()
        if not isinstance(item, dict | list | tuple) or id(item) in seen:
            continue
        seen.add(id(item))  # A pickle may hold itself.
        if isinstance(item, dict) and hasattr(item, "__dict__"):
            vars(item).clear()
        waiting.extend(dict.values(item) if isinstance(item, dict) else item)


def summarize(text: object) -> str:
    """A text from a file or of an error about one, in one line and short, for a message."""
    return one_line(" ".join(str(text).split()))[:_LONGEST_SUMMARY]


class _Copier:
    """Copies containers and counts what is in them.

    Args:
        most: Values in all.
        leaf: Copies what is no container; raises for what is not allowed.
        check_key: Raises for keys of mappings that are not allowed; None takes plain values.
    """

    def __init__(
        self,
        most: int,
        leaf: Callable[[Any, str], Any],
        check_key: Callable[[Any, str, int], None] | None,
    ) -> None:
        self.left, self.most, self.leaf, self.check_key = most, most, leaf, check_key

    def copy(self, value: Any, place: str, depth: int) -> Any:
        """Copy `value`, which stands at `place` below `depth` containers."""
        self.left -= 1
        if self.left < 0:
            _refuse(place, f"is one of more than {self.most} values")
        kind = type(value)
        if kind not in _MAPPINGS and kind not in {list, tuple}:
            return self.leaf(value, place)
        if depth > _MOST_DEPTH:
            _refuse(place, f"is nested deeper than {_MOST_DEPTH} levels, or holds itself")
        if kind in _MAPPINGS:
            return self._copy_mapping(value, place, depth)
        items = [self.copy(each, f"{place}[{n}]", depth + 1) for n, each in enumerate(value)]
        return items if kind is list or self.check_key else tuple(items)

    def _copy_mapping(self, value: Any, place: str, depth: int) -> Any:
        copied = {}
        for key, each in dict.items(value):  # Not value.items, which a file may have replaced.
            if self.check_key is not None:
                self.check_key(key, place, len(value))
            elif type(key) not in {str, int, float, bool, tuple}:
                _refuse(place, f"has a key of type {type(key).__name__}")
            copied[key] = self.copy(each, f"{place}.{key}", depth + 1)
        return copied if self.check_key else _MAPPINGS[type(value)](copied)


def _check_key(key: Any, place: str, count: int) -> None:
    if type(key) is not str:
        _refuse(place, f"has a key of type {type(key).__name__}, expected a text")
    if count > _MOST_KEYS:
        _refuse(place, f"has {count} keys")
    if len(key) > _LONGEST_KEY or not key.isprintable() or "${" in key:
        _refuse(place, f"has the key {key[:_SHOWN]!r}, expected a name")
    if key.startswith("_") and key.endswith("_") and key not in _SPECIAL:
        _refuse(f"{place}.{key}", "has a meaning of its own that no option needs")


def _copy_option(value: Any, place: str) -> Any:
    kind = type(value)
    if value is None or kind in {bool, float} or (kind is int and abs(value) < _LARGEST):
        return value
    if kind is not str:
        what = "a number beyond 64 bits" if kind is int else f"of type {kind.__name__}"
        _refuse(place, f"is {what}, expected plain values")
    if "${" in value or value == "???":
        _refuse(place, f"is the reference {value[:_SHOWN]!r}")
    try:
        value.encode()
    except UnicodeEncodeError:
        _refuse(place, "is no text that could be written")
    if len(value) > _LONGEST_TEXT:
        _refuse(place, f"is a text of {len(value)} characters")
    return value


def _copy_state(value: Any, place: str) -> Any:
    import torch  # Takes seconds that a misspelt option need not wait for.

    plain = (bool, int, float, complex, str, bytes, torch.Size, torch.dtype, torch.device)
    if value is None or type(value) in plain:
        return value
    if type(value) in {torch.Tensor, torch.nn.Parameter}:
        return torch.Tensor.detach(value)  # Without attributes, which could hide its methods.
    return _refuse(place, f"is of type {type(value).__name__}, expected tensors and plain values")


def _refuse(place: str, reason: str) -> NoReturn:
    raise CheckpointError(
        f"{_shorten(summarize(place))} {summarize(reason)}, which is not allowed in a file; "
        "nothing was run"
    )


def _shorten(place: str) -> str:
    return place if len(place) <= _LONGEST_KEY else f"{place[:_SHOWN]}...{place[-_SHOWN:]}"
