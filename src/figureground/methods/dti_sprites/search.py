"""Choosing sprites by trying them (paper, section 3.3). Letters as in `networks`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from figureground.methods.dti_sprites.composition import score_all, search_greedily, split_choice


@dataclass(frozen=True)
class Search:
    """Search for the sprites of least error.

    Attributes:
        selection: `exhaustive` over all combinations, or `greedy` layer by layer.
        num_sweeps: Of the greedy search.
        empty_penalty: Added there to the error of what is not empty.
    """

    selection: str
    num_sweeps: int
    empty_penalty: float

    def __call__(
        self,
        image: Tensor,
        color: Tensor,
        mask: Tensor,
        grounds: Tensor | None,
        occlusion: Tensor,
        may_be_empty: bool,
    ) -> tuple[Tensor, Tensor, list[float]]:
        """Choose among candidates.

        Args:
            image: (B, 3, H, W).
            color: (L, B, K, 3, H, W).
            mask: (L, B, K, 1, H, W).
            grounds: (M, B, 3, H, W), or None.
            occlusion: (B or 1, L, L).
            may_be_empty: Whether the last candidate is the empty sprite.

        Returns:
            Sprites (B, L), backgrounds (B,), and what `search_greedily` says of its sweeps.
        """
        count = color.shape[2]
        if self.selection == "exhaustive":
            errors = score_all(image, color, mask, grounds, occlusion)
            ground, choice = split_choice(errors.argmin(dim=1), count, len(color))
            return choice, ground, []
        penalty = None
        if may_be_empty and self.empty_penalty:
            penalty = image.new_full((count,), self.empty_penalty)
            penalty[-1] = 0
        choice, changes = search_greedily(
            image, color, mask, None if grounds is None else grounds[0], occlusion,
            num_sweeps=self.num_sweeps, penalty=penalty,
        )  # fmt: skip
        return choice, torch.zeros_like(choice[:, 0]), changes
