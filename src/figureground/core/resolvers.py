"""Functions that configuration files may call, as in `${up_to:${data.resolution},{256:16,512:8}}`.

A file says what is published in the terms it was published in; what that means for the pictures and
batches at hand is worked out when the options are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf


def register_resolvers() -> None:
    """Make the functions of this module known to OmegaConf, as often as one likes."""
    for function in (up_to, batches, scaled):
        OmegaConf.register_new_resolver(function.__name__, function, replace=True)


def up_to(number: float, values: Mapping[float, Any]) -> Any:
    """The value that holds for `number`.

    Args:
        number: Such as a resolution.
        values: From limit to the value that holds up to it, and above the next smaller limit.

    Raises:
        ValueError: `number` is above all limits.
    """
    limits = [limit for limit in values if number <= limit]
    if not limits:
        raise ValueError(f"there is no value for {number}; the largest limit is {max(values)}")
    return values[min(limits)]


def batches(kimg: float, batch_size: int) -> int:
    """How many batches of `batch_size` hold `kimg` thousand pictures; at least one.

    Raises:
        ValueError: The size is no whole number above 0.
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"expected a whole number of pictures in a batch, got {batch_size}")
    return max(1, round(1000 * kimg / batch_size))


def scaled(length: float, published: int, resolution: int) -> float:
    """A length in pixels, given for images of side `published`, for images of side `resolution`.

    So that `${scaled:20.0,128,${data.resolution}}` is 10.0 at 64 pixels; whole numbers stay whole.
    """
    if isinstance(length, int):
        return max(1, round(length * resolution / published))
    return length * resolution / published
