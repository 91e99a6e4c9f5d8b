"""Optimisers of adversarial training with penalties that take steps of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import nn
from torch.optim import Optimizer

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]


def lazy_adam(every: int, lr: float = 0.0025, beta: float = 0.99) -> OptimizerFactory:
    """Adam of StyleGAN2 for a player who takes a further step, down a penalty, now and then.

    Of n + 1 steps n are down the loss, so with c = n / (n + 1) the learning rate is c lr and the
    memory beta^c (Karras et al. 2020, appendix B).

    Args:
        every: n, iterations between two penalties; 0 for none.
        lr: Learning rate without them.
        beta: Memory of squared gradients without them.
    """
    share = every / (every + 1) if every else 1.0
    return partial(torch.optim.Adam, lr=share * lr, betas=(0.0, beta**share))
