"""Paths between latents of normal distribution."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def slerp(one: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """Between latents (B, D) along the great circle, scaled alike; `share` (B, 1) in [0, 1]."""
    cosine = F.cosine_similarity(one, other, dim=1, eps=1e-8).unsqueeze(1).clamp(-1, 1)
    angle = cosine.acos().clamp(min=1e-4)
    return (torch.sin((1 - share) * angle) * one + torch.sin(share * angle) * other) / angle.sin()


def walk_through(latent: Tensor, num_points: int) -> Tensor:
    """Points of a closed path from each latent to the next and back to the first.

    Args:
        latent: (N, D).
        num_points: P points, evenly over the N parts of the path; the first is `latent[0]`, and one
            further would be it again.

    Returns:
        (P, D).
    """
    place = torch.arange(num_points, device=latent.device) * len(latent) / num_points
    first = place.long()
    share = (place - first).unsqueeze(1).to(latent)
    return slerp(latent[first], latent[(first + 1) % len(latent)], share)
