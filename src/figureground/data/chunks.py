"""Pictures by number: picture i depends on (seed, i) alone, and yet many are drawn at once.

A network's results differ in the last bits with the size of the batch, and random numbers with the
order they are drawn in. So pictures are always drawn in chunks of one size, whatever is asked for:
chunk n holds pictures n C to (n + 1) C - 1, and a seed of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from figureground.core.errors import NumericalError
from figureground.core.seeds import mix_seed
from figureground.core.types import Layers

#: Pictures in a chunk, C. Another number means other pictures: whoever stores some notes it.
CHUNK = 16

#: Makes C pictures by a generator alone.
Draw = Callable[[torch.Generator], Layers]


def chunk_seed(seed: int, index: int) -> int:
    """Seed of the chunk that picture `index` is drawn in."""
    return mix_seed(seed, index // CHUNK)


def draw_chunk(draw: Draw, seed: int, number: int) -> Layers:
    """Draw the C pictures of chunk `number`.

    Args:
        draw: Makes them.
        seed: Of all pictures.
        number: From 0 on.

    Raises:
        ValueError: `draw` has made another number of them.
        NumericalError: A colour is not finite.
    """
    layers = draw(torch.Generator().manual_seed(chunk_seed(seed, number * CHUNK)))
    if len(layers) != CHUNK:
        raise ValueError(f"expected {CHUNK} pictures at once, got {len(layers)}")
    require_finite(layers.composite, f"pictures {number * CHUNK} to {(number + 1) * CHUNK - 1}")
    return layers


def require_finite(picture: Tensor, name: str) -> None:
    """Raise `NumericalError` if `picture`, of any shape, has colours that are not finite.

    As bytes they would be any colour, and nobody would see why.
    """
    if not bool(picture.isfinite().all()):
        raise NumericalError(
            f"{name} have colours that are not finite; half precision can be too coarse: use "
            "precision=bf16-mixed or 32-true, or an earlier checkpoint"
        )
