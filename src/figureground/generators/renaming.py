"""Names of released weights turned into ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor

from figureground.core.errors import CheckpointError

#: Pairs of a pattern, searched anywhere in a name, and what stands in its place; tried in order.
Table = tuple[tuple[str, str], ...]

#: Weights under PyTorch's first spectral norm, a hook, as under its parametrization.
HOOKED_NORM: Table = (
    (r"\.weight_orig$", ".parametrizations.weight.original"),
    (r"\.weight_(u|v)$", r".parametrizations.weight.0.\1"),
)


def rename(state: Mapping[str, Tensor], table: Table) -> dict[str, Tensor]:
    """Rename the keys of `state`, bring statistics (C,) to (1, C), and drop counts of batches."""
    renamed = {}
    for key, tensor in state.items():
        if key.endswith("num_batches_tracked"):
            continue
        for pattern, replacement in table:
            key = re.sub(pattern, replacement, key)
        is_statistic = key.endswith((".mean", ".variance")) and tensor.dim() == 1
        renamed[key] = tensor.unsqueeze(0) if is_statistic else tensor
    return renamed


def require_keys(state: Mapping[str, Tensor], keys: Iterable[str], what: str) -> None:
    """Check that `state` is what it should be by a few names.

    Args:
        state: State dict.
        keys: What it must have.
        what: What it is then, for the message.

    Raises:
        CheckpointError: One of `keys` is missing.
    """
    for key in keys:
        if key not in state:
            raise CheckpointError(f"it has no {key}, so it is not {what}")


def count_layers(state: Mapping[str, Tensor], pattern: str) -> int:
    """Number of different texts that the group in `pattern` stands for in the names of `state`."""
    return len({found[1] for key in state if (found := re.match(pattern, key))})


@contextmanager
def whole_network(family: str) -> Iterator[None]:
    """Say of weights that lack names or axes, where a table leads to errors, what they are not.

    Args:
        family: What they should be of, for the message.

    Raises:
        CheckpointError: Instead of what a missing name or an unforeseen shape raises.
    """
    try:
        yield
    except (LookupError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[-1].strip() if str(error) else type(error).__name__
        raise CheckpointError(f"its weights are not a whole {family} ({reason})") from error
