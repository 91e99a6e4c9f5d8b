"""The .json that lies beside released weights of StudioGAN, held against what the weights tell."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from figureground.core.errors import CheckpointError
from figureground.core.presence import read_text

_MOST_BYTES = 2**20
_SHOWN = 100  # Characters of a value that is refused.
#: Their names and ours, of what weights tell too.
_NAMES = {"img_size": "resolution", "z_dim": "latent_dim"}
_ACTIVATION = ("activation_fn", "ReLU")  # Which weights do not tell; all released ones have it.


def check_config(folder: Path, options: Mapping[str, Any]) -> None:
    """Check the configuration in a folder; without one there is nothing to check.

    Args:
        folder: Holds weights, and at most one .json.
        options: Read off the weights.

    Raises:
        CheckpointError: There are several, it is unreadable, or it is of another network.
    """
    files = sorted(folder.glob("*.json"))
    if not files:
        return
    if len(files) > 1:
        raise CheckpointError(f"{folder} holds {len(files)} .json files; expected one")
    theirs = dict(_flatten(_read(files[0])))
    for name, ours in _NAMES.items():
        if theirs.get(name, options[ours]) != options[ours]:
            raise CheckpointError(
                f"{files[0]} says {name}={_shorten(theirs[name])}, but the weights beside it are "
                f"of {ours}={options[ours]}; they do not belong together"
            )
    name, expected = _ACTIVATION
    if theirs.get(name, expected) != expected:
        raise CheckpointError(
            f"{files[0]} says {name}={_shorten(theirs[name])}; only {expected} is known here"
        )


def _shorten(value: Any) -> str:
    """One line, whatever stands there."""
    return " ".join(str(value).split())[:_SHOWN]


def _read(path: Path) -> Any:
    try:
        return json.loads(read_text(path, _MOST_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a configuration of StudioGAN ({error})") from error


def _flatten(node: Any) -> Iterator[tuple[str, Any]]:
    """Names and values at all depths, as their code joins them; lists are no sections."""
    waiting = [node]
    while waiting:
        inner = waiting.pop()
        for key, value in inner.items() if isinstance(inner, dict) else ():
            if isinstance(value, dict):
                waiting.append(value)
            else:
                yield key, value
