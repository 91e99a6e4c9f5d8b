"""Mixtures of discretised logistics over colours (PixelCNN++).

With the logistic function s, mean m, scale r and half bins h = 1 / 255, a value v in [-1, 1] has

    P(v) = s((v + h - m) / r) - s((v - h - m) / r),

and the first and the last bin have the tails. Means depend on the colours before:
m_green = a + c_0 red, m_blue = a' + c_1 red + c_2 green.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_LEVELS = 256  # Of 8-bit colours.
_SMALLEST_LOG_SCALE = -7.0
_RARE, _NEVER = 1e-5, 1e-12  # Below the first, bins are approximated; below the second, cut.
_LAST = 0.999  # Beyond this, and below its negative, values are in the last bins.


class _Logistics(NamedTuple):
    """Mixtures for each colour: logits (B, 1, K, H, W), the rest (B, 3, K, H, W)."""

    logits: Tensor
    upper: Tensor  # (x + h - m) / r.
    lower: Tensor  # (x - h - m) / r.
    middle: Tensor  # (x - m) / r.
    log_scale: Tensor


def mixture_log_likelihood(x: Tensor, parameters: Tensor, levels: int = _LEVELS) -> Tensor:
    """Logarithm of q of pictures under mixtures that all colours of a pixel share, (B,).

    Args:
        x: (B, 3, H, W).
        parameters: (B, 10 K, H, W): K logits, then for each colour K means, log-scales and
            dependences on other colours.
        levels: Of each colour.
    """
    mixture = _logistics(x, parameters, levels)
    share = mixture.upper.sigmoid() - mixture.lower.sigmoid()
    # Where a bin has next to nothing, its density in the middle times its width.
    density = mixture.middle - mixture.log_scale - 2 * F.softplus(mixture.middle)
    inside = torch.where(
        share > _RARE, share.clamp(min=_NEVER).log(), density - math.log((levels - 1) / 2)
    )
    value = x.unsqueeze(2)
    first, last = F.logsigmoid(mixture.upper), -F.softplus(mixture.lower)
    log_share = torch.where(value < -_LAST, first, torch.where(value > _LAST, last, inside))
    weight = mixture.logits.squeeze(1).log_softmax(dim=1)
    return (log_share.sum(dim=1) + weight).logsumexp(dim=1).sum(dim=(1, 2))


def color_log_likelihood(x: Tensor, parameters: Tensor, levels: int = _LEVELS) -> Tensor:
    """The same with the mixtures of a pixel's colours drawn apart, as released for the bound."""
    mixture, half, value = _logistics(x, parameters, levels), 1 / (levels - 1), x.unsqueeze(2)
    first, last = mixture.upper.sigmoid(), (-mixture.lower).sigmoid()
    inside = mixture.upper.sigmoid() - mixture.lower.sigmoid()
    share = torch.where(value <= half - 1, first, torch.where(value >= 1 - half, last, inside))
    total = (share * mixture.logits.softmax(dim=2)).sum(dim=2)
    return total.clamp(min=_NEVER).log().sum(dim=(1, 2, 3))


def _logistics(x: Tensor, parameters: Tensor, levels: int) -> _Logistics:
    count, side = parameters.shape[1] // 10, parameters.shape[2:]
    logits = parameters[:, None, :count]
    mean, log_scale, dependence = parameters[:, count:].reshape(-1, 3, 3, count, *side).unbind(2)
    dependence = dependence.tanh()
    red, green = x[:, 0:1], x[:, 1:2]
    mean = torch.stack(
        [
            mean[:, 0],
            mean[:, 1] + dependence[:, 0] * red,
            mean[:, 2] + dependence[:, 1] * red + dependence[:, 2] * green,
        ],
        dim=1,
    )
    log_scale = log_scale.clamp(min=_SMALLEST_LOG_SCALE)
    centred, inverse, half = x.unsqueeze(2) - mean, (-log_scale).exp(), 1 / (levels - 1)
    return _Logistics(
        logits,
        inverse * (centred + half),
        inverse * (centred - half),
        inverse * centred,
        log_scale,
    )
