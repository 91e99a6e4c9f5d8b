"""Gradients without holes: how the released code meets overflow in half precision."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

_LARGE = 1e5


class GradientCleaner:
    """Replace what is not finite in gradients as they are computed: NaN by 0, infinity by 1e5.

    Without it `Method.descend` skips a step with any such entry.

    Args:
        parameters: Those to watch.

    Attributes:
        count: Entries replaced since it was last set to zero.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.count = torch.zeros(())
        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(self)  # type: ignore[no-untyped-call]  # torch's

    def __call__(self, parameter: Tensor) -> None:
        """Mend the gradient of `parameter`."""
        if parameter.grad is not None:
            self.count = self.count.to(parameter.device) + (~parameter.grad.isfinite()).sum()
            torch.nan_to_num_(parameter.grad, nan=0.0, posinf=_LARGE, neginf=-_LARGE)
