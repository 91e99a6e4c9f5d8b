"""Gradients without holes: how the released code meets overflow in half precision."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

_LARGE = 1e5


class GradientCleaner:
    """Replace what is not finite in gradients: NaN by 0, infinity by 1e5.

    Without it `Method.descend` skips a step with any such entry.

    Attributes:
        count: Entries replaced since it was last set to zero.
    """

    def __init__(self) -> None:
        self.count = torch.zeros(())

    def __call__(self, gradients: Iterable[Tensor]) -> None:
        """Mend `gradients` of any shapes in place."""
        for gradient in gradients:
            self.count = self.count.to(gradient.device) + (~gradient.isfinite()).sum()
            torch.nan_to_num_(gradient, nan=0.0, posinf=_LARGE, neginf=-_LARGE)
