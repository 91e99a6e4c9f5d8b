"""True masks as grey pictures."""

from __future__ import annotations

from torch import Tensor

from figureground.core.types import VOID

_GREY = 0.5


def gray_truth(mask: Tensor, num_regions: int = 2) -> Tensor:
    """Spread the regions of index masks over black to white; void pixels are grey.

    Args:
        mask: (B, H, W) int64.
        num_regions: Regions from here on are as white as the last.

    Returns:
        (B, 1, H, W) float32, in [0, 1].
    """
    highest = num_regions - 1
    shades = mask.clamp(max=highest).float() / highest
    return shades.masked_fill(mask == VOID, _GREY).unsqueeze(1)
