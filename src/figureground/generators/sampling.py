"""Draws of latents and classes; equal `torch.Generator`s give equal draws on every device."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def draw_normal(
    count: int,
    size: int,
    *,
    bound: float = math.inf,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw (count, size) from the standard normal distribution between -bound and bound.

    One uniform number makes each value, by the inverse of the distribution function, so that equal
    seeds give neighbouring values under different bounds.

    Args:
        count: Rows.
        size: Values in each.
        bound: 2 in the published code of BigGAN; infinite for no bound.
        generator: Source of the draws (on any device); None for the global generator.

    Raises:
        ValueError: `count` is negative.
    """
    if count < 0:
        raise ValueError(f"count={count}: expected 0 or more")
    device = None if generator is None else generator.device
    uniform = torch.rand((count, size), generator=generator, device=device, dtype=torch.float64)
    return normal_from_uniform(uniform, bound).float()


def normal_from_uniform(uniform: Tensor, bound: float = math.inf) -> Tensor:
    """Turn uniform numbers in [0, 1) into normal ones between -bound and bound, same shape."""
    low = 0.5 * math.erfc(bound / math.sqrt(2))  # Share below -bound.
    # The ends of [0, 1] would become infinite.
    share = (low + uniform * (1 - 2 * low)).clamp(2.0**-54, 1 - 2.0**-53)
    normal: Tensor = torch.special.ndtri(share)
    return normal.clamp(-bound, bound)


def draw_classes(
    count: int, num_classes: int, *, generator: torch.Generator | None = None
) -> Tensor:
    """Draw (count,) int64 classes, all equally likely."""
    device = None if generator is None else generator.device
    return torch.randint(num_classes, (count,), generator=generator, device=device)
