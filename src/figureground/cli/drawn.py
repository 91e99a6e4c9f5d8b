"""Batches of drawn pictures to score."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch

from figureground.core.errors import NumericalError
from figureground.core.protocols import NoisyGenerator
from figureground.core.seeds import mix_seed
from figureground.core.types import Layers

DRAWN, HELD_OUT, WALKED = range(3)  # What random numbers are for.

Check = Callable[[], object]
NoiseMode = Literal["random", "const", "none"]
Categories = Literal["random", "equal"]


@torch.no_grad()
def draw_batches(
    method: Any,
    count: int,
    batch_size: int,
    seed: int,
    check: Check,
    noise: NoiseMode = "const",
    categories: Categories = "random",
) -> Iterator[Layers]:
    """Draw `count` layered pictures; each batch depends on (seed, its number) alone.

    Args:
        method: A `LayerGenerator`.
        count: Pictures.
        batch_size: Pictures drawn together.
        seed: Of all.
        check: Called before each batch, to stop by raising.
        noise: Per pixel, where the method has any.
        categories: `equal` draws as many pictures of each, of a method that has some.

    Raises:
        NumericalError: A picture holds non-finite numbers.
    """
    for number, start in enumerate(range(0, count, batch_size)):
        check()
        size = min(batch_size, count - start)
        generator = torch.Generator().manual_seed(mix_seed(seed, number))
        if categories == "equal":
            category = torch.arange(start, start + size) % method.num_categories
            layers = method.sample_of(category, generator=generator)
        elif isinstance(method, NoisyGenerator):
            layers = method.sample_with(size, noise=noise, generator=generator)
        else:
            layers = method.sample(size, generator=generator)
        if not bool(layers.composite.isfinite().all()):
            raise NumericalError(
                f"batch {number} of the drawn pictures holds non-finite numbers; score an earlier "
                "checkpoint"
            )
        yield layers
