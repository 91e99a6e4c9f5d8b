"""What gan-segmenter shows: pictures along the directions, and the masks these make."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from figureground.methods.gan_segmenter.module import GANSegmenter

_LENGTHS = (0.0, 2.0, 4.0, 8.0)  # Of the steps shown along each direction.


def direction_grids(method: GANSegmenter, count: int) -> dict[str, Tensor]:
    """Draw grids of the same `count` latents each time, a row for each.

    Args:
        method: In evaluation mode.
        count: N rows.

    Returns:
        `directions` (N * columns, 3, R, R): picture, one shifted along each direction, mask;
        `shifts_light` and `shifts_dark` (N * 4, 3, R, R): steps of 0, 2, 4 and 8 along each. All
        in [-1, 1].
    """
    chance = torch.Generator().manual_seed(0)
    drawn = method.draw_candidates(count, generator=chance)
    mask = (2.0 * drawn.mask[:, None].to(drawn.image) - 1).expand(-1, 3, -1, -1)
    grids = {"directions": _as_rows([drawn.image, *drawn.shifted.values(), mask])}
    chance = torch.Generator().manual_seed(0)
    latent = method.latents.draw(method.generator, count, generator=chance)
    for side in method.directions.sides:
        unit = method.directions.best(side, generator=chance)
        columns = method.paint_along(latent, [length * unit for length in _LENGTHS])
        grids[f"shifts_{side}"] = _as_rows(columns)
    return grids


def titles(method: GANSegmenter) -> dict[str, tuple[str, ...]]:
    """Of the columns of these grids."""
    sides = method.directions.sides
    shifts = tuple(f"{length:g}" for length in _LENGTHS)
    found = {"directions": ("picture", *sides, "mask")}
    return found | {f"shifts_{side}": shifts for side in sides}


def _as_rows(columns: Iterable[Tensor]) -> Tensor:
    """Columns of (N, 3, R, R) each as one grid, row by row."""
    return torch.stack(list(columns), dim=1).flatten(0, 1)
