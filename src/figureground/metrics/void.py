"""Void pixels, which no score counts, are deleted before anything is counted."""

from __future__ import annotations

from torch import Tensor

from figureground.core.types import VOID


def cut_void(mask: Tensor, *values: Tensor) -> list[list[Tensor]]:
    """Split a batch into parts without void pixels.

    Args:
        mask: Index masks (B, H, W).
        values: Of the same pixels, (B, ..., H, W) each.

    Returns:
        The values as they are if nothing is void. Else those of one picture after the other, with
        the N labelled pixels in one row, (1, ..., 1, N); pictures that are all void are left out.
    """
    void = mask == VOID
    if not bool(void.any()):  # The usual case costs no more than this look.
        return [list(values)]
    return [
        [value[number][..., kept].unsqueeze(-2)[None] for value in values]
        for number, kept in enumerate(~void)
        if bool(kept.any())
    ]
