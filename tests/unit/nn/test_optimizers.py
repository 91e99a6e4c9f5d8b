"""Adam of players with penalties."""

from __future__ import annotations

import pytest
import torch

from figureground.nn.optimizers import LazyAdam


@pytest.mark.parametrize(("every", "share"), [(0, 1.0), (4, 4 / 5), (16, 16 / 17)])
def test_steps_are_slower_by_the_share_of_penalties(every: int, share: float) -> None:
    made = LazyAdam([torch.nn.Parameter(torch.zeros(1))], every=every)
    assert made.defaults["lr"] == pytest.approx(0.0025 * share)
    assert made.defaults["betas"] == pytest.approx((0.0, 0.99**share))
