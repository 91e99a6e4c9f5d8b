"""What pictures are drawn from: z for pose and layout, c for the category, b for the background.

Categories are drawn in three ways: `uniform` with repetitions (L2IC's training), `distinct` within
a batch (C3-GAN's training, and the pictures that FID is computed of), and `balanced`, each equally
often (those of the Inception score).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from figureground.core.types import TensorRecord

Drawing = Literal["uniform", "distinct", "balanced"]
#: Whether b is the one that belongs to c, as published, or says nothing about it.
BackgroundDrawing = Literal["tied", "independent"]
#: Whether a background is drawn from the z of what stands before it, as published, or of another.
BackgroundLatent = Literal["shared", "exchanged"]


@dataclass(slots=True)
class Codes(TensorRecord):
    """Codes of B pictures.

    Attributes:
        latent: z, (B, D).
        category: Index of the one-hot code c, (B,) int64, below K.
        background: Index of the one-hot code b, (B,) int64.
        variation: C3-GAN's noise within a category, (B, V); empty elsewhere.
    """

    latent: Tensor
    category: Tensor
    background: Tensor
    variation: Tensor


def draw_categories(
    count: int, num_categories: int, how: Drawing, generator: torch.Generator | None = None
) -> Tensor:
    """Draw `count` categories, (count,) int64 on the CPU.

    Where `distinct` is asked for more than there are, the rest is drawn uniformly. The released
    code leaves such rows without any category, which its generator has never been trained on.

    Args:
        count: Pictures.
        num_categories: K.
        how: See the module; `balanced` draws rounds of all, of which the last may be incomplete.
        generator: Source of random numbers; None for the global one.
    """
    if how == "balanced":
        num_rounds = max(1, -(-count // num_categories))
        rounds = [torch.randperm(num_categories, generator=generator) for _ in range(num_rounds)]
        return torch.cat(rounds)[:count]
    if how == "uniform":
        return torch.randint(num_categories, (count,), generator=generator)
    first = torch.randperm(num_categories, generator=generator)[:count]
    rest = torch.randint(num_categories, (count - len(first),), generator=generator)
    return torch.cat([first, rest])


def parent_of(category: Tensor, num_categories: int, num_backgrounds: int) -> Tensor:
    """Background that belongs to a category: floor(c / (K / K_b)), the category itself if equal."""
    return (category * num_backgrounds).div(num_categories, rounding_mode="floor")
