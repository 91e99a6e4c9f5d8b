"""Terms of the objectives of L2IC, C3-GAN and ComGAN, each without its weight.

L2IC's release has the networks, the pictures of a step and the loss objects, but not the step; the
terms here are those that fit them, `weights.Weights` says with which evidence.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from figureground.nn.precision import widen

_EPSILON = 1e-6  # In logarithms of masks.
_SMALLEST = 1e-12  # In logarithms of mean probabilities.


def cosines(one: Tensor, other: Tensor) -> Tensor:
    """Cosines (N, M) of the rows of (N, E) and (M, E), in float32 at least.

    They are divided by small temperatures, so autocasting, which would multiply in half precision,
    is kept out.
    """
    with torch.autocast(one.device.type, enabled=False):
        return F.normalize(widen(one), dim=1) @ F.normalize(widen(other), dim=1).T


def similarities(info: Tensor, centroids: Tensor, temperature: float) -> Tensor:
    """s(u, E): cosines of embeddings and centroids over the temperature.

    Args:
        info: u, (B, E).
        centroids: E, (K, E).
        temperature: tau.

    Returns:
        (B, K), logits of categories.
    """
    return cosines(info, centroids) / temperature


def category_loss(info: Tensor, centroids: Tensor, category: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of s(u, E) with the categories (B,) that pictures were drawn from."""
    return F.cross_entropy(similarities(info, centroids, temperature), category)


def pair_contrast(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """NT-Xent: each of 2N vectors is to find its partner among the 2N - 1 others.

    Args:
        one: (N, E), first of each pair.
        other: (N, E), second.
        temperature: Of the cosines.

    Returns:
        Mean cross-entropy over all 2N.
    """
    both = torch.cat([one, other])
    logits = cosines(both, both) / temperature
    itself = torch.eye(len(both), dtype=torch.bool, device=both.device)
    partner = torch.arange(len(both), device=both.device).roll(len(one))
    return F.cross_entropy(logits.masked_fill(itself, -torch.inf), partner)


def cluster_contrast(one: Tensor, other: Tensor) -> Tensor:
    """Contrastive clustering (Li et al. 2021): clusters hold the same pictures in both views.

    The columns of the two tables are 2K vectors, compared as by `pair_contrast` at temperature 1,
    plus for both views the negative entropy of the mean assignment, which keeps all in use.

    Args:
        one: Probabilities of clusters for N pictures, (N, K).
        other: The same for other views of them.

    Returns:
        Scalar.
    """
    return pair_contrast(one.T, other.T, 1.0) - mean_entropy(one) - mean_entropy(other)


def mean_entropy(probabilities: Tensor) -> Tensor:
    """Entropy of the mean of `probabilities` (N, K), in nats."""
    mean = probabilities.mean(dim=0)
    return -(mean * mean.clamp(min=_SMALLEST).log()).sum()


def assignment_entropies(
    info: Tensor, centroids: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """What C3-GAN does to clusters of real pictures: clear ones each, all in use together.

    Args:
        info: (B, E).
        centroids: (K, E).
        temperature: See `similarities`.

    Returns:
        Mean entropy of p = softmax(s(u, E)), to become small, and minus the entropy of the mean of
        p; both in nats.
    """
    logits = similarities(info, centroids, temperature)
    p = logits.softmax(dim=1)
    each = -(p * logits.log_softmax(dim=1)).sum(dim=1).mean()
    return each, -mean_entropy(p)


def mask_entropy(mask: Tensor) -> Tensor:
    """Mean of -m log2 m - (1 - m) log2 (1 - m) over pixels, in bits; against grey masks.

    Args:
        mask: (B, 1, S, S), in [0, 1].
    """
    rest = 1 - mask
    return -(mask * (mask + _EPSILON).log2() + rest * (rest + _EPSILON).log2()).mean()


def area_hinge(mask: Tensor, low: float, high: float) -> Tensor:
    """Mean of max(0, low - a) + max(0, a - high), a the area of each mask (B, 1, S, S)."""
    area = mask.flatten(1).mean(dim=1)
    return (F.relu(low - area) + F.relu(area - high)).mean()
