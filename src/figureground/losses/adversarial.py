"""Adversarial objectives on discriminator scores (B,); larger scores mean "looks real"."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def hinge_real(score: Tensor) -> Tensor:
    """Hinge term of real pictures: mean of max(0, 1 - D(x)) (Lim & Ye 2017)."""
    return F.relu(1 - score).mean()


def hinge_fake(score: Tensor) -> Tensor:
    """Hinge term of made pictures: mean of max(0, 1 + D(x))."""
    return F.relu(1 + score).mean()


def hinge_generator(score: Tensor) -> Tensor:
    """What the generator of a hinge game minimises: minus the mean of D(x)."""
    return -score.mean()
