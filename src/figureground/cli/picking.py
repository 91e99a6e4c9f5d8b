"""`generate top=...`: of all pictures drawn, those that look most real to the method's critic."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from figureground.core.errors import NumericalError, UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from figureground.data.chunks import Draw

logger = logging.getLogger(__name__)


def require_critic(method: Any, ckpt: str) -> None:
    """Raise `UserError` unless `method`, loaded from `ckpt`, can tell how real pictures look."""
    from figureground.core.protocols import Critic

    name, missing = type(method).__name__, method.origin.get("missing", ())
    if not isinstance(method, Critic):
        raise UserError(
            f"{name} has no critic that could say which pictures look most real; leave out top=..."
        )
    if "discriminator" in missing:
        raise UserError(
            f"{ckpt} was converted from a file without the discriminator, so nothing says which "
            "pictures look most real; leave out top=..."
        )


def find_best(
    method: Any, draw: Draw, *, seed: int, count: int, top: int, check: Callable[[], object]
) -> list[tuple[int, float]]:
    """Find the best of many pictures without keeping any of them.

    Args:
        method: Has a critic.
        draw: Makes a chunk of pictures, see `data.chunks`.
        seed: Of all pictures.
        count: Pictures that are looked at, 0 to `count` - 1.
        top: How many are wanted.
        check: Called before each chunk, to stop by raising.

    Returns:
        Numbers and scores, the best first; of equal ones the first drawn.

    Raises:
        NumericalError: A score is not finite.
    """
    import torch

    from figureground.data.chunks import CHUNK, draw_chunk

    scores: list[float] = []
    for number in range(-(-count // CHUNK)):
        check()
        # Chunks are scored whole: a critic may compare the pictures that it is shown together.
        layers = draw_chunk(draw, seed, number)
        with torch.inference_mode():
            scores += method.score(layers.composite).float().tolist()
        if not all(map(torch.isfinite, torch.tensor(scores[-CHUNK:]))):
            raise NumericalError(
                f"pictures {number * CHUNK} to {(number + 1) * CHUNK - 1} have a score that is not "
                "finite; use an earlier checkpoint, or leave out top=..."
            )
    order = sorted(range(count), key=lambda number: (-scores[number], number))[:top]
    logger.info("scored %d pictures; the best: %.4g, the last of the %d best: %.4g",
                count, scores[order[0]], top, scores[order[-1]])  # fmt: skip
    return [(number, scores[number]) for number in order]
